import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import Lattice, chemical_potential, layer_exchange, layer_susceptibility, pair_exchange, susceptibility
from tests import differences
from tests.refusal import assert_refused
from tests.systems import microscopic

LATTICES = {
    "chain": Lattice.chain(12, 1.0),
    "square": Lattice.square(4, 1.0),
    "cubic": Lattice.cubic(3, 1.0),
    "layered": Lattice.layered(3, 5, 1.0, 0.4),
}


def response(hopping, temperature, mu):
    """d<s_z(i)>/dB_j by fourth-order differences of a diagonalized lattice."""
    n = len(hopping)
    h = 0.02 * temperature
    chi = np.empty((n, n))
    for j in range(n):
        unit = np.eye(n)[j]
        chi[:, j] = differences.slope(
            lambda b, unit=unit: microscopic.spin_polarization(hopping, temperature, mu, b * unit), 0.0, h
        )
    return chi


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_against_a_diagonalized_lattice(name, temperature):
    lattice = LATTICES[name]
    expected = response(np.asarray(lattice.hopping_matrix()), temperature, -0.4)
    scale = np.abs(expected).max()
    dense = susceptibility(lattice.hopping_matrix(), temperature, fermi_energy=-0.4)
    np.testing.assert_allclose(dense, expected, atol=1e-6 * scale)
    np.testing.assert_allclose(dense, dense.T, atol=1e-14 * scale)
    fast = susceptibility(lattice, temperature, fermi_energy=-0.4)
    np.testing.assert_allclose(fast.ravel(), expected[0], atol=1e-6 * scale)


def test_complex_hopping():
    rng = np.random.default_rng(0)
    hopping = rng.normal(size=(7, 7)) + 1j * rng.normal(size=(7, 7))
    hopping = hopping + hopping.conj().T
    expected = response(hopping, 0.5, 0.2)
    chi = susceptibility(hopping, 0.5, fermi_energy=0.2)
    np.testing.assert_allclose(chi, expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(np.asarray(chi).dtype, np.float64)


def test_chain_asymptotics():
    """chi(R) -> cos(2 k_F R) / (4 pi v_F R), damped by x/sinh x with x = 2 pi T R/v_F: period pi/k_F."""
    temperature, filling = 0.006, 0.37
    k = 0.5 * np.pi * filling
    v = 2.0 * np.sin(k)
    r = np.arange(40, 160)
    chi = np.asarray(susceptibility(Lattice.chain(2000, 1.0), temperature, filling=filling))[r]
    x = 2.0 * np.pi * temperature * r / v
    expected = np.cos(2.0 * k * r) / (4.0 * np.pi * v * r) * x / np.sinh(x)
    assert np.linalg.norm(chi - expected) < 0.03 * np.linalg.norm(expected)
    wave_numbers = np.linspace(0.5, 1.5, 1001) * 2 * k
    weight = np.abs(np.exp(1j * np.outer(wave_numbers, r)) @ (chi * r))
    assert wave_numbers[weight.argmax()] == pytest.approx(2.0 * k, rel=5e-3)


def test_cubic_asymptotics():
    """Along an axis chi(R) -> -v_F cos(2 k_F R) / (64 pi^3 t^2 R^3) x/sinh x: the caliper of the Fermi surface."""
    temperature, mu = 0.04, -4.9
    k = np.arccos(-mu / 2.0 - 2.0)
    v = 2.0 * np.sin(k)
    r = np.arange(6, 14)
    chi = np.asarray(susceptibility(Lattice.cubic(48, 1.0), temperature, fermi_energy=mu))[r, 0, 0]
    x = 2.0 * np.pi * temperature * r / v
    # Free electrons: [sin y - y cos y] instead of -y cos y, with y = 2 k_F R.
    y = 2.0 * k * r
    expected = v / (64.0 * np.pi**3 * r**3) * (np.sin(y) / y - np.cos(y)) * x / np.sinh(x)
    assert np.linalg.norm((chi - expected) * r**3) < 0.15 * np.linalg.norm(expected * r**3)


def test_exchange_oscillates_with_the_spacer():
    """Between layers the in-plane momentum is conserved: the wave number is the caliper 2 k_F of the Fermi surface,
    read on whole layers, so that 2 k_F and 2 pi - 2 k_F look the same."""
    lattice = Lattice.layered(64, 64, 1.0, 1.0)
    chi = layer_susceptibility(lattice, 0.03, filling=0.3)
    j = np.array([float(layer_exchange([-1.0, -1.0], chi, (d,))[0, 1]) for d in range(2, 16)])
    distance = np.arange(3, 17)
    mu = float(chemical_potential(lattice.energies(), 0.03, 0.3))
    caliper = 2.0 * np.arccos(-mu / 2.0 - 2.0)
    expected = min(caliper, 2.0 * np.pi - caliper)
    wave_numbers = np.linspace(0.3, np.pi, 1001)
    weight = np.abs(np.exp(1j * np.outer(wave_numbers, distance)) @ (j * distance**2))
    assert wave_numbers[weight.argmax()] == pytest.approx(expected, rel=0.05)
    assert (np.diff(np.sign(j)) != 0).sum() >= 6


def test_layers_are_stacked_along_the_last_axis():
    """Hopping 1 within a layer, 0.4 from layer to layer; the energies are those of the same bonds."""
    hops = np.asarray(LATTICES["layered"].hopping_matrix()).reshape(3, 3, 5, 3, 3, 5)[0, 0, 0]
    assert hops[1, 0, 0] == hops[0, 2, 0] == -1.0 and hops[0, 0, 1] == hops[0, 0, 4] == -0.4
    assert hops.sum() == pytest.approx(-4.8) and float(LATTICES["layered"].energies()[0, 0, 0]) == pytest.approx(-4.8)


def test_layers_are_sums_over_sites():
    lattice = LATTICES["layered"]
    chi = np.asarray(susceptibility(lattice.hopping_matrix(), 0.5, filling=0.8)).reshape(lattice.shape * 2)
    summed = chi.sum(axis=(3, 4))[0, 0]
    expected = summed[0] - np.eye(5)[0] * chi[0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(layer_susceptibility(lattice, 0.5, filling=0.8), expected, rtol=1e-9, atol=1e-15)


def test_exchange_of_pairs_and_layers():
    chi = susceptibility(LATTICES["square"].hopping_matrix(), 0.5)
    g = np.array([-2.0, -3.0, 1.0])
    j = pair_exchange(g, chi, [0, 5, 11])
    np.testing.assert_allclose(j, j.T)
    np.testing.assert_allclose(np.diag(j), 0.0)
    assert float(j[0, 1]) == pytest.approx(6.0 * float(chi[0, 5]))
    layers = jnp.asarray([0.3, 0.2, -0.1, 0.05, 0.01, 0.02, 0.03, 0.04])
    np.testing.assert_allclose(
        layer_exchange(g, layers, (1, 0)),
        [[1.2, -0.6, -0.1], [-0.6, 2.7, -0.6], [-0.1, -0.6, 0.3]],
    )


def test_half_filling_and_filling():
    energies = LATTICES["square"].energies()
    assert float(chemical_potential(energies, 0.5, 1.0)) == pytest.approx(0.0, abs=1e-12)
    mu = chemical_potential(energies, 0.5, 0.3)
    occupation = 1.0 / (1.0 + np.exp((np.asarray(energies) - float(mu)) / 0.5))
    assert 2.0 * occupation.mean() == pytest.approx(0.3, rel=1e-12)


def test_derivatives():
    def chi(x):
        return susceptibility(Lattice.layered(6, 6, x[0], x[1]), x[2], filling=x[3])[0, 1, 2]

    x = jnp.asarray([1.0, 0.6, 0.4, 0.7])
    forward, reverse = jax.jit(jax.jacfwd(chi))(x), jax.jit(jax.grad(chi))(x)
    np.testing.assert_allclose(forward, differences.slopes(chi, x, 1e-3), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)


def test_a_bad_lane_spoils_no_other():
    """Fillings and temperatures that no band has: NaN there, and nowhere else."""
    fillings, temperatures = jnp.asarray([0.7, 2.5, 0.0, jnp.nan, 0.8]), jnp.asarray([1.0, 1.0, 1.0, 1.0, -1.0])
    chain = LATTICES["chain"]
    found = jax.vmap(lambda n, t: susceptibility(chain, t, filling=n)[1])(fillings, temperatures)
    np.testing.assert_allclose(found[0], susceptibility(chain, 1.0, filling=0.7)[1], rtol=1e-12)
    assert np.isnan(found[1:]).all()
    known = jax.vmap(lambda t: susceptibility(chain, t, fermi_energy=0.1)[1])(temperatures)
    np.testing.assert_array_equal(np.isnan(known), np.asarray(temperatures) < 0)


def test_a_band_narrower_than_rounding():
    """A flat one, whose chemical potential is eps + T log(n/(2 - n)), in single precision."""
    with jax.enable_x64(False):
        found = chemical_potential(jnp.full(4, 1e5), 1.0, 1.2)
    np.testing.assert_allclose(found, 1e5 + np.log(1.2 / 0.8), rtol=1e-7)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: susceptibility(np.array([[0.0, 1.0], [2.0, 0.0]]), 1.0), ["not Hermitian", "(0, 1)"]),
        (lambda: susceptibility(np.ones((2, 3)), 1.0), ["(2, 3)", "square"]),
        (lambda: susceptibility(np.full((2, 2), np.nan), 1.0), ["NaN"]),
        (lambda: susceptibility(LATTICES["chain"], 0.0), ["temperature", "greater than 0"]),
        (lambda: susceptibility(LATTICES["chain"], 1.0, filling=2.5), ["filling", "2.5"]),
        (lambda: Lattice.chain(2, 1.0), ["shape", "3 or greater"]),
        (lambda: layer_exchange([-1.0, -1.0], jnp.ones(8), (4,)), ["6 layers high", "10 layers"]),
        (lambda: layer_exchange([-1.0, -1.0], jnp.ones(8), (1, 1)), ["spacers", "1 whole"]),
    ],
)
def test_bad_input(make, words):
    assert_refused(make, words)
