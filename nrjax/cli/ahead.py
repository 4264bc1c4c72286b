"""What draws and writes is imported while programs compute."""

import importlib
import threading
from typing import Any, Final

# In their order; of these the last two are there only for clusters, and xarray imports them where they are.
LIBRARIES: Final = ("matplotlib.figure", "matplotlib.backends.backend_agg", "h5netcdf", "dask.array", "distributed")


class ImportedAhead:
    """`nrjax.plot`, whose libraries are imported in the background from now on until it is asked for.

    **Raises** `ImportError` at once where Matplotlib is not there.
    """

    def __init__(self) -> None:
        self._plot = importlib.import_module("nrjax.plot")
        # Waited for when the command ends early: a thread cut off while it imports can take the process with it.
        self._thread = threading.Thread(target=_import_libraries)
        self._thread.start()

    @property
    def plot(self) -> Any:
        """The module. Waits for the libraries: two threads should not import the same ones."""
        self._thread.join()
        return self._plot


def _import_libraries() -> None:
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            # Whoever needs it says so.
            continue
