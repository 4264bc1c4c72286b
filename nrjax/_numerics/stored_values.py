"""Values that a program computes once, however often they are used.

XLA keeps the result of a division, but computes sums and products anew for everything that uses them. On a CPU, where
each result is a loop of its own, long chains of them become several times larger than they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def unseen_one(like: Array) -> Array:
    """1, for each of some numbers, whatever they are: XLA does not see that no size is negative."""
    return jnp.where(jnp.abs(like) < -1.0, 2.0, jnp.ones_like(like))


def stored(x: Array, one: Array) -> Array:
    """x, to the bit, as the result of a division by an `unseen_one`, for what is used more than once."""
    return x / one if jax.default_backend() == "cpu" else x
