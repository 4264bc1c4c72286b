"""From the laser to a torque: light, the transition that it drives, the local moment whose doublons it empties."""

from .envelopes import (
    AbstractEnvelope as AbstractEnvelope,
    Chirped as Chirped,
    Constant as Constant,
    Gaussian as Gaussian,
    Spline as Spline,
    Square as Square,
    Tabulated as Tabulated,
)
from .hopping_light import HundLight as HundLight, MottLight as MottLight
from .illumination import (
    AbstractLight as AbstractLight,
    AbstractMetallicLight as AbstractMetallicLight,
    Darkness as Darkness,
    GivenRates as GivenRates,
    Illumination as Illumination,
)
from .laser import Laser as Laser, OpticalTransition as OpticalTransition
from .local_moment import LocalMoment as LocalMoment, Validity as Validity
