"""Sums over neighbours against loops over cells, as a CPU and as an accelerator computes them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax.magnets import shifted_sums
from nrjax.magnets.shifted_sums import shifted_sum

# Bonds without any symmetry, edges and corners among them, further than a side is long.
BONDS = [
    ((1, 0, 0), 0.7),
    ((0, -2, 0), -0.4),
    ((2, 1, -1), 0.25),
    ((-1, 3, 2), 1.5),
    ((0, 0, -3), 0.1),
    ((0, 0, 0), 0.6),
]
ENDS = [(True, True, True), (False, False, False), (True, False, True), (False, True, False)]


def by_loops(x: np.ndarray, periodic: tuple[bool, bool, bool]) -> np.ndarray:
    total = np.zeros_like(x)
    for cell in itertools.product(*map(range, x.shape)):
        for step, weight in BONDS:
            there = [i + k for i, k in zip(cell, step, strict=True)]
            if all(ends or 0 <= i < n for i, n, ends in zip(there, x.shape, periodic, strict=True)):
                total[cell] += weight * x[tuple(i % n for i, n in zip(there, x.shape, strict=True))]
    return total


@pytest.mark.parametrize("road", ["_Rimmed", "_Rolled"])
@pytest.mark.parametrize("periodic", ENDS)
@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 1, 6)])
def test_sums_over_neighbours(shape, periodic, road, monkeypatch):
    """The road of a CPU, and that of any other device in its place."""
    monkeypatch.setattr(shifted_sums, "_Rimmed", getattr(shifted_sums, road))
    x = np.random.default_rng(1).normal(size=shape)
    found = jax.jit(lambda x: shifted_sum(x, BONDS, periodic))(jnp.asarray(x))
    np.testing.assert_allclose(found, by_loops(x, periodic), rtol=0, atol=1e-14)


def test_an_accelerator_copies_no_rims():
    """There it would be many small kernels."""
    x = jax.ShapeDtypeStruct((8, 8, 8), jnp.float64)
    lowered = jax.jit(lambda x: shifted_sum(x, BONDS, ENDS[0])).trace(x)
    assert "dynamic_update_slice" in lowered.lower(lowering_platforms=("cpu",)).as_text()
    assert "dynamic_update_slice" not in lowered.lower(lowering_platforms=("cuda",)).as_text()
