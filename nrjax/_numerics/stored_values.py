"""Values that a program computes once, however often they are used.

XLA keeps the result of a division, but computes sums and products anew for everything that uses them. On a CPU, where
each result is a loop of its own, long chains of them become several times larger than they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def unseen_one(like: Array) -> Array:
    """1, of the shape of some numbers, which XLA takes for a result."""
    return jnp.where(like > -jnp.inf, jnp.ones_like(like), 2.0)


def stored(x: Array, one: Array) -> Array:
    """x, to the bit, as the result of a division by an `unseen_one`, for what is used more than once."""
    return x / one if jax.default_backend() == "cpu" else x
