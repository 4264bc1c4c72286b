"""Stability of a uniform chase in space, against magnets of two cells: four layers that may come apart."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nrjax
from nrjax import (
    LayeredMagnet,
    Phase,
    SpatialGrowth,
    UniaxialAnisotropy,
    hanai2025_bilayer,
    simulate,
    spatial_stability,
    steady_state,
)
from tests.cells import coupled_cells, halves, turning_jacobian
from tests.refusal import assert_refused

# Loss rate, exchange and gyro, factor, growth rate of two cells in meV (simulations from outside).
CELLS = [
    (0.066, 2.0, 0.79, 0.1561),
    (0.066, 2.0, 0.9157, 0.1185),
    (0.05, 2.0, 0.8, 0.2089),
    (0.066, 0.25, 0.79, -0.0931),
]


@pytest.mark.parametrize(
    ("loss", "gyro", "factor", "measured"),
    [cell if cell in (CELLS[0], CELLS[3]) else pytest.param(*cell, marks=pytest.mark.long) for cell in CELLS],
)
def test_two_cells_come_apart(loss, gyro, factor, measured):
    """The growth rate is that of a trajectory of four layers which starts next to the uniform chase."""
    magnet = hanai2025_bilayer(loss, 6.0, gyro=gyro)
    state = steady_state(magnet)
    found = spatial_stability(magnet, [factor, 1.0], state)
    assert bool(found.stable) == (measured < 0)
    four, m, omega = coupled_cells(magnet, halves(factor)), state.m, state.angular_velocity
    together = jnp.concatenate([m, m])
    np.testing.assert_allclose(four.vector_field(0.0, together), jnp.cross(omega[None, :], together), atol=1e-12)
    # All of its modes: those of both cells alike, and those of one against the other.
    modes, vectors = np.linalg.eig(turning_jacobian(four, together, omega))
    apart = np.linalg.norm(vectors[:6] + vectors[6:], axis=0) < 1e-6
    assert apart.sum() == 6
    modes, vectors = modes[apart], vectors[:6, apart]
    assert float(found.growth_rate[0]) == pytest.approx(np.real(modes).max(), rel=1e-9)
    assert float(found.growth_rate[0]) == pytest.approx(measured, abs=0.004)
    # A trajectory along that mode: the difference of the cells after whole turns of it, in the frame that turns.
    which = np.argmax(np.real(modes))
    turn = 2.0 * np.pi / abs(modes[which].imag) if abs(modes[which].imag) > 1e-6 else 1.0
    times = np.array([0.0, max(1, np.round(8.0 / turn)) * turn])
    mode = 1e-5 * np.real(vectors[:, which]).reshape(2, 3)
    start = jnp.concatenate([m + mode, m - mode])
    ms = simulate(four, start, times[-1] / nrjax.units.ps, saveat=times / nrjax.units.ps, rtol=1e-12, atol=1e-15).ms
    difference = np.linalg.norm(np.asarray(ms[:, :2] - ms[:, 2:]).reshape(2, -1), axis=1)
    rate = np.log(difference[1] / difference[0]) / (times[1] - times[0])
    assert float(found.growth_rate[0]) == pytest.approx(rate, rel=1e-6)


def test_the_published_point_loses_its_chase_in_space():
    """Figures from outside: the fastest factor and its rate, the band, and the slope of long waves."""
    magnet = hanai2025_bilayer(0.066, 6.0)
    found = spatial_stability(magnet, np.linspace(0.01, 1.0, 100))
    assert int(steady_state(magnet).phase) == Phase.CHIRAL and not bool(found.stable)
    assert float(found.fastest) == pytest.approx(0.79, abs=0.011)
    assert float(found.fastest_growth_rate) == pytest.approx(0.1574, abs=2e-4)
    assert float(found.band[0]) == pytest.approx(0.33, abs=0.015) and float(found.band[1]) == pytest.approx(0.99)
    # 5.54 at 1 - f = 1e-4, from outside; the derivative itself below.
    assert float(spatial_stability(magnet, [0.9999]).growth_rate[0]) / 1e-4 == pytest.approx(5.54, abs=0.005)
    assert float(found.growth_rate[-1]) == pytest.approx(float(steady_state(magnet).growth_rate), rel=1e-12)
    assert "UNSTABLE in space" in str(found)
    assert float(spatial_stability(hanai2025_bilayer(0.05, 6.0)).fastest_growth_rate) == pytest.approx(0.222, abs=1e-3)
    slow = spatial_stability(hanai2025_bilayer(0.066, 6.0, gyro=0.25))
    assert bool(slow.stable) and np.isnan(slow.band).all() and "stable in space" in str(slow)


@pytest.mark.parametrize(
    "magnet",
    [
        hanai2025_bilayer(0.066, 6.0),
        hanai2025_bilayer(0.066, 6.0, gyro=0.25),
        hanai2025_bilayer(0.12, 6.0),
        hanai2025_bilayer(0.01, 5.0, field=[0.0, 0.0, 0.5]),
        LayeredMagnet([[8.0]], 0.1, -10.0, 0.0, 1.0, 3.0, anisotropy=UniaxialAnisotropy(-1.0)),
    ],
    ids=["chase", "slow chase", "paramagnet", "field", "easy plane"],
)
def test_the_slope_of_long_waves_is_a_derivative(magnet):
    """Against first-order perturbation theory of the spectrum at f = 1, whatever the uniform mode does."""
    state = steady_state(magnet)
    around = jax.jacfwd(lambda others: magnet.rates_among(state.m, others))(state.m).reshape(2 * (state.m.size,))
    modes, right = np.linalg.eig(turning_jacobian(magnet, state.m, state.angular_velocity))
    moved = np.einsum("ij,jk,ki->i", np.linalg.inv(right), -np.asarray(around), right).real
    rates = np.real(modes)
    first = rates > rates.max() - 1e-9
    assert float(spatial_stability(magnet).slope) == pytest.approx(moved[first].max(), rel=1e-5)


def test_derivatives_of_the_slope():
    """Also where three free rotations share the real part 0."""

    def slope_of(loss):
        return spatial_stability(hanai2025_bilayer(loss, 6.0)).slope

    step = 1e-5
    for loss in (0.066, 0.12):
        expected = (float(slope_of(loss + step)) - float(slope_of(loss - step))) / (2.0 * step)
        assert float(jax.grad(slope_of)(loss)) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_darkness_is_stable_and_has_the_modes_of_spin_waves():
    """Without light and damping of one layer alone: ferromagnetic layers, every wave decays, long ones slowly."""
    found = spatial_stability(hanai2025_bilayer(0.0, 6.0))
    assert bool(found.stable) and float(found.slope) < 0
    assert np.all(np.diff(np.asarray(found.growth_rate[:-1])) > 0)
    paramagnet = spatial_stability(hanai2025_bilayer(0.0, 0.0, temperature=30.0), [0.5, 1.0])
    # Small moments: W(m = 0) with the exchange of the wave.
    magnet = hanai2025_bilayer(0.0, 0.0, temperature=30.0)
    rates = magnet.exchange_rates() * 0.5 - jnp.diag(magnet.free_relaxation())
    assert float(paramagnet.growth_rate[0]) == pytest.approx(float(jnp.linalg.eigvals(rates).real.max()), rel=1e-9)


@pytest.mark.long
def test_other_magnets_keep_their_terms_to_themselves():
    """In a field along z, one layer: the wave's exchange is a share, the field is not: -2 alpha phi + 2 alpha f j, and
    precession does not matter to the rate. Three layers and a light of its own work as well."""
    field, alpha, j = 4.0, 0.05, 3.0
    magnet = LayeredMagnet([[j]], alpha, -10.0, 0.0, 1.0, 2.0, field=[[0.0, 0.0, field]])
    state = steady_state(magnet)
    length = float(state.lengths[0])
    h = field + j * length
    found = spatial_stability(magnet, [0.3, 1.0], state)
    relaxation = float(magnet.bath.relaxation_rate(jnp.asarray(h**2), jnp.asarray(2.0)))
    assert float(found.growth_rate[0]) == pytest.approx(2.0 * alpha * (0.3 * j - relaxation), rel=1e-9)
    three = LayeredMagnet(np.full((3, 3), 3.0), 0.1, -10.0, [0.0, 0.02, 0.0], 1.0, 2.0)
    assert bool(spatial_stability(three).stable)
    lit = nrjax.illuminated_bilayer(2.4e10, 1560.0)
    assert not bool(spatial_stability(lit).stable)


def test_derivatives_and_batches():
    """By the loss rate against differences, and many magnets at once."""

    def rate(loss):
        return spatial_stability(hanai2025_bilayer(loss, 6.0), [0.79, 1.0]).growth_rate[0]

    step = 1e-5
    difference = (rate(0.06 + step) - rate(0.06 - step)) / (2 * step)
    assert float(jax.grad(rate)(0.06)) == pytest.approx(float(difference), rel=1e-5)
    losses = jnp.asarray([0.01, 0.05, 0.066, 0.2])
    many = jax.jit(jax.vmap(lambda x: spatial_stability(hanai2025_bilayer(x, 6.0), [0.5, 0.79])))(losses)
    each = [spatial_stability(hanai2025_bilayer(x, 6.0), [0.5, 0.79]) for x in losses]
    np.testing.assert_allclose(many.growth_rate, jnp.stack([x.growth_rate for x in each]), rtol=1e-8, atol=1e-12)


def test_as_an_observable():
    axes = {"loss_rate": np.array([0.0, 0.05, 0.066, 0.12]), "interlayer_exchange": [6.0]}
    data = nrjax.sweep(hanai2025_bilayer, axes, observe=["phase", SpatialGrowth(factors=(0.5, 0.79))], progress=False)
    expected = spatial_stability(hanai2025_bilayer(0.066, 6.0), [0.5, 0.79]).fastest_growth_rate
    assert float(data["spatial_growth_rate"][2, 0]) == pytest.approx(float(expected), rel=1e-9)
    assert data["spatial_growth_rate"].attrs["units"] == "meV" and float(data["spatial_growth_rate"][0, 0]) < 0


def test_bad_input():
    magnet = hanai2025_bilayer(0.05, 6.0)
    assert_refused(lambda: spatial_stability(magnet, [0.5, 1.5]), ["factors", "1.5", "-1 to 1"])
    assert_refused(lambda: spatial_stability(magnet, []), ["factors", "(0,)"])
    unknown = eqx.tree_at(lambda s: s.valid, steady_state(magnet), jnp.asarray(False))
    nothing = spatial_stability(magnet, [0.5], unknown)
    assert np.isnan(nothing.growth_rate).all() and not bool(nothing.stable) and "no rigid state" in str(nothing)
