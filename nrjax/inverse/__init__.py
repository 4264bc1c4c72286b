"""Inverse design: from the wanted rotation to the laser."""

from .box import Box as Box
from .guidance import chase_distance as chase_distance
from .laser_design import (
    DesignResult as DesignResult,
    design as design,
    design_many as design_many,
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
