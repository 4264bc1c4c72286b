"""What a chase grows from: the tilt that is left when the light comes on."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import gammaln

from nrjax import (
    ClassicalBath,
    LayeredMagnet,
    Solution,
    Square,
    hanai2025_bilayer,
    illuminated_bilayer,
    instantaneous_frequency,
    simulate,
    steady_state,
    units,
)
from tests.refusal import assert_refused


def seed_tilt(solution: Solution) -> float:
    """What the chase has grown from."""
    assert solution.seed_tilt is not None
    return float(solution.seed_tilt)


def settled_at(solution, frequency):
    """The time (ps) from which on the chase stays within one per cent of a frequency (GHz)."""
    away = np.abs(np.asarray(instantaneous_frequency(solution).chase) / frequency - 1.0) > 0.01
    return float(solution.ts[np.flatnonzero(away)[-1]])


@pytest.mark.computes
def test_the_start_of_the_chase_depends_on_no_tolerance():
    """Light after 200 ps of darkness, in which the tilt decays far below every tolerance."""
    pulsed = illuminated_bilayer(2.65e10, 1550.0, envelope=Square(200.0, 2000.0, 1.0))
    dark = steady_state(pulsed.without_light()).m + jnp.asarray([[0.0, 0.0, 0.0], [1e-3, 0.0, 0.0]])
    frequency, times = float(steady_state(pulsed).chase_frequency), np.linspace(0.0, 1000.0, 1001)
    starts = {}
    for spins in (1e6, 1e14):
        for rtol in (1e-7, 1e-9):
            solution = simulate(pulsed, dark, 1000.0, saveat=times, rtol=rtol, spins=spins)
            assert not bool(solution.seeded_by_rounding)
            starts[spins, rtol] = settled_at(solution, frequency)
    assert starts[1e6, 1e-7] == starts[1e6, 1e-9] and starts[1e14, 1e-7] == starts[1e14, 1e-9]
    # Fewer spins tilt more, and chase sooner.
    assert 210.0 < starts[1e6, 1e-9] < starts[1e14, 1e-9] - 50.0 < 800.0


def least_tilt(j, alpha, temperature, lit, dark, start, tilt, switch, stop):
    """The least |m_A x m_B| / |m_A|^2 of collinear lengths (a, b), from d ln c/dt = trace W, by DOP853."""

    def rates(light):
        g, gamma = light

        def of(t, y):
            m, h = y[:2], j @ y[:2]
            r = 2 * alpha * h / np.tanh(h / temperature) + gamma
            w = (2 * alpha + 2 * gamma / g)[:, None] * j - np.diag(r)
            return [*(w @ m), np.trace(w)]

        return of

    options: Any = dict(method="DOP853", rtol=1e-12, atol=1e-14, dense_output=True)
    off = solve_ivp(rates(dark), (0, switch), [*start, np.log(tilt)], **options)
    on = solve_ivp(rates(lit), (switch, stop), off.y[:, -1], **options)
    times = np.linspace(switch, stop, 20001)
    a, _, log = on.sol(times)
    return float(np.min(log - 2 * np.log(np.abs(a))))


def test_the_tilt_decays_by_its_own_equation():
    """A tilt falls through 45 decades of darkness, at a tolerance that resolves five."""
    magnet = illuminated_bilayer(2.65e10, 1550.0, envelope=Square(60.0, 200.0, 1e-3))
    rest = steady_state(magnet.without_light())
    m0 = rest.m + jnp.asarray([[0.0, 0.0, 0.0], [0.0, 1e-4, 0.0]])
    with pytest.warns(UserWarning, match="spins=N"):
        solution = simulate(magnet, m0, 100.0, rtol=1e-5)
    lit, dark = ((np.asarray(x.sd_coupling), np.asarray(x.loss_rate)) for x in (magnet, magnet.without_light()))
    expected = least_tilt(
        np.asarray(magnet.exchange), np.asarray(magnet.damping), 9.0, lit, dark, np.asarray(rest.lengths),
        float(jnp.linalg.norm(jnp.cross(*m0))), (60.0 + 5e-4) * units.ps, 100.0 * units.ps,
    )  # fmt: skip
    assert expected < -100.0
    assert np.log(seed_tilt(solution)) == pytest.approx(expected, abs=0.01)
    assert not bool(solution.seeded_by_rounding) and "grown from a tilt of" in str(solution)


@pytest.mark.parametrize("alpha", [(0.1, 0.002), (0.01, 0.05)])
def test_thermal_tilt_is_boltzmann_s(alpha):
    """Two rigid layers of N classical spins, exp(-E/T), E = -N j m_A.m_B: <|m_A x m_B|^2> = 2 T m_A m_B/(N j)."""
    spins, temperature, j = 1e8, 2.0, 1.5
    magnet = LayeredMagnet([[8.0, j], [j, 9.0]], alpha, -10.0, 0.0, 1.0, temperature, bath=ClassicalBath())
    rest = steady_state(magnet)
    time = 12.0 / -float(rest.growth_rate) / units.ps
    assert float(rest.lengths[1]) > float(rest.lengths[0])
    for start in (rest.m, rest.m + jnp.asarray([[0.0, 0.0, 0.0], [3e-3, 0.0, 0.0]])):
        solution = simulate(magnet, start, time, saveat=[0.0, time], rtol=1e-9, atol=1e-12, spins=spins)
        begin, end = solution.ms
        # What is added at the start is a tilt of the size of chance, 1e-4.
        np.testing.assert_allclose(begin, start, atol=1e-3)
        squared = float(jnp.sum(jnp.cross(*end) ** 2))
        a, b = (float(x) for x in rest.lengths)
        assert squared == pytest.approx(2.0 * temperature * a * b / (spins * j), rel=1e-3)


def exact_tilt(count, exchange, temperature):
    """N <|m_A x m_B|^2> of two layers of N spins 1/2, H = -N (m_A j_AA m_A + m_B j_BB m_B + 2 m_A j_AB m_B)/2 with
    m = sum sigma/N: the total spins A, B and J of the layers and of both are conserved, and summed over."""
    (j_a, j_ab), (_, j_b) = exchange
    spin = np.arange(0, count // 2 + 1.0)
    lower = count / 2 - spin
    # (N choose k) - (N choose k - 1) multiplets of k = N/2 - J turned spins.
    ways = gammaln(count + 1) - gammaln(lower + 1) - gammaln(count - lower + 1)
    ways = ways + np.log((2 * spin + 1) / (count - lower + 1))
    a, b, below = np.meshgrid(spin, spin, np.arange(count + 1.0), indexing="ij")
    total = a + b - below
    square_a, square_b, square = (4 * x * (x + 1) / count**2 for x in (a, b, total))
    product = (square - square_a - square_b) / 2
    log = ways[:, None, None] + ways[None, :, None] + np.log(np.maximum(2 * total + 1, 1e-9))
    log = log + count * (j_a * square_a / 2 + j_b * square_b / 2 + j_ab * product) / temperature
    weight = np.where(total >= np.abs(a - b), np.exp(log - log.max()), 0.0)
    return count * np.sum(weight * (square_a * square_b - product**2)) / weight.sum()


@pytest.mark.parametrize("alpha, here", [((0.1, 0.002), 3.55), ((0.002, 0.1), 2.85)])
def test_spins_one_half_do_not_tilt_as_in_equilibrium(alpha, here):
    """Their noise is that of single spins at every frequency, which drives slow motions more than heat does, by phi/T
    at most. The numbers are those of docs/physics.md."""
    spins, temperature, exchange = 1e8, 9.0, [[10.0, 6.0], [6.0, 5.0]]
    magnet = LayeredMagnet(exchange, alpha, -10.0, 0.0, 1.0, temperature)
    rest = steady_state(magnet)
    time = 12.0 / -float(rest.growth_rate) / units.ps
    end = simulate(magnet, rest.m, time, rtol=1e-9, atol=1e-12, spins=spins).ms[-1]
    found = spins * float(jnp.sum(jnp.cross(*end) ** 2))
    few, more = exact_tilt(60, exchange, temperature), exact_tilt(120, exchange, temperature)
    exact = 2.0 * more - few
    slow = 2.0 * temperature * float(jnp.prod(rest.lengths)) / exchange[0][1]
    field = np.array(exchange) @ np.asarray(rest.lengths) / temperature
    excess = field / np.tanh(field)
    assert exact == pytest.approx(2.96, abs=0.02) and found == pytest.approx(here, abs=0.01)
    assert slow == pytest.approx(2.13, abs=0.01) and slow < exact
    assert slow * excess.min() < found < slow * excess.max()
    np.testing.assert_allclose(sorted(excess), [1.3, 1.7], atol=0.05)


@pytest.mark.computes
def test_rounding_that_seeds_a_chase_is_said():
    """A magnet whose tilt has no equation of its own: darkness leaves less than the tolerance resolves."""
    pulsed = illuminated_bilayer(2.65e10, 1550.0, envelope=Square(150.0, 900.0, 1.0), anisotropy=1e-7)
    start = jnp.asarray([[0.01, 0.0, 0.9], [0.0, 0.01, 0.75]])
    with pytest.warns(UserWarning, match="accident of rounding"):
        solution = simulate(pulsed, start, 800.0)
    assert bool(solution.seeded_by_rounding) and seed_tilt(solution) < 1e-6
    assert "rounding" in str(solution)
    lit = hanai2025_bilayer(0.05, 6.0, anisotropy=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick = simulate(lit, start, 100.0)
    assert not bool(quick.seeded_by_rounding)
    # Where no tilt grows, the one at the start is told.
    dark = simulate(hanai2025_bilayer(0.0, 6.0), start, 10.0)
    expected = np.linalg.norm(np.cross(*np.asarray(start))) / np.max(np.sum(np.asarray(start) ** 2, axis=1))
    assert seed_tilt(dark) == pytest.approx(expected, rel=1e-9)


def test_spins_need_an_equation_for_the_tilt():
    start = jnp.asarray([[0.01, 0.0, 0.9], [0.0, 0.01, 0.75]])
    field = hanai2025_bilayer(0.05, 6.0, field=[0.0, 0.0, 0.1])
    assert_refused(lambda: simulate(field, start, 1.0, spins=1e6), ["spins", "two layers", "key=", "deviation"])
    assert_refused(lambda: simulate(hanai2025_bilayer(0.05), start, 1.0, spins=0.5), ["spins = 0.5", "1 or greater"])
