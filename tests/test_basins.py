"""Sizes of basins of attraction, against trajectories from beginnings of another hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import (
    LayeredMagnet,
    Phase,
    basin_fractions,
    classify_trajectory,
    hanai2025_bilayer,
    simulate_many,
    steady_state,
    sweep,
)
from tests.refusal import assert_refused


def bistable():
    """Antialigned or chasing, by where it begins; found by a random search."""
    return LayeredMagnet([[9.4, 6.2], [-4.3, 5.0]], [0.152, 0.282], -2.4, [0.009, 0.116], 0.9, 2.1)


@pytest.mark.long
def test_shares_are_those_of_trajectories():
    shares = basin_fractions(bistable(), jax.random.key(3), 400)
    assert sum(map(float, shares.values())) == pytest.approx(1.0, abs=1e-12)
    assert 0.2 < float(shares["basin_chiral"]) < 0.8
    # Beginnings drawn by NumPy, and followed in time until nothing changes any more.
    rng, count = np.random.default_rng(1), 150
    starts = rng.normal(size=(count, 2, 3))
    starts *= rng.uniform(size=(count, 2, 1)) ** (1 / 3) / np.linalg.norm(starts, axis=2, keepdims=True)
    magnets = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), bistable())
    course = simulate_many(magnets, starts, 150.0, saveat=np.linspace(140.0, 150.0, 101))
    phases = np.asarray(jax.vmap(classify_trajectory)(course).phase)
    for phase in (Phase.ANTIALIGNED, Phase.CHIRAL):
        known, here = np.mean(phases == phase), float(shares[f"basin_{phase.name.lower()}"])
        error = np.sqrt(here * (1 - here) * (1 / 400 + 1 / count))
        assert abs(known - here) < 4 * error, (phase, known, here)


def test_a_map_of_shares():
    """In a sweep with one key: what one point has by itself; where one state attracts all, its share is 1."""
    key = jax.random.key(0)
    found = sweep(
        lambda loss_rate: hanai2025_bilayer(loss_rate, 6.0),
        {"loss_rate": [0.0, 0.05]},
        observe=lambda magnet: basin_fractions(magnet, key, 20),
        progress=False,
    )
    np.testing.assert_allclose(found["basin_aligned"], [1.0, 0.0])
    np.testing.assert_allclose(found["basin_chiral"], [0.0, 1.0])
    assert int(steady_state(hanai2025_bilayer(0.05, 6.0)).phase) == Phase.CHIRAL
    assert_refused(lambda: basin_fractions(bistable(), key, 0), ["starts", "0"])
