"""The state that a magnet settles in: solved for, with its stability, its branches and the lines between phases."""

from .attractors import (
    continued as continued,
    default_start as default_start,
    steady_state as steady_state,
    steady_states as steady_states,
)
from .basins import basin_fractions as basin_fractions
from .bilayer_branches import branches as branches
from .boundaries import Boundary as Boundary, boundary as boundary, indicator as indicator, tilt_modes as tilt_modes
from .corotating_solver import CorotatingSolver as CorotatingSolver
from .observables import OBSERVABLES as OBSERVABLES, AbstractObservable as AbstractObservable
from .phase_noise import Linewidth as Linewidth, RotationLinewidth as RotationLinewidth, linewidth as linewidth
from .rigid_states import RESULTS as RESULTS, SteadyState as SteadyState
from .shape_solver import ShapeSolver as ShapeSolver
from .solvers import AbstractSteadyStateSolver as AbstractSteadyStateSolver
from .spectral_lines import spectrum as spectrum
from .stability_in_space import (
    SpatialGrowth as SpatialGrowth,
    SpatialStability as SpatialStability,
    spatial_stability as spatial_stability,
)
from .survival import largest_sample as largest_sample, survival_edges as survival_edges
from .turns_before_melting import Turns as Turns, ordering_temperature as ordering_temperature, turns as turns
from .warm_states import WarmState as WarmState
