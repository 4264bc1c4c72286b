"""Compiled programs that several threads share."""

import threading
from collections.abc import Callable
from typing import Any

import jax


class SharedProgram:
    """A jitted function: where several threads call it at once, one compiles and the others wait for that.

    It computes outside of the lock, and outside of Python's.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self._function: Any = jax.jit(function, **options)
        self._lock = threading.Lock()
        self._begun: set[Any] = set()

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            return self._function(*arguments)

    def shapes(self, *arguments: Any) -> Any:
        """What it returns, as `jax.ShapeDtypeStruct`s, without compiling."""
        with self._lock:
            return self._function.eval_shape(*arguments)

    def programs(self) -> int:
        """How many programs have been compiled."""
        return self._function._cache_size()

    def compile_ahead(self, *arguments: Any) -> None:
        """Start compiling in the background for these arrays, or shapes of arrays; what needs it then waits for that.

        Only where one device is all there is, and the first time for these shapes.
        """
        leaves, structure = jax.tree.flatten(arguments)
        key = (structure, *((x.shape, x.dtype) if hasattr(x, "dtype") else x for x in leaves))
        if key in self._begun or len(jax.local_devices()) > 1:
            return
        self._begun.add(key)
        begun = threading.Event()

        def compile_it() -> None:
            with self._lock:
                begun.set()
                self._function.lower(*arguments).compile()

        threading.Thread(target=compile_it, daemon=True).start()
        begun.wait()
