"""Inverse design: from the wanted rotation to the laser."""

from .box import Box as Box
from .constraints import (
    AboveOnset as AboveOnset,
    AbstractConstraint as AbstractConstraint,
    Check as Check,
    EnoughElectrons as EnoughElectrons,
    MaxTemperature as MaxTemperature,
    MinTurns as MinTurns,
    NarrowLine as NarrowLine,
    StableInSpace as StableInSpace,
)
from .distance_to_chase import chase_distance as chase_distance
from .handedness import turning_about as turning_about
from .laser_design import (
    DesignResult as DesignResult,
    design as design,
    gaussian_ensemble as gaussian_ensemble,
)
from .objectives import (
    AbstractObjective as AbstractObjective,
    LowIntensity as LowIntensity,
    LowPower as LowPower,
    Margin as Margin,
    Quiet as Quiet,
    WideRange as WideRange,
    intensity_response as intensity_response,
)
from .proposal import Experiment as Experiment, experiment as experiment
from .pulses import PulseResult as PulseResult, design_pulse as design_pulse, design_startup as design_startup
from .sheet import design_sheet as design_sheet
