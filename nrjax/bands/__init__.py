"""From the conduction band to the exchange that it carries."""

from .lattices import Lattice as Lattice
from .mediated_exchange import (
    chemical_potential as chemical_potential,
    layer_exchange as layer_exchange,
    layer_susceptibility as layer_susceptibility,
    pair_exchange as pair_exchange,
    susceptibility as susceptibility,
)
