"""The photo-dissipative Lindbladian: Anderson impurities under light, and their projection on local spins."""

from .correlated_insulators import HubbardModel as HubbardModel, HundModel as HundModel
from .elimination import EffectiveLindbladian as EffectiveLindbladian, project as project, schur as schur
from .models import (
    AbstractLindbladModel as AbstractLindbladModel,
    AndersonModel as AndersonModel,
    SpinFermionModel as SpinFermionModel,
)
from .observables import NAMED as NAMED
from .projection import ProjectionError as ProjectionError, projection_error as projection_error
from .reservoir import Reservoir as Reservoir
from .states import conduction_state as conduction_state, product_state as product_state
from .stationary import StationaryState as StationaryState, steady_state as steady_state
from .time_evolution import LindbladSolution as LindbladSolution, evolve as evolve
from .trajectories import TrajectoryAverage as TrajectoryAverage, quantum_trajectories as quantum_trajectories
