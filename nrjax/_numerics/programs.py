"""Compiled programs that several threads share, spread over the devices that there are."""

import functools
import threading
from collections.abc import Callable, Collection
from typing import Any, Final

import jax
import numpy as np
from jax.sharding import PartitionSpec

from .devices import chosen_device
from .ready_programs import Options, Programs

# Lanes of which each device takes a multiple: less than a vector of the processor would be rounded differently.
WHOLE: Final = 16


def made_once(make: Callable[..., Any], kept: int = 32) -> Callable[..., Any]:
    """`make`, whose last results are kept by its arguments: threads that ask at once get one and the same."""
    cached, lock = functools.lru_cache(maxsize=kept)(make), threading.Lock()

    @functools.wraps(make)
    def get(*arguments: Any) -> Any:
        with lock:
            return cached(*arguments)

    return get


class SharedProgram:
    """A jitted function of many lanes: where several threads call it at once, one compiles and the others wait.

    It computes outside of the lock, and outside of Python's. With several devices, and none chosen, each takes an equal
    part of the lanes; no lane knows of another, so that nothing is exchanged, and the number of devices changes no
    result.

    **Arguments** `function`: of arrays with a leading axis of lanes, to such arrays. `shared`: the positions of
    arguments that are one for all lanes. `static_argnums`: of those that are no arrays. `spread`: False keeps it on one
    device, for functions that call what cannot be cut into parts. `brief`, `options`: as in `kept`; they count where
    programs are kept.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        shared: Collection[int] = (),
        static_argnums: Collection[int] = (),
        spread: bool = True,
        brief: int = 0,
        options: Options = dict,
    ):
        self._plain, self._shared, self._static = function, frozenset(shared), tuple(static_argnums)
        self._spreads = spread
        self._on: dict[int, Any] = {1: jax.jit(function, static_argnums=self._static)}
        self._lock = threading.Lock()
        self._begun: set[Any] = set()
        self._kept = Programs(function, brief, options)

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            ready = self._kept.find(arguments)
            return self._for(self._devices(arguments))(*arguments) if ready is None else ready(arguments)

    def programs(self) -> int:
        """How many programs have been compiled."""
        return sum(program._cache_size() for program in self._on.values())

    def compile_ahead(self, *arguments: Any, if_brief: bool = False) -> None:
        """Start compiling in the background for these arrays, or shapes of arrays; what needs it then waits for that.

        Only where one device is all there is, and the first time for these shapes; `if_brief`: where it is soon done.
        """
        if if_brief and not self._kept.is_brief(arguments):
            return
        leaves, structure = jax.tree.flatten(arguments)
        key = (structure, *((x.shape, x.dtype) if hasattr(x, "dtype") else x for x in leaves))
        if key in self._begun or len(jax.local_devices()) > 1 or chosen_device() is not None:
            return
        self._begun.add(key)
        begun = threading.Event()

        def compile_it() -> None:
            with self._lock:
                ready = self._kept.find(arguments, begun=begun.set)
                begun.set()
                if ready is None:
                    self._on[1].lower(*arguments).compile()

        # Waited for at the end of the process: a thread cut off in the compiler can take it along.
        threading.Thread(target=compile_it).start()
        begun.wait()

    def _devices(self, arguments: tuple[Any, ...]) -> int:
        """How many devices share the lanes: as many as divide them evenly into whole vectors."""
        present = len(jax.local_devices()) if self._spreads and chosen_device() is None else 1
        lanes = [x for i, x in enumerate(arguments) if i not in self._shared and i not in self._static]
        size = jax.tree.leaves(lanes)[0].shape[0]
        return next((count for count in range(present, 1, -1) if size % (count * WHOLE) == 0), 1)

    def _for(self, devices: int) -> Any:
        if devices not in self._on:
            self._on[devices] = jax.jit(functools.partial(self._spread, devices), static_argnums=self._static)
        return self._on[devices]

    def _spread(self, devices: int, *arguments: Any) -> Any:
        """The function, an equal part of the lanes on each of the devices."""
        arrays = [i for i in range(len(arguments)) if i not in self._static]

        def part(*some: Any) -> Any:
            merged = list(arguments)
            for i, x in zip(arrays, some, strict=True):
                merged[i] = x
            return self._plain(*merged)

        lanes, whole = PartitionSpec("lanes"), PartitionSpec()
        return jax.shard_map(
            part,
            mesh=jax.sharding.Mesh(np.asarray(jax.local_devices()[:devices]), ("lanes",)),
            in_specs=tuple(whole if i in self._shared else lanes for i in arrays),
            out_specs=lanes,
            check_vma=False,
        )(*(arguments[i] for i in arrays))
