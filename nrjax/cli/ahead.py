"""What a command will need soon is imported, compiled or loaded while something else computes."""

import importlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, Final

from .._numerics.ready_programs import tracing

# In small pieces, so that whoever traces a program does not wait for long.
DRAWING: Final = (
    "matplotlib",
    "matplotlib.cm",
    "matplotlib.patches",
    "matplotlib.font_manager",
    "matplotlib.dviread",
    "matplotlib.text",
    "matplotlib.axes",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "h5netcdf",
)
# Seconds in which another thread wakes up.
TURN: Final = 1e-3
# There only for clusters; xarray imports them where they are, with its first Dataset.
OF_XARRAY: Final = ("dask.array", "distributed")

Task = Callable[[], Any]


class DoneAhead:
    """Tasks that a thread does one after the other, from `with` on; those that are not begun when it ends are left out.

    What goes wrong in one is forgotten: it goes wrong again where its result is needed, and is told there.
    """

    def __init__(self, tasks: Iterable[Task]):
        self._tasks, self._over = tasks, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        # A thread that the end of the process cuts off can take the process with it.
        self.wait()

    def wait(self) -> None:
        """Until all is done: what a thread compiles, another should not."""
        self._thread.join()

    def _run(self) -> None:
        with suppress(Exception):
            for task in self._tasks:
                if self._over.is_set():
                    return
                with suppress(Exception):
                    task()


class ImportedAhead(DoneAhead):
    """`nrjax.plot`, whose libraries are imported until it is asked for; `tasks` come after them.

    **Raises** `ImportError` at once where Matplotlib is not there.
    """

    def __init__(self, tasks: Iterable[Task] = ()):
        self._plot = importlib.import_module("nrjax.plot")
        super().__init__(chain(importing(DRAWING + OF_XARRAY), tasks))

    @property
    def plot(self) -> Any:
        """The module, when all is done."""
        self.wait()
        return self._plot


def importing(names: tuple[str, ...]) -> Iterator[Task]:
    """Imports of what is there of these libraries."""
    return (partial(_import, name) for name in names)


def _import(name: str) -> None:
    # Whoever waits to trace takes its turn.
    time.sleep(TURN)
    try:
        # Python, as tracing is: while another thread traces it would only hold that up.
        with tracing:
            importlib.import_module(name)
    except ImportError:
        # Whoever needs it says so.
        return
