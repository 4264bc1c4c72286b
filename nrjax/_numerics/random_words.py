"""Random words of a key, each by itself."""

from typing import Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt

# Of Threefry-2x32: what is added to the parity of a key, and the bits that rounds turn by, in turn.
PARITY: Final = 0x1BD11BDA
TURNS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))
GROUPS: Final = 5
GENERATOR: Final = "threefry2x32"
# Above this many the count is a number of two words.
LARGEST: Final = 1 << 32


def random_words(key: Array, count: int) -> UInt[Array, " count"]:
    """`jax.random.bits(key, (count,), uint32)`, to the bit.

    On a CPU with its rounds written out, so that XLA computes a word in one go: those of JAX are a loop there, which
    takes all words through memory ten times. (Elsewhere they are JAX's own, and so are those of other generators.)

    **Source** Salmon, Moraes, Dror, Shaw, SC'11 (2011), doi:10.1145/2063384.2063405: Threefry-2x32 of 20 rounds.
    """
    if not _is_threefry(key) or count > LARGEST:
        return jax.random.bits(key, (count,), jnp.uint32)
    return jax.lax.platform_dependent(
        key, cpu=lambda key: _written_out(key, count), default=lambda key: jax.random.bits(key, (count,), jnp.uint32)
    )


def _is_threefry(key: Array) -> bool:
    return str(jax.random.key_impl(key)) == GENERATOR and getattr(jax.config, "jax_threefry_partitionable", False)


def _written_out(key: Array, count: int) -> UInt[Array, " count"]:
    """Of the counts 0, 1, ... under the key, both words of each joined."""
    first, second = jax.random.key_data(key)
    keys = first, second, first ^ second ^ jnp.uint32(PARITY)
    x, y = jnp.broadcast_to(first, (count,)), jax.lax.iota(jnp.uint32, count) + second
    for group in range(GROUPS):
        for turn in TURNS[group % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(turn)) | (y >> jnp.uint32(32 - turn)))
        x = x + keys[(group + 1) % 3]
        y = y + (keys[(group + 2) % 3] + jnp.uint32(group + 1))
    return x ^ y
