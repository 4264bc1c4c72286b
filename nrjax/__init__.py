"""nrjax: photo-induced non-reciprocal magnetism, differentiable and batched.

Light in, rotation out, gradients back: build a `LayeredMagnet`, `simulate` it, ask for its `steady_state`, `sweep`
over its parameters.
"""

from importlib.metadata import version as _version

from . import presets as presets, units as units
from .bilayer_branches import branches as branches
from .boundaries import Boundary as Boundary, boundary as boundary, indicator as indicator, tilt_modes as tilt_modes
from .equilibria import (
    RESULTS as RESULTS,
    SteadyState as SteadyState,
    default_start as default_start,
    steady_state as steady_state,
)
from .magnets import (
    AbstractBath as AbstractBath,
    ClassicalBath as ClassicalBath,
    LayeredMagnet as LayeredMagnet,
    QuantumBath as QuantumBath,
    ShapeDynamics as ShapeDynamics,
    UniaxialAnisotropy as UniaxialAnisotropy,
)
from .phases import Phase as Phase, TrajectoryPhase as TrajectoryPhase, classify_trajectory as classify_trajectory
from .presets import hanai2025_bilayer as hanai2025_bilayer
from .solve import Solution as Solution, simulate as simulate, simulate_many as simulate_many
from .sweeps import save_dataset as save_dataset, sweep as sweep

__version__ = _version("nrjax")
