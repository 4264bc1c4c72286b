"""Many magnets: sweeps over grids of parameters, stores of their results, and which parameter matters."""

from .sensitivities import sensitivity as sensitivity
from .store import save_dataset as save_dataset
from .sweeps import sweep as sweep
