"""Light in Mott insulators: published layer states, a theorem that forbids the chase, and one that does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import (
    ClassicalBath,
    CorotatingSolver,
    HundLight,
    LayeredMagnet,
    MottLight,
    Phase,
    SpinLattice,
    exposure,
    linewidth,
    simulate,
    spatial_stability,
    steady_state,
    steady_states,
    units,
)
from nrjax.presets import hund_bilayer, mott_bilayer
from tests.refusal import assert_refused


def mott(exchange, rate, damping=(0.1, 0.002), **options):
    return LayeredMagnet(
        [[10.0, exchange], [exchange, 5.0]], damping, temperature=9.0, light=MottLight(rate), **options
    )


def hund(j_aa, g1, y=0.0, damping=(0.1, 0.1), **options):
    light = HundLight(3.0 * g1, g1, g1, y)
    return LayeredMagnet([[j_aa, 0.1], [0.1, 10.0]], damping, temperature=9.0, light=light, **options)


PUBLISHED = [
    (mott_bilayer(0.02, -0.5), (0.4545257670, 0.2156005019, 0.9515996741, 0.0116627444)),
    (mott_bilayer(), (0.4219734707, 0.1028953210, 0.5107292840, 0.0775675613)),
    (hund_bilayer(), (0.3128835583, 0.4039309369, -0.0095986799, 0.0774560985)),
    (hund(10.2, 0.05), (0.3113120406, 0.4755369969, 0.3312111095, 0.0432391989)),
]


@pytest.mark.parametrize(("magnet", "expected"), PUBLISHED)
def test_published_states(magnet, expected):
    """By the shape, and by time integration with precession, which knows nothing of it."""
    state = steady_state(magnet)
    found = [*state.lengths, jnp.cos(state.angle), state.chase_frequency * units.GHz]
    np.testing.assert_allclose(np.array(found, float), expected, rtol=0, atol=1e-9)
    assert int(state.phase) == Phase.CHIRAL and bool(state.valid) and float(state.residual) < 1e-10
    end = simulate(magnet, np.asarray(state.m) + 0.01, 2000.0)
    lengths = np.linalg.norm(end.ms[-1], axis=1)
    cosine = end.ms[-1, 0] @ end.ms[-1, 1] / lengths.prod()
    np.testing.assert_allclose([*lengths, cosine], expected[:3], atol=2e-6)


@pytest.mark.long
def test_the_price_of_other_solvers():
    """The general solver, stability in space and the linewidth take any light; Y changes no shape."""
    with_y, without = hund(10.6, 0.08, 0.02), hund(10.6, 0.08)
    one, other = steady_state(with_y), steady_state(without)
    np.testing.assert_allclose(one.lengths, other.lengths, rtol=1e-12)
    np.testing.assert_allclose(one.chase_frequency, other.chase_frequency, rtol=1e-10)
    assert abs(float(one.rotation_frequency - other.rotation_frequency)) > 1e-3
    general = steady_state(with_y, np.asarray(one.m), solver=CorotatingSolver())
    np.testing.assert_allclose(general.rotation_frequency, one.rotation_frequency, rtol=1e-8)
    for magnet in (with_y, mott(-2.0, 0.03)):
        grown = spatial_stability(magnet, jnp.array([0.5, 0.9]))
        assert np.isfinite(np.asarray(grown.growth_rate)).all()
        assert float(linewidth(magnet).fwhm) > 0


def test_edges_of_the_mott_chase():
    """Where the tilt opens and where order dies, j_AB = -2: published to all digits."""
    opened = [int(steady_state(mott(-2.0, rate)).phase) for rate in (0.0096, 0.0098)]
    assert opened == [Phase.ALIGNED, Phase.CHIRAL]
    alive = [int(steady_state(mott(-2.0, rate), throw=False).phase) for rate in (0.0915, 0.0925)]
    assert alive == [Phase.CHIRAL, Phase.PARAMAGNETIC]
    # trace W(0) = 0.2 (10 - 9) + 0.004 (5 - 9) - 2 Gamma.
    assert (0.2 - 0.016) / 2 == pytest.approx(0.092)
    np.testing.assert_allclose(steady_state(mott(-2.0, 0.0919999)).chase_frequency * units.GHz, 0.1191973154, rtol=1e-4)


@pytest.mark.long
def test_equal_damping_never_chases_where_light_is_reciprocal():
    """Of 10,000 random Mott bilayers of equal damping none; of Hund bilayers of equal damping some."""
    keys = jax.random.split(jax.random.key(3), 5)
    number = 10_000

    def uniform(key, low, high):
        return jax.random.uniform(key, (number,), minval=low, maxval=high)

    a, b = uniform(keys[0], 2.0, 15.0), uniform(keys[1], 2.0, 15.0)
    across, light = uniform(keys[2], -8.0, 8.0), uniform(keys[3], 0.0, 0.3)
    damping = 10.0 ** uniform(keys[4], -3.0, -0.5)

    def made(light_of):
        def one(a, b, across, light, damping):
            exchange = jnp.stack([jnp.stack([a, across]), jnp.stack([across, b])])
            return LayeredMagnet(exchange, damping, temperature=9.0, light=light_of(light))

        return jax.vmap(one)(a, b, across, light, damping)

    mott_phases = np.asarray(steady_states(made(MottLight)).phase)
    hund_phases = np.asarray(steady_states(made(lambda g: HundLight(3.0 * g, g, g))).phase)
    assert (mott_phases == Phase.CHIRAL).sum() == 0 and (mott_phases == Phase.UNRESOLVED).mean() < 0.01
    assert (hund_phases == Phase.CHIRAL).sum() > 20


def test_total_moment():
    """A Mott insulator's light keeps it, a Hund insulator's does not."""
    m = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))

    def of_light(magnet):
        matrix, loss = magnet.light_torque()
        rates = matrix @ m - loss[:, None] * m
        more = magnet.light.precession(magnet.exchange)
        return rates if more is None else rates + jnp.cross(m, more @ m)

    np.testing.assert_allclose(jnp.sum(of_light(mott(-2.0, 0.03)), axis=0), 0.0, atol=1e-15)
    rates = of_light(hund(10.0, 0.05, 0.02))
    np.testing.assert_allclose(rates[0], -0.15 * m[0] - 0.05 * m[1], atol=1e-15)
    np.testing.assert_allclose(rates[1], 0.05 * (m[0] - m[1]) - 0.02 * jnp.cross(m[0], m[1]), atol=1e-15)


def test_numbers_of_a_hund_pair():
    light = HundLight.of(0.05, 0.9, 1.9, 0.2)
    found = [light.g0, light.g1, light.g2, light.y]
    np.testing.assert_allclose(found, [4.9184745991e-4, 1.1790863765e-4, 4.2110227732e-5, 8.4220455464e-6], rtol=1e-10)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: MottLight([[0.1, 0.1], [0.1, 0.0]]), ["diagonal", "0.1"]),
        (lambda: MottLight([0.1, 0.2]), ["hop_rate", "(2,)"]),
        (lambda: MottLight(-0.1), ["hop_rate", "-0.1"]),
        (lambda: HundLight(-1.0, 0.0, 0.0), ["g0", "-1"]),
        (lambda: LayeredMagnet(np.eye(3), 0.1, temperature=9.0, light=HundLight(0.1, 0.1, 0.1)).light_torque(), ["3"]),
        (lambda: LayeredMagnet(np.eye(3), 0.1, temperature=9.0, light=MottLight(0.1)).light_torque(), ["(2, 2)"]),
        (lambda: exposure(mott(-2.0, 0.03), jnp.ones((2, 3))), ["no laser"]),
        (lambda: SpinLattice(hund(10.0, 0.05, 0.02, bath=ClassicalBath()), (2, 2, 2)), ["HundLight", "turns"]),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)
