"""Pictures: phase diagrams, frequency curves, trajectories, samples. Needs the `plot` extra (matplotlib)."""

from importlib.util import find_spec as _find_spec

import lazy_loader as _lazy

if _find_spec("matplotlib") is None:  # pragma: no cover
    raise ImportError("nrjax.plot needs matplotlib. Install it with: pip install 'nrjax[plot]'")

# Each picture is loaded when it is asked for, and Matplotlib with the first.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
