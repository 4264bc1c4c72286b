"""nrjax: photo-induced non-reciprocal magnetism, differentiable and batched.

Light in, rotation out, gradients back: a `Laser` on `LocalMoment`s gives a `LayeredMagnet` its couplings; `simulate`
it, ask for its `steady_state`, `sweep` over its parameters.
"""

import lazy_loader as _lazy

# The public names stand in __init__.pyi, and each is loaded when it is asked for: `nrjax --help` needs none of them.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
# `plot` needs Matplotlib, which is optional.
__all__ = [name for name in __all__ if name != "plot"]  # pyright: ignore[reportUnsupportedDunderAll]
