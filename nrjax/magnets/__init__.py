"""Effective spin dynamics: magnets with one method, `vector_field(t, m, args)`, and what the light does to them."""

from .absorption import Exposure as Exposure, exposure as exposure
from .baths import AbstractBath as AbstractBath, ClassicalBath as ClassicalBath, QuantumBath as QuantumBath
from .biaxial_anisotropy import BiaxialAnisotropy as BiaxialAnisotropy
from .brillouin_bath import BrillouinBath as BrillouinBath
from .condensates import CoupledCondensates as CoupledCondensates
from .field_terms import (
    AbstractFieldTerm as AbstractFieldTerm,
    UniaxialAnisotropy as UniaxialAnisotropy,
    Zeeman as Zeeman,
)
from .fokker_planck import FokkerPlanckMagnet as FokkerPlanckMagnet
from .heat import ThermalModel as ThermalModel
from .interlayer_dmi import DzyaloshinskiiMoriya as DzyaloshinskiiMoriya
from .layers import LayeredMagnet as LayeredMagnet
from .neighbours import (
    AbstractNeighbours as AbstractNeighbours,
    AllToAll as AllToAll,
    Box as Box,
    Matrix as Matrix,
    Shells as Shells,
)
from .order_parameters import AbstractOrderParameters as AbstractOrderParameters
from .planar_bath import PlanarBath as PlanarBath
from .relaxation import AbstractRelaxation as AbstractRelaxation, Gram as Gram
from .shape import ShapeDynamics as ShapeDynamics
from .spin_lattice import SpinLattice as SpinLattice
from .vector_magnet import VectorMagnet as VectorMagnet
