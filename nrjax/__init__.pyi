from . import lindblad as lindblad, plot as plot, presets as presets, units as units
from ._numerics.program_cache import keep_compiled_programs as keep_compiled_programs
from ._numerics.unrolled_runge_kutta import UnrolledTsit5 as UnrolledTsit5
from ._version import __version__ as __version__
from .bands import (
    Lattice as Lattice,
    chemical_potential as chemical_potential,
    layer_exchange as layer_exchange,
    layer_susceptibility as layer_susceptibility,
    pair_exchange as pair_exchange,
    susceptibility as susceptibility,
)
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
from .light import (
    AbstractEnvelope as AbstractEnvelope,
    AbstractLight as AbstractLight,
    AbstractMetallicLight as AbstractMetallicLight,
    Chirped as Chirped,
    Constant as Constant,
    Darkness as Darkness,
    Gaussian as Gaussian,
    GivenRates as GivenRates,
    Illumination as Illumination,
    Laser as Laser,
    LocalMoment as LocalMoment,
    OpticalTransition as OpticalTransition,
    Spline as Spline,
    Square as Square,
    Tabulated as Tabulated,
    Validity as Validity,
)
from .magnets import (
    AbstractBath as AbstractBath,
    AbstractFieldTerm as AbstractFieldTerm,
    AbstractOrderParameters as AbstractOrderParameters,
    AbstractRelaxation as AbstractRelaxation,
    BiaxialAnisotropy as BiaxialAnisotropy,
    BrillouinBath as BrillouinBath,
    ClassicalBath as ClassicalBath,
    CoupledCondensates as CoupledCondensates,
    DzyaloshinskiiMoriya as DzyaloshinskiiMoriya,
    Exposure as Exposure,
    LayeredMagnet as LayeredMagnet,
    QuantumBath as QuantumBath,
    ShapeDynamics as ShapeDynamics,
    UniaxialAnisotropy as UniaxialAnisotropy,
    exposure as exposure,
)
from .maps import save_dataset as save_dataset, sensitivity as sensitivity, sweep as sweep
from .motion import (
    InstantaneousFrequency as InstantaneousFrequency,
    Phase as Phase,
    Solution as Solution,
    TrajectoryPhase as TrajectoryPhase,
    classify_trajectory as classify_trajectory,
    instantaneous_frequency as instantaneous_frequency,
    simulate as simulate,
    simulate_many as simulate_many,
)
from .presets import hanai2025_bilayer as hanai2025_bilayer, illuminated_bilayer as illuminated_bilayer
from .rotation import (
    OBSERVABLES as OBSERVABLES,
    RESULTS as RESULTS,
    AbstractObservable as AbstractObservable,
    AbstractSteadyStateSolver as AbstractSteadyStateSolver,
    Boundary as Boundary,
    CorotatingSolver as CorotatingSolver,
    ShapeSolver as ShapeSolver,
    SteadyState as SteadyState,
    boundary as boundary,
    branches as branches,
    continued as continued,
    default_start as default_start,
    indicator as indicator,
    steady_state as steady_state,
    steady_states as steady_states,
    tilt_modes as tilt_modes,
)
