"""The photo-dissipative Lindbladian: Anderson impurities under light, and their projection on local spins."""

from .evolve import LindbladSolution as LindbladSolution, evolve as evolve
from .models import (
    AbstractLindbladModel as AbstractLindbladModel,
    AndersonModel as AndersonModel,
    Reservoir as Reservoir,
    SpinFermionModel as SpinFermionModel,
)
from .observables import NAMED as NAMED
from .states import conduction_state as conduction_state, product_state as product_state
