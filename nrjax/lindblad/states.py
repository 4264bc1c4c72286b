"""Preparing states: spin directions of the impurities, and the conduction electrons in equilibrium."""

from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from .._numerics.hermitian_matrices import from_spectrum
from .._numerics.validation import Number, Numbers, float_array, require, require_finite, require_positive
from .fermions import PAULI, Space, density, total
from .models import AbstractLindbladModel
from .operators import band, hopping_parameters, weighted_sum, zeeman

LARGEST_BYTES: Final = 2**31


def conduction_state(
    model: AbstractLindbladModel,
    temperature: Number,
    *,
    electrons: int | None = None,
    fermi_energy: Number = 0.0,
    field: Numbers = (0.0, 0.0, 0.0),
) -> Complex[Array, "c c"]:
    """exp(-(H_c - mu N - 2 B.s)/T)/Z of the conduction electrons alone.

    **Arguments** `temperature`: T in meV. `electrons`: their number, if it is fixed. `fermi_energy`: mu in meV.
    `field`: B in meV, which polarizes the electrons (energy of a unit moment 2s); shape (3,).

    **Returns** the density matrix of the conduction sites, shape (c, c).

    **Raises** `ValueError` for a temperature that is not positive or a number of electrons that does not fit.
    """
    sites = model.hopping.shape[0]
    space = Space(0, 2 * sites)
    if electrons is not None and not 0 <= electrons <= space.modes:
        raise ValueError(f"electrons = {electrons} is out of range: {sites} sites hold 0 to {space.modes}.")
    t = float_array("temperature", temperature, ())
    require_positive("temperature", t, "It is k_B T in meV; a small one gives the ground state.")
    b = float_array("field", field, (3,))
    require_finite("field", b)
    modes = tuple(2 * i for i in range(sites))
    mu = float_array("fermi_energy", fermi_energy, ())
    operators = [
        *band(space, modes, jnp.iscomplexobj(model.hopping)),
        *zeeman(space, [], modes),
        total(density(space, mode) for mode in modes),
    ]
    h = weighted_sum(jnp.concatenate([hopping_parameters(model.hopping), -2.0 * b, -mu[None]]), operators)
    if electrons is not None:
        # States of another number are put above all others, and then taken out.
        wrong = jnp.asarray(space.particles != electrons)
        above = 1.0 + 4.0 * jnp.max(jnp.sum(jnp.abs(h), axis=1))
        h = h + jnp.diag(jnp.where(wrong, above, 0.0)).astype(h.dtype)
        levels, states = jnp.linalg.eigh(h)
        levels = jnp.where(levels > 0.5 * above, jnp.inf, levels)
    else:
        levels, states = jnp.linalg.eigh(h)
    probabilities = jax.nn.softmax(-levels / t)
    rho = from_spectrum(probabilities, states)
    # Degenerate levels of different numbers of electrons may come mixed, by rounding.
    return jnp.where(jnp.asarray(space.particles[:, None] == space.particles[None, :]), rho, 0.0)


def product_state(
    model: AbstractLindbladModel, spins: Numbers, conduction: Complex[Array, "c c"] | None = None
) -> Complex[Array, "n n"]:
    """Impurities with given spins, each with one electron, times a state of the conduction electrons.

    **Arguments** `spins`: directions 2 <S_a>, shape (impurities, 3), of length 0 to 1. `conduction`: from
    `conduction_state`; left out where all orbitals are impurities (`HubbardModel`).

    **Returns** the density matrix of the model, shape (n, n).

    **Raises** `ValueError` for spins longer than 1 or of another shape, or a matrix of more than 2 GiB.
    """
    n = model.space.dimension
    if 16 * n**2 > LARGEST_BYTES:
        raise ValueError(
            f"a density matrix of {n} states takes {16 * n**2 / 2**30:.3g} GiB. Use quantum_trajectories from a state "
            "vector, or fewer sites."
        )
    directions = float_array("spins", spins, (model.impurities, 3))
    lengths = jnp.sqrt(jnp.sum(directions**2, axis=1))
    require("length of a spin", lengths, lambda x: x <= 1.0 + 1e-9, "at most 1 (2 <S> of a pure state)")
    modes = model.impurity_modes
    width = 1 if modes is None else model.modes_of_each
    rho = jnp.ones((1, 1), complex)
    for direction in directions:
        single = 0.5 * (jnp.eye(2, dtype=complex) + jnp.tensordot(direction.astype(complex), jnp.asarray(PAULI), 1))
        if modes is not None:
            # Up and down occupied: of the modes (up, down, ...) the first or the second.
            places = np.array([2 ** (width - 1), 2 ** (width - 2)])
            single = jnp.zeros((2**width, 2**width), complex).at[np.ix_(places, places)].set(single)
        rho = jnp.kron(rho, single)
    if conduction is None:
        if model.has_band:
            raise ValueError("conduction is missing: give the state of the band, from conduction_state(model, ...).")
        # What is left is empty.
        rest = model.space.dimension // rho.shape[0]
        conduction = jnp.zeros((rest, rest), complex).at[0, 0].set(1.0)
    return jnp.kron(rho, conduction)
