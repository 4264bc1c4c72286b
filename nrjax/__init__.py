"""nrjax: photo-induced non-reciprocal magnetism, differentiable and batched.

Light in, rotation out, gradients back: a `Laser` on `LocalMoment`s gives a `LayeredMagnet` its couplings; `simulate`
it, ask for its `steady_state`, `sweep` over its parameters.
"""

from importlib.metadata import version as _version

from . import lindblad as lindblad, presets as presets, units as units
from .bilayer_branches import branches as branches
from .boundaries import Boundary as Boundary, boundary as boundary, indicator as indicator, tilt_modes as tilt_modes
from .envelopes import (
    AbstractEnvelope as AbstractEnvelope,
    Chirped as Chirped,
    Constant as Constant,
    Gaussian as Gaussian,
    Spline as Spline,
    Square as Square,
    Tabulated as Tabulated,
)
from .equilibria import (
    RESULTS as RESULTS,
    SteadyState as SteadyState,
    continued as continued,
    default_start as default_start,
    steady_state as steady_state,
    steady_states as steady_states,
)
from .exchange import (
    chemical_potential as chemical_potential,
    layer_exchange as layer_exchange,
    layer_susceptibility as layer_susceptibility,
    pair_exchange as pair_exchange,
    susceptibility as susceptibility,
)
from .exposure import Exposure as Exposure, exposure as exposure
from .frequencies import (
    InstantaneousFrequency as InstantaneousFrequency,
    instantaneous_frequency as instantaneous_frequency,
)
from .illumination import AbstractLight as AbstractLight, GivenRates as GivenRates, Illumination as Illumination
from .inverse import (
    DesignResult as DesignResult,
    LowIntensity as LowIntensity,
    LowPower as LowPower,
    Margin as Margin,
    PulseResult as PulseResult,
    Quiet as Quiet,
    WideRange as WideRange,
    chase_distance as chase_distance,
    design as design,
    design_pulse as design_pulse,
    design_sheet as design_sheet,
    design_startup as design_startup,
    gaussian_ensemble as gaussian_ensemble,
    turning_about as turning_about,
)
from .lattices import Lattice as Lattice
from .light import Laser as Laser, OpticalTransition as OpticalTransition
from .magnets import (
    AbstractBath as AbstractBath,
    ClassicalBath as ClassicalBath,
    LayeredMagnet as LayeredMagnet,
    QuantumBath as QuantumBath,
    ShapeDynamics as ShapeDynamics,
    UniaxialAnisotropy as UniaxialAnisotropy,
)
from .moment import LocalMoment as LocalMoment, Validity as Validity
from .phases import Phase as Phase, TrajectoryPhase as TrajectoryPhase, classify_trajectory as classify_trajectory
from .presets import hanai2025_bilayer as hanai2025_bilayer, illuminated_bilayer as illuminated_bilayer
from .sensitivities import sensitivity as sensitivity
from .solve import Solution as Solution, simulate as simulate, simulate_many as simulate_many
from .sweeps import save_dataset as save_dataset, sweep as sweep

__version__ = _version("nrjax")
