"""The state that a magnet settles in: solved for, with its stability, its branches and the lines between phases."""

from .attractors import (
    RESULTS as RESULTS,
    SteadyState as SteadyState,
    continued as continued,
    default_start as default_start,
    steady_state as steady_state,
    steady_states as steady_states,
)
from .bilayer_branches import branches as branches
from .boundaries import Boundary as Boundary, boundary as boundary, indicator as indicator, tilt_modes as tilt_modes
