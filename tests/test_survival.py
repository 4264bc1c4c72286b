"""Up to which size, and for which parameters, a chase survives: against rings of many layers and closed forms."""

from typing import Any

import numpy as np
import pytest

from nrjax import (
    AllToAll,
    Box,
    Shells,
    hanai2025_bilayer,
    largest_sample,
    spatial_stability,
    survival_edges,
)
from nrjax.rotation.survival import wave_factors
from tests.cells import growth_apart
from tests.refusal import assert_refused


def growth_in_a_ring(magnet, n):
    """Of deviations in a ring of n cells whose exchange is the mean over three neighbours."""
    return growth_apart(magnet, (np.eye(n) + np.roll(np.eye(n), 1, 0) + np.roll(np.eye(n), -1, 0)) / 3.0)


def test_the_largest_sample_is_where_a_ring_falls_apart():
    """Waves along one axis are the longest: a cube falls apart where a ring of as many cells does."""
    magnet = hanai2025_bilayer(0.066, 6.0)
    n = largest_sample(magnet, Box(1), most=12)
    assert 3 <= n < 8
    stable, unstable = growth_in_a_ring(magnet, n), growth_in_a_ring(magnet, n + 1)
    assert stable < 1e-6 and unstable > 1e-2
    expected = spatial_stability(magnet, wave_factors(Box(1), 2, n + 1)[1:, 0, 0])
    assert unstable == pytest.approx(float(expected.fastest_growth_rate), abs=1e-5)
    # Slow precession: nothing grows.
    assert largest_sample(hanai2025_bilayer(0.066, 6.0, gyro=0.25), Box(1), most=6) == 6
    assert largest_sample(magnet, AllToAll(), most=5) == 5


def test_factors_of_a_box():
    """(1 + 2 cos q)/3 along each axis; 0 for every wave where all see all."""
    q = 2.0 * np.pi * np.arange(6) / 6
    along = (1.0 + 2.0 * np.cos(q)) / 3.0
    expected = along[:, None, None] * along[None, :, None] * along[None, None, :]
    np.testing.assert_allclose(wave_factors(Box(1), 2, 6), expected, atol=1e-12)
    np.testing.assert_allclose(wave_factors(AllToAll(), 2, 4).ravel(), np.eye(1, 64)[0], atol=1e-12)


@pytest.mark.long
def test_edges_take_what_boundaries_take():
    """Arrays among the other arguments, as `boundary` takes them."""
    given: Any = dict(loss_rate=np.array([0.0, 0.066]), interlayer_exchange=6.0)
    (edge,) = survival_edges(hanai2025_bilayer, "gyro", (0.5, 1.5), **given)
    (same,) = survival_edges(hanai2025_bilayer, "gyro", (0.5, 1.5), loss_rate=0.066, interlayer_exchange=6.0)
    assert edge == pytest.approx(same, rel=1e-12)


def critical_gyros():
    return survival_edges(hanai2025_bilayer, "gyro", (0.05, 2.0), loss_rate=0.066, interlayer_exchange=6.0)


def test_the_critical_gyro():
    """At the published point between 0.25 and 2; there, and only there, the fastest deviation changes sign."""
    edges = critical_gyros()
    assert edges.size >= 1 and 0.25 < edges[0] < 2.0
    for edge in edges:
        beside = [
            float(spatial_stability(hanai2025_bilayer(0.066, 6.0, gyro=edge * s)).fastest_growth_rate)
            for s in (1 - 1e-6, 1 + 1e-6)
        ]
        assert beside[0] * beside[1] < 0 and max(map(abs, beside)) < 1e-5


@pytest.mark.long
def test_gyro_and_all_rates_together_change_nothing():
    """Times are in units of the precession."""
    slower = survival_edges(
        lambda gyro: hanai2025_bilayer(0.033, 6.0, gyro=gyro, damping=(0.05, 0.001)), "gyro", (0.025, 1.0)
    )
    np.testing.assert_allclose(slower, 0.5 * critical_gyros(), rtol=1e-9)


def test_bad_samples_are_refused():
    magnet = hanai2025_bilayer(0.066, 6.0)
    assert_refused(lambda: largest_sample(magnet, Box(3), most=5), ["most = 5", "Raise"])
    assert_refused(lambda: largest_sample(magnet, Shells(layers=2), most=5), ["Shells", "Box or AllToAll"])
    assert_refused(lambda: survival_edges(hanai2025_bilayer, "gyro", (2.0, 1.0)), ["(2, 1)", "smaller value first"])
