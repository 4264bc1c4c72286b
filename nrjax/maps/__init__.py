"""Many magnets: sweeps over grids of parameters, stores of their results, and which parameter matters."""

from .scattered_points import (
    sobol_indices as sobol_indices,
    spread_points as spread_points,
    sweep_points as sweep_points,
)
from .sensitivities import sensitivity as sensitivity
from .store import save_dataset as save_dataset
from .sweeps import sweep as sweep
