"""Magnets in time: integration, the frequencies and the phase that a trajectory shows."""

from .frequencies import (
    InstantaneousFrequency as InstantaneousFrequency,
    instantaneous_frequency as instantaneous_frequency,
)
from .integration import simulate as simulate
from .phases import Phase as Phase, TrajectoryPhase as TrajectoryPhase, classify_trajectory as classify_trajectory
from .solution import Solution as Solution, TemperatureCourse as TemperatureCourse
from .spin_dynamics import SpinSolution as SpinSolution, simulate_spins as simulate_spins
from .spin_observables import (
    defect_density as defect_density,
    local_chirality as local_chirality,
    structure_factor as structure_factor,
)
from .trajectory_batches import simulate_many as simulate_many
