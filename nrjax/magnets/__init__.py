"""Effective spin dynamics: magnets with one method, `vector_field(t, m, args)`."""

from .baths import AbstractBath as AbstractBath, ClassicalBath as ClassicalBath, QuantumBath as QuantumBath
from .layers import LayeredMagnet as LayeredMagnet, UniaxialAnisotropy as UniaxialAnisotropy
from .shape import Gram as Gram, ShapeDynamics as ShapeDynamics
