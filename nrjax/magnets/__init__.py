"""Effective spin dynamics: magnets with one method, `vector_field(t, m, args)`, and what the light does to them."""

from .absorption import Exposure as Exposure, exposure as exposure
from .baths import AbstractBath as AbstractBath, ClassicalBath as ClassicalBath, QuantumBath as QuantumBath
from .layers import LayeredMagnet as LayeredMagnet, UniaxialAnisotropy as UniaxialAnisotropy
from .shape import Gram as Gram, ShapeDynamics as ShapeDynamics
