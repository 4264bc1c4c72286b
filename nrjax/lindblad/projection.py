"""How good the projection on local spins is."""

from collections.abc import Sequence
from typing import Final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .._numerics.validation import Numbers
from .models import AndersonModel, SpinFermionModel
from .states import product_state
from .time_evolution import LindbladSolution, evolve

COMPARED: Final = ("impurity_spin", "site_spin", "site_density", "singlet", "light_current")


class ProjectionError(eqx.Module):
    """A model and its projection side by side.

    - `differences`: name -> largest absolute difference over all times and components, in the observable's unit.
    - `exact`, `projected`: both solutions.
    """

    differences: dict[str, Float[Array, ""]]
    exact: LindbladSolution
    projected: LindbladSolution

    def __str__(self) -> str:
        return "\n".join(f"{name:14s} {float(value):.3g}" for name, value in self.differences.items())


def projection_error(
    model: AndersonModel,
    spins: Numbers,
    conduction: Complex[Array, "c c"],
    ts: Numbers,
    observables: Sequence[str] = COMPARED,
) -> ProjectionError:
    """Evolve an Anderson model and its `SpinFermionModel.project` from the same spins and electrons.

    The difference is of order (v/Delta)^2, that of the band's width over Delta, and that of kappa/Delta. With the upper
    level kept the closed form of kappa is tested as well.

    **Arguments** `model`: the exact one. `spins`, `conduction`: as in `product_state`. `ts`: times in ps.
    `observables`: names that both models know.

    **Returns** a `ProjectionError`; print it.
    """
    projection = SpinFermionModel.project(model)
    exact, projected = (evolve(m, product_state(m, spins, conduction), ts, observables) for m in (model, projection))
    names = list(observables)
    differences = {
        name: jnp.max(jnp.abs(exact.observables[name] - projected.observables[name]))
        for name in names
        if np.size(exact.observables[name])
    }
    return ProjectionError(differences, exact, projected)
