"""Virtual states taken out of a Lindbladian: the engine behind every light torque."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float

# Admixture of virtual states from which the projection is no longer small.
SMALL: Final = 0.25


@dataclasses.dataclass(frozen=True)
class EffectiveLindbladian:
    """What a subspace sees of a larger system: drho/dt = -i [H, rho] + sum_k (L_k rho L_k^+ - {L_k^+ L_k, rho}/2).

    - `hamiltonian`: shape (p, p), Hermitian. `jumps`: shape (K, p, p); energies and rates in one unit, hbar = 1.
    - `admixture`: the largest singular value of X, the amplitude of virtual states; the error is of its square.
    - `generator`: the whole as a matrix on rho flattened by rows, shape (p^2, p^2).
    """

    hamiltonian: Complex[Array, "p p"]
    jumps: Complex[Array, "K p p"]
    admixture: Float[Array, ""]

    @property
    def generator(self) -> Complex[Array, "p2 p2"]:
        """drho/dt as a matrix."""
        return lindbladian(self.hamiltonian, self.jumps)

    def __str__(self) -> str:
        return (
            f"EffectiveLindbladian: {self.hamiltonian.shape[0]} states, {self.jumps.shape[0]} jumps, admixture "
            f"{float(self.admixture):.3g} of virtual states"
        )


def project(hamiltonian: Any, jumps: Sequence[Any], subspace: Any) -> EffectiveLindbladian:
    """The effective Lindbladian on a subspace P, to second order in what leads out of it (Q = 1 - P):

        K X - X H_P = Q H P,   K = H_Q - (i/2) sum_k Q L_k^+ L_k Q,
        H_eff = H_P - (P H Q X + h.c.)/2,   L_eff,k = P L_k P - P L_k X.

    X is solved for at the energies of H_P (a Sylvester equation), so that P may hold bands and reservoirs of its own.
    Right where the amplitudes X of virtual states are small, the spread of H_P and its rates are small against
    |Delta - i kappa|, and for times longer than 1/kappa; kappa may be as large as Delta.

    **Arguments**

    - `hamiltonian`: Hermitian, shape (n, n), dense or of SciPy's sparse kinds; energies in a unit of your choice.
    - `jumps`: operators of that shape, with the square roots of their rates in them.
    - `subspace`: the basis states of P, as numbers or a mask of shape (n,); or orthonormal columns, shape (n, p).

    **Returns** an `EffectiveLindbladian`. First derivatives pass, forward and backward; with respect to a rate that is
    0 they are 0, since its root, which stands in the jumps, has no slope there: take a small one.

    **Raises** `ValueError` where P cannot stand alone: jumps lead out of it, or from virtual states to others (for
    these `schur`), or a virtual state has the energy of P and does not decay. Warns of a large admixture.

    **Source** Reiter, Sorensen, Physical Review A 85 (2012) 032111, for one energy in P; docs/physics.md, "Virtual
    states of any system".
    """
    split = _Split.of(hamiltonian, jumps, subspace)
    x = _sylvester(split.k, split.h_p, split.up)
    if _known(x) and not np.isfinite(np.asarray(x)).all():
        raise ValueError(
            "a state outside of the subspace has the energy of one inside and does not decay: it is not virtual. Put "
            "it into the subspace."
        )
    out = _size(jnp.stack(split.out)) if split.out else jnp.zeros(())
    if _known(out) and float(out) > 0:
        raise ValueError(
            "a jump leads out of the subspace, and fills what ought to be virtual. Put where it leads into the "
            "subspace, or use schur(hamiltonian, jumps, subspace)."
        )
    inside = _size(jnp.stack([q @ x for q in split.within]) if split.within else jnp.zeros((1, 1, 1)))
    leaves = _size(jnp.stack([p @ x for p in split.down]) if split.down else jnp.zeros((1, 1, 1)))
    if _known(inside, leaves) and float(inside) > 1e-9 * max(float(leaves), 1e-300):
        raise ValueError(
            "a jump leads from virtual states to virtual states: what comes back to the subspace later is not seen "
            "here. Use schur(hamiltonian, jumps, subspace), or put those states into the subspace."
        )
    down = split.h_up.conj().T @ x
    effective = split.h_p - 0.5 * (down + down.conj().T)
    left = jnp.stack([pp - p @ x for pp, p in zip(split.stay, split.down, strict=True)]) if split.down else None
    kept = jnp.zeros((0, *effective.shape), effective.dtype) if left is None else left
    admixture = _size(x)
    if _known(admixture):
        warn_of(admixture)
    return EffectiveLindbladian(effective, kept, admixture)


def warn_of(admixture: Float[Array, ""]) -> None:
    """Say so where the admixture of virtual states is not small."""
    if float(admixture) > SMALL:
        warnings.warn(
            f"virtual states are mixed in with an amplitude of {float(admixture):.2g}: the projection is of second "
            "order in it. Weaken what leads out of the subspace, or evolve the whole system.",
            stacklevel=3,
        )


def schur(hamiltonian: Any, jumps: Sequence[Any], subspace: Any) -> Complex[Array, "p2 p2"]:
    """L_PP - L_PQ L_QQ^-1 L_QP: the generator on a subspace, whatever path leads back to it.

    For cascades from virtual states to virtual states, at zero frequency: levels in P that lie far apart get coherences
    of the wrong rate. It keeps the trace, but not surely a positive rho. Coherences between P and Q count as Q.

    **Arguments** as in `project`, for systems of some tens of states (n^2 rows).

    **Returns** a matrix on rho flattened by rows, shape (p^2, p^2).

    **Raises** `ValueError` if something outside of the subspace never decays.
    """
    split = _Split.of(hamiltonian, jumps, subspace)
    whole = lindbladian(split.whole, jnp.stack(split.whole_jumps) if split.whole_jumps else None)
    n, p = split.whole.shape[0], split.h_p.shape[0]
    mask = (np.arange(n)[:, None] < p) & (np.arange(n)[None, :] < p)
    inside, outside = np.flatnonzero(mask.ravel()), np.flatnonzero(~mask.ravel())
    own = whole[np.ix_(outside, outside)]
    if _known(own) and float(jnp.max(jnp.real(jnp.linalg.eigvals(own)))) > -1e-12 * float(_size(own)):
        raise ValueError(
            "something outside of the subspace never decays, and would be returned to it at once. Put it into the "
            "subspace, or give it a decay."
        )
    back = jnp.linalg.solve(own, whole[np.ix_(outside, inside)])
    return whole[np.ix_(inside, inside)] - whole[np.ix_(inside, outside)] @ back


def lindbladian(hamiltonian: Complex[Array, "n n"], jumps: Complex[Array, "K n n"] | None) -> Complex[Array, "n2 n2"]:
    """drho/dt = -i [H, rho] + sum_k D(L_k) rho as a matrix on rho flattened by rows."""
    one = jnp.eye(hamiltonian.shape[0], dtype=hamiltonian.dtype)
    decay = 1j * hamiltonian
    generator = jnp.zeros((one.size, one.size), hamiltonian.dtype)
    for jump in () if jumps is None else jumps:
        decay = decay + 0.5 * jump.conj().T @ jump
        generator = generator + jnp.kron(jump, jump.conj())
    return generator - jnp.kron(decay, one) - jnp.kron(one, decay.conj())


@dataclasses.dataclass(frozen=True)
class _Split:
    """Operators cut into the parts of P and Q."""

    whole: Array
    whole_jumps: list[Array]
    h_p: Array
    h_up: Array
    k: Array
    up: Array
    stay: list[Array]
    down: list[Array]
    within: list[Array]
    out: list[Array]

    @classmethod
    def of(cls, hamiltonian: Any, jumps: Sequence[Any], subspace: Any) -> "_Split":
        h = _dense(hamiltonian)
        n = h.shape[0]
        if h.ndim != 2 or h.shape != (n, n):
            raise ValueError(f"hamiltonian has shape {h.shape}: it must be square.")
        if _known(h) and float(_size(h - h.conj().T)) > 1e-10 * max(float(_size(h)), 1e-300):
            raise ValueError("hamiltonian is not Hermitian. Put losses into jumps.")
        operators = [_dense(jump) for jump in jumps]
        for k, jump in enumerate(operators):
            if jump.shape != (n, n):
                raise ValueError(f"jump {k} has shape {jump.shape}, and the Hamiltonian {h.shape}.")
        basis, p = _basis(subspace, n)
        turned = [basis.conj().T @ x @ basis for x in (h, *operators)]
        whole, whole_jumps = turned[0], turned[1:]
        lost = sum((x[:, p:].conj().T @ x[:, p:] for x in whole_jumps), jnp.zeros_like(whole[p:, p:]))
        return cls(
            whole,
            whole_jumps,
            whole[:p, :p],
            whole[p:, :p],
            whole[p:, p:] - 0.5j * lost,
            whole[p:, :p],
            [x[:p, :p] for x in whole_jumps],
            [x[:p, p:] for x in whole_jumps],
            [x[p:, p:] for x in whole_jumps],
            [x[p:, :p] for x in whole_jumps],
        )


def _basis(subspace: Any, n: int) -> tuple[Array, int]:
    """A unitary matrix whose first p columns span the subspace."""
    given = np.asarray(subspace)
    if given.ndim == 2:
        if given.shape[0] != n or not np.allclose(given.conj().T @ given, np.eye(given.shape[1]), atol=1e-10):
            raise ValueError(f"subspace has shape {given.shape}: give orthonormal columns of length {n}.")
        p = given.shape[1]
        full, _ = np.linalg.qr(np.concatenate([given, np.eye(n)], axis=1))
        full = full[:, :n].astype(complex)
        full[:, :p] = given
    else:
        mask = np.zeros(n, bool)
        if given.dtype == bool and given.shape != (n,):
            raise ValueError(f"subspace has shape {given.shape}: a mask has one entry for each of the {n} states.")
        mask[given] = True
        p = int(mask.sum())
        full = np.eye(n, dtype=complex)[:, np.argsort(~mask, kind="stable")]
    if not 0 < p < n:
        raise ValueError(f"subspace has {p} of {n} states: it must leave some out, and hold some.")
    return jnp.asarray(full, jnp.result_type(complex)), p


def _sylvester(k: Array, h: Array, right: Array) -> Array:
    """X of K X - X H = right, H Hermitian. First derivatives are exact: what turns H off its diagonal enters once."""
    _, u = jnp.linalg.eigh(jax.lax.stop_gradient(h))
    own = u.conj().T @ h @ u
    energies, one = jnp.real(jnp.diagonal(own)), jnp.eye(k.shape[0], dtype=k.dtype)
    off = own - jnp.diag(jnp.diagonal(own))

    def solve(columns: Array) -> Array:
        each = jax.vmap(lambda energy, column: jnp.linalg.solve(k - energy * one, column))
        return each(energies.astype(k.dtype), columns.T).T

    turned = right @ u
    first = solve(turned)
    return solve(turned + first @ off) @ u.conj().T


def _dense(operator: Any) -> Array:
    return jnp.asarray(operator.toarray() if hasattr(operator, "toarray") else operator, jnp.result_type(complex))


def _size(x: Any) -> Array:
    """The largest singular value."""
    x = jax.lax.stop_gradient(x)
    return jnp.max(jnp.linalg.svd(x, compute_uv=False)) if x.size else jnp.zeros(())


def _known(*arrays: Any) -> bool:
    return not any(isinstance(x, Tracer) for x in arrays)
