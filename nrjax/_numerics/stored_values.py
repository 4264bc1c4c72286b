"""Values that a program computes once, however often they are used.

XLA keeps the result of a division, but computes sums and products anew for everything that uses them. On a CPU, where
each result is a loop of its own, long chains of them become several times larger than they are.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

Values = TypeVar("Values")


def unseen_one(like: Array) -> Array:
    """1, for each of some numbers, whatever they are: XLA does not see that no size is negative."""
    return jnp.where(jnp.abs(like) < -1.0, 2.0, jnp.ones_like(like))


def stored(values: Values, one: Array) -> Values:
    """All of these, to the bit, as results of a division by an `unseen_one`: for what is used more than once. Numbers
    of any kind, and truths."""
    if jax.default_backend() != "cpu":
        return values

    def of_one(x: Array) -> Array:
        if jnp.issubdtype(x.dtype, jnp.inexact):
            return x / one
        quotient = x.astype(one.dtype) / one
        return quotient > 0.5 if x.dtype == jnp.bool_ else quotient.astype(x.dtype)

    return jax.tree.map(of_one, values)
