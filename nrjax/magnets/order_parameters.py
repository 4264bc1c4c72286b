"""What motion and rotation ask of a model: a few order parameters with a velocity."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.validation import Number
from .relaxation import AbstractRelaxation


class AbstractOrderParameters(eqx.Module):
    """dm_a/dt = vector_field(t, m): L order parameters of n components, for example the moments of layers (n = 3) or
    complex amplitudes (n = 2).

    A model gives the members marked abstract; `simulate` and `steady_state` ask for no more. A rotation acts on all
    order parameters alike, about an axis in space (n = 3) or in the plane (n = 2); there is none of one component.

    Where nothing singles out a direction, and lengths and angles alone decide how fast an order parameter relaxes,

        dm_a/dt = Omega(m) x m_a + sum_b w_ab m_b - r_a(G) m_a,   G_ab = m_a . m_b,

    `is_isotropic` is true, and `exchange_rates`, `relaxation` and `precession_exchange` are given as well. The steady
    states of two order parameters then follow from their shape, a hundred times faster.
    """

    @property
    @abc.abstractmethod
    def layers(self) -> int:
        """L, the number of order parameters."""

    @property
    def components(self) -> int:
        """n, the number of components of each: 1, 2 or 3."""
        return 3

    @abc.abstractmethod
    def vector_field(self, t: Number, m: Float[Array, "L n"], args: Any = None) -> Float[Array, "L n"]:
        """dm/dt in meV (hbar = 1) at time `t` (hbar/meV)."""

    @abc.abstractmethod
    def term_size(self, m: Float[Array, "L n"]) -> Float[Array, ""]:
        """The size of the terms of dm/dt, in meV: the scale of a relative residual."""

    @abc.abstractmethod
    def free_relaxation(self) -> Float[Array, " L"]:
        """How fast each order parameter relaxes where nothing holds it, in meV: the scale of a patient wait."""

    @abc.abstractmethod
    def nonlinearity(self, m: Float[Array, "L n"]) -> Float[Array, ""]:
        """By which share, roughly, the rates at m differ from those at m = 0. Beyond m = 0 they may only damp more."""

    @abc.abstractmethod
    def dark_lengths(self) -> Float[Array, " L"]:
        """Lengths of the state without light, negative where it is opposite to the first: where a search begins."""

    @property
    def saturation(self) -> float:
        """The greatest length that an order parameter can have; infinite where nothing bounds it. What is longer solves
        the equation, but is no state."""
        return math.inf

    def symmetry_axes(self) -> Float[Array, "axes 3"]:
        """Vectors that a common rotation must leave alone to be a symmetry; none of them where every rotation is one.

        Those of length 0 count for nothing.
        """
        return jnp.zeros((0, 3))

    @property
    def changes_in_time(self) -> bool:
        """Whether the velocity depends on time."""
        return False

    def plateau(self) -> "AbstractOrderParameters":
        """The model that a steady state belongs to: constant in time."""
        return self

    @property
    def is_isotropic(self) -> bool:
        """Whether the equation of the class docstring holds, in which nothing singles out a direction."""
        return False

    def exchange_rates(self) -> Float[Array, "L L"]:
        """w_ab in meV; of an isotropic model."""
        raise NotImplementedError(f"{type(self).__name__} is not isotropic, or lacks exchange_rates().")

    def relaxation(self) -> AbstractRelaxation:
        """r_a(G) of two order parameters; of an isotropic model."""
        raise NotImplementedError(f"{type(self).__name__} is not isotropic, or lacks relaxation().")

    def precession_exchange(self) -> Float[Array, "L L"]:
        """J in meV, with precession m_a x sum_b J_ab m_b; of an isotropic model. Zero: none."""
        return jnp.zeros((self.layers, self.layers), self.dtype)

    @property
    def shape_closes(self) -> bool:
        """Whether the three scalar products of two order parameters have an equation of their own, and a tilt."""
        return self.layers == 2 and self.is_isotropic and self.components > 1

    @property
    def dtype(self) -> Any:
        """The floating-point type of the model's numbers."""
        return jnp.result_type(*(x for x in jax.tree.leaves(self) if eqx.is_inexact_array(x)))
