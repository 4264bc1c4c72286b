"""Layers of N spins each, whose moments fluctuate: a stochastic equation, solved by Diffrax."""

from typing import Any, ClassVar, Final

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.small_matrices import safe_sqrt
from .._numerics.vectors import cross
from ..magnets import LayeredMagnet
from ..magnets.collisions import change_covariance, collisions, second_moment
from .coordinates import AbstractCoordinates, Components

# A step turns no moment by more than this (radians): between two steps the noise has one direction.
TURN: Final = 0.3
# Lengths of a mean direction for which noise is computed, at most: no spins have a longer one.
LONGEST: Final = 0.999
# The shortest time between which the path of the noise is drawn anew, in units of the longest step.
PATH_TOLERANCE: Final = 0.25


class Fluctuating(AbstractCoordinates):
    """The moments m_a of N spins in each layer, and the second moments Q_a = <S S^T> of their directions:

        dm = vector_field dt + sqrt(C/N) dW      (Ito),   C = r [Q' + Q - mean m^T - m mean^T],
        dQ/dt = precession of Q + r (Q' - Q).

    At the rate r = 2 alpha phi + loss a spin forgets its direction and takes a thermal one of mean u/r, <S' S'^T> = Q',
    which changes the moment of its layer by (S' - S)/N. To leading order in 1/N this is the noise of those jumps, the
    noise whose `linewidth` is known. In the dark m fluctuates as N classical spins do in equilibrium; spins 1/2, whose
    noise is that of single ones at every frequency, by phi/T more than heat alone would have it, at most.

    **Source** docs/physics.md, "Noise of whole layers"; the small-noise limit of a jump process is that of van Kampen,
    Stochastic Processes in Physics and Chemistry (2007), chapter X.
    """

    inner: Components
    spins: Float[Array, ""]

    def start(self, m0: Float[Array, "L 3"]) -> Any:
        """m0, and directions as thermal as they can be with that mean."""
        return m0, self._second_moments(self.inner.model, m0)

    def _second_moments(self, magnet: LayeredMagnet, mean: Float[Array, "L 3"]) -> Float[Array, "L 3 3"]:
        return jax.vmap(second_moment, in_axes=(None, 0, 0))(magnet.bath, _no_longer(mean), magnet.temperature)

    def _now(self, t: Array) -> LayeredMagnet:
        magnet = self.inner.model
        return magnet.at(t) if magnet.changes_in_time else magnet

    def rates(self, t: Array, y: Any) -> Any:
        """d(m, Q)/dt without noise."""
        m, q = y
        magnet = self._now(t)
        rate, mean = collisions(magnet, m)
        turn = -magnet.precession_vector(m)
        # d(S S^T)/dt = (w x S) S^T + S (w x S)^T.
        turned = jnp.stack(cross((turn[:, :1], turn[:, 1:2], turn[:, 2:]), (q[:, 0], q[:, 1], q[:, 2])), axis=1)
        change = self._second_moments(magnet, mean) - q
        return magnet.rates_among(m, m), turned + jnp.swapaxes(turned, 1, 2) + rate[:, None, None] * change

    def noise(self, t: Array, y: Any) -> Float[Array, "L 3 3"]:
        """sqrt(C/N), a lower triangle for each layer."""
        m, q = y
        magnet = self._now(t)
        rate, mean = collisions(magnet, m)
        mean = _no_longer(mean)
        new = self._second_moments(magnet, mean)
        covariance = jax.vmap(change_covariance)(m, q, mean, new)
        return jax.vmap(lower_root)(covariance * (rate / self.spins)[:, None, None])

    def moments(self, y: Any) -> Float[Array, "*times L n"]:
        """m."""
        return y[0]

    def model_at(self, y: Any) -> Any:
        """The model, whatever y."""
        return self.inner.model_at(y[0])

    def tilt(self, y: Any) -> Float[Array, ""]:
        """From the components."""
        return self.inner.tilt(y[0])

    def path(self, key: Array, start: Array, stop: Array) -> diffrax.AbstractBrownianPath:
        """W, one number for each component: it depends on the key, on the two ends of the time (hbar/meV) and on
        `longest_step`, not on where steps fall or what is saved."""
        longest = self.longest_step()
        stop = jnp.maximum(stop, start + longest)
        shape = (self.inner.model.layers, 3)
        return diffrax.VirtualBrownianTree(start, stop, tol=PATH_TOLERANCE * longest, shape=shape, key=key)

    def longest_step(self) -> Array:
        """In hbar/meV, from the fastest precession and relaxation of moments of full length."""
        magnet: LayeredMagnet = self.inner.model
        turning = jnp.max(jnp.sum(jnp.abs(magnet.precession_exchange()), axis=1))
        axes = jnp.eye(3, dtype=magnet.dtype)
        sizes = [magnet.term_size(jnp.broadcast_to(axis, (magnet.layers, 3))) for axis in axes]
        return jax.lax.stop_gradient(TURN / jnp.maximum(turning, jnp.max(jnp.stack(sizes))))


def lower_root(covariance: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """L with L L^T = covariance, by Cholesky's method; rows that rounding leaves without variance are 0."""
    c, zero = covariance, jnp.zeros_like(covariance[0, 0])
    a = safe_sqrt(c[0, 0])
    b, d = (jnp.where(a > 0, x / jnp.where(a > 0, a, 1.0), 0.0) for x in (c[1, 0], c[2, 0]))
    e = safe_sqrt(c[1, 1] - b**2)
    f = jnp.where(e > 0, (c[2, 1] - d * b) / jnp.where(e > 0, e, 1.0), 0.0)
    g = safe_sqrt(c[2, 2] - d**2 - f**2)
    return jnp.stack([jnp.stack([a, zero, zero]), jnp.stack([b, e, zero]), jnp.stack([d, f, g])])


def _no_longer(mean: Float[Array, "L 3"]) -> Float[Array, "L 3"]:
    """The same mean directions, none of them longer than spins have."""
    length = safe_sqrt(jnp.sum(mean**2, axis=1))
    return mean * jnp.where(length > LONGEST, LONGEST / jnp.where(length > 0, length, 1.0), 1.0)[:, None]


class Kicks(diffrax.AbstractTerm):
    """sqrt(C/N) dW on the moments of `Fluctuating` coordinates."""

    path: diffrax.AbstractBrownianPath

    def vf(self, t: Any, y: Any, args: Fluctuating) -> Any:
        """sqrt(C/N)."""
        return args.noise(t, y)

    def contr(self, t0: Any, t1: Any, whole: bool = False, **options: Any) -> Any:
        """The increment of W from t0 to t1, or if `whole` from the start."""
        del options
        return self.path.evaluate(t1) if whole else self.path.evaluate(t0, t1)

    def prod(self, vf: Any, control: Any) -> Any:
        """What it does to (m, Q)."""
        return jnp.sum(vf * control[:, None, :], axis=2), jnp.zeros_like(vf)


class KickedFlow(diffrax.AbstractItoSolver):
    """Half of a step's noise, the flow without noise, the other half: S(h) = K(h/2) o flow(h) o K(h/2).

    The flow has the order and the error estimate of its own solver, so that a fast precession gains no energy; noise is
    of weak order 1 in its strength squared, 1/N. Remembered from step to step: W, and sqrt(C/N) before the last kick.
    """

    flow: diffrax.AbstractSolver = diffrax.Tsit5()
    term_structure: ClassVar[Any] = diffrax.MultiTerm[tuple[diffrax.ODETerm, Kicks]]
    interpolation_cls: ClassVar[Any] = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int | None:
        """That of the flow."""
        return self.flow.order(terms)

    def error_order(self, terms: Any) -> Any:
        """The error estimate is that of the flow."""
        return self.flow.order(terms)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        """W and sqrt(C/N) at the start."""
        kicks = terms.terms[1]
        return kicks.contr(t0, t0, whole=True), kicks.vf(t0, y0, args)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        """One step of the class docstring."""
        (flow, kicks), (w0, root) = terms.terms, solver_state
        middle = t0 + 0.5 * (t1 - t0)
        half, w1 = (kicks.contr(t, t, whole=True) for t in (middle, t1))
        before = _plus(y0, kicks.prod(root, half - w0))
        remembered = self.flow.init(flow, t0, t1, before, args)
        after, error, _, _, result = self.flow.step(flow, t0, t1, before, args, remembered, False)
        root = kicks.vf(t1, after, args)
        last = _plus(after, kicks.prod(root, w1 - half))
        return last, error, dict(y0=y0, y1=last), (w1, root), result

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The rates without noise."""
        return terms.terms[0].vf(t0, y0, args)


def _plus(y: Any, change: Any) -> Any:
    return jax.tree.map(lambda a, b: a + b, y, change)
