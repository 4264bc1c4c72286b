"""What every bath, light and field term obeys, and what each is known to do. A new class joins by being added here."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy.spatial.transform import Rotation

from nrjax import (
    AbstractLight,
    BiaxialAnisotropy,
    BrillouinBath,
    ClassicalBath,
    Darkness,
    DzyaloshinskiiMoriya,
    GivenRates,
    Illumination,
    Laser,
    LayeredMagnet,
    LocalMoment,
    OpticalTransition,
    Phase,
    QuantumBath,
    UniaxialAnisotropy,
    continued,
    steady_state,
)
from nrjax.magnets import Zeeman
from tests import differences
from tests.refusal import assert_refused
from tests.systems.roots import root

M = jnp.asarray([[0.3, -0.2, 0.6], [-0.1, 0.45, 0.2]])
J = np.array([[10.0, 4.0], [3.0, 9.0]])

# Each bath with the Curie point of one layer, T_c/j.
ALL_BATHS = {
    "quantum": (QuantumBath(), 1.0),
    "classical": (ClassicalBath(), 1.0 / 3.0),
    "S = 1/2": (BrillouinBath(0.5), 1.0),
    "S = 5/2": (BrillouinBath(2.5), 3.5 / 7.5),
}
# Each term with the axis of the rotations that spare it; None if there is none.
ALL_FIELD_TERMS = {
    "field": (Zeeman(jnp.asarray([[0.3, 0.0, 0.4], [0.6, 0.0, 0.8]])), (0.6, 0.0, 0.8)),
    "uniaxial": (UniaxialAnisotropy([0.5, -0.3], (0.0, 1.0, 1.0)), (0.0, 1.0, 1.0)),
    "biaxial": (BiaxialAnisotropy([0.5, 0.2], [0.3, -0.1]), None),
    "interlayer DMI": (DzyaloshinskiiMoriya.reciprocal(2, {(0, 1): (0.0, 0.6, -0.8)}), (0.0, 0.6, -0.8)),
}


class SpinTransfer(AbstractLight):
    """Electrons of the second layer land in the first, and take their spin along."""

    rate: Float[Array, ""]

    def torque(self, exchange, filling):
        return self.rate * jnp.asarray([[0.0, 1.0], [0.0, 0.0]]), self.rate * jnp.asarray([0.0, 1.0])


JM = np.array([[7.0, 2.0], [1.5, 6.0]])
FILLING = np.array([1.0, 0.8])
MOMENTS = LocalMoment([-400.0, -300.0], 1000.0, [40.0, 30.0], OpticalTransition(1500.0, 1.0, 80.0))
LASER = Laser(2e10, 1480.0)


def in_a_metal(g, gamma):
    """Lambda and loss of light that empties doublons."""
    return (2.0 * np.asarray(gamma) / np.asarray(g))[:, None] * JM, np.asarray(gamma) * FILLING


# Each light with its Lambda and loss.
ALL_LIGHTS = {
    "rates": (
        GivenRates(jnp.asarray([-10.0, -8.0]), jnp.asarray([0.01, 0.03])),
        in_a_metal([-10.0, -8.0], [0.01, 0.03]),
    ),
    "laser": (
        Illumination(jax.tree.map(lambda x: jnp.broadcast_to(x, (2,)), MOMENTS), LASER),
        in_a_metal(MOMENTS.sd_coupling(LASER), MOMENTS.loss_rate(LASER)),
    ),
    "darkness": (Darkness(), (np.zeros((2, 2)), np.zeros(2))),
    "spin transfer": (SpinTransfer(jnp.asarray(0.02)), ([[0.0, 0.02], [0.0, 0.0]], [0.0, 0.02])),
}


# -- baths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_BATHS)
def test_a_layer_orders_below_its_curie_point(name):
    """Just below T_c a small moment grows, just above it dies out; far below the moment is that of the bath."""
    bath, curie = ALL_BATHS[name]
    for share, grows in ((0.999, True), (1.001, False)):
        magnet = LayeredMagnet([[10.0]], 0.1, -10.0, 0.0, 1.0, share * curie * 10.0, bath=bath)
        small = jnp.asarray([[0.0, 0.0, 1e-4]])
        assert (float(magnet.vector_field(0.0, small)[0, 2]) > 0.0) == grows
    temperature = jnp.asarray(0.4 * curie * 10.0)
    length = root(lambda m: m - float(bath.equilibrium_length(jnp.asarray(10.0 * m), temperature)), 0.1, 1.0)
    cold = LayeredMagnet([[10.0]], 0.1, -10.0, 0.0, 1.0, temperature, bath=bath)
    np.testing.assert_allclose(cold.vector_field(0.0, jnp.asarray([[0.0, length, 0.0]])), 0.0, atol=1e-12)


@pytest.mark.parametrize("name", ALL_BATHS)
def test_a_bath_inverts_itself_and_is_smooth(name):
    bath, _ = ALL_BATHS[name]
    h, temperature = jnp.asarray([0.05, 3.0, 9.0, 400.0]), jnp.full(4, 7.0)
    rate = bath.relaxation_rate(h**2, temperature)
    np.testing.assert_allclose(jnp.sqrt(bath.field_squared_at_rate(rate, temperature)), h, rtol=1e-8)
    assert (np.diff(rate) > 0).all() and float(bath.free_rate(temperature)[0]) < float(rate[0])
    for s in (0.0, 0.05, 2.0):
        f = lambda x: bath.reduced_rate(jnp.asarray(x))  # noqa: E731
        assert float(jax.grad(f)(s)) == pytest.approx(float(differences.slope(f, s, 1e-3 * (s + 0.01))), rel=1e-8)


def thermal_spin(spin, x):
    """<S_z>/S and <S_x^2>/S^2 of one spin with the weights exp(x M/S), summed over M."""
    m = np.arange(-spin, spin + 1.0)
    weights = np.exp(x * m / spin)
    z = np.sum(m * weights) / np.sum(weights)
    squared = np.sum(m**2 * weights) / np.sum(weights)
    return z / spin, 0.5 * (spin * (spin + 1.0) - squared) / spin**2


@pytest.mark.parametrize("spin", [0.5, 1.0, 2.5])
def test_brillouin_bath_is_the_sum_over_levels(spin):
    bath, temperature = BrillouinBath(spin), jnp.asarray(4.0)
    for x in (0.01, 0.4, 2.0, 12.0):
        h = jnp.asarray(4.0 * x)
        length, transverse = thermal_spin(spin, x)
        assert float(bath.equilibrium_length(h, temperature)) == pytest.approx(length, rel=1e-10)
        assert float(bath.transverse_variance(h**2, temperature)) == pytest.approx(transverse, rel=1e-10)
    assert float(bath.free_rate(temperature)) == pytest.approx(4.0 * 3.0 * spin / (spin + 1.0), rel=1e-12)


def test_brillouin_bath_between_its_limits():
    s, bath = jnp.asarray([0.0, 0.03, 1.0, 50.0]), BrillouinBath
    np.testing.assert_allclose(bath(0.5).reduced_rate(s), QuantumBath().reduced_rate(s), rtol=1e-12)
    np.testing.assert_allclose(bath(1e7).reduced_rate(s), ClassicalBath().reduced_rate(s), rtol=1e-6)
    assert_refused(lambda: bath(0.2), ["spin", "0.2", "1/2"])


# -- lights -----------------------------------------------------------------------------------------------------------


def under(light, **overrides):
    arguments = {"temperature": 7.0, "mediated_exchange": JM, "light": light} | overrides
    return LayeredMagnet(J, [0.1, 0.04], filling=FILLING, **arguments)


@pytest.mark.parametrize("name", ALL_LIGHTS)
def test_a_light_is_its_torque(name):
    """dm/dt lit and dark differ by Lambda m - loss m, for the magnet as a whole and layer by layer."""
    light, (push, loss) = ALL_LIGHTS[name]
    lit, dark = under(light), under(light).without_light()
    expected = np.asarray(push) @ np.asarray(M) - np.asarray(loss)[:, None] * np.asarray(M)
    np.testing.assert_allclose(lit.vector_field(0.0, M) - dark.vector_field(0.0, M), expected, atol=1e-15)
    by_layer = jnp.stack([jnp.stack(m) for m in lit.layer_vector_fields([tuple(m) for m in M])])
    np.testing.assert_allclose(by_layer, lit.vector_field(0.0, M), atol=1e-14)
    for found, wanted in zip(lit.light_torque(), (push, loss), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ALL_LIGHTS)
def test_light_on_all_of_the_exchange_is_light_on_that_exchange(name):
    """Left out, `mediated_exchange` is `exchange`: the same torque where one sum serves twice, beside a field."""
    light, field = ALL_LIGHTS[name][0], jnp.asarray([0.3, -0.1, 0.2])
    left_out, given = (under(light, mediated_exchange=jm, field=field) for jm in (None, J))
    expected = given.vector_field(0.0, M)
    np.testing.assert_allclose(left_out.vector_field(0.0, M), expected, atol=1e-14)
    by_layer = jnp.stack([jnp.stack(m) for m in left_out.layer_vector_fields([tuple(m) for m in M])])
    np.testing.assert_allclose(by_layer, expected, atol=1e-14)


def test_a_state_under_a_light_of_its_own():
    """Valid in the equation of motion, and with the derivative by the light's own number that differences give."""

    def length(rate):
        return continued(under(SpinTransfer(rate)), state).lengths[0]

    state = steady_state(under(SpinTransfer(jnp.asarray(0.02))))
    assert bool(state.valid) and state.phase == Phase.ALIGNED
    slope = float(jax.jit(jax.grad(length))(jnp.asarray(0.02)))
    assert slope > 0.1 and slope == pytest.approx(float(differences.slope(jax.jit(length), 0.02, 1e-4)), rel=1e-8)


def test_a_magnet_has_one_light():
    light = SpinTransfer(jnp.asarray(0.02))
    assert_refused(lambda: under(light, loss_rate=0.1), ["loss_rate", "0.1", "one light"])
    assert_refused(lambda: under(None), ["sd_coupling", "loss_rate", "light"])
    assert_refused(lambda: under(light, temperature=None), ["temperature", "missing"])
    assert_refused(lambda: under(light).loss_rate, ["loss_rate", "SpinTransfer", "light_torque"])
    assert isinstance(under(light).plateau().light, SpinTransfer)


# -- field terms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_FIELD_TERMS)
def test_a_term_by_layers_is_the_term(name):
    term, _ = ALL_FIELD_TERMS[name]
    rows = [tuple(m) for m in M]
    scalars = [jnp.stack(term.layer_field(layer, rows)) for layer in range(2)]
    np.testing.assert_allclose(jnp.stack(scalars), term.field(M), rtol=1e-14)
    plain, with_term = (LayeredMagnet(J, 0.1, -10.0, 0.02, 1.0, 7.0, terms=terms) for terms in ((), (term,)))
    added = with_term.effective_field(M) - plain.effective_field(M)
    np.testing.assert_allclose(added, term.field(M), atol=1e-14)


@pytest.mark.parametrize("name", ALL_FIELD_TERMS)
def test_the_axes_of_a_term_are_those_of_its_symmetry(name):
    """Rotations about its axis commute with a term; others do not."""
    term, axis = ALL_FIELD_TERMS[name]
    axes = np.asarray(term.axes(2))
    for direction in ((0.6, 0.0, 0.8), (0.0, 0.6, -0.8), (0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
        unit = np.asarray(direction) / np.linalg.norm(direction)
        turn = Rotation.from_rotvec(0.9 * unit).as_matrix()
        spared = np.allclose(term.field(M @ turn.T), np.asarray(term.field(M)) @ turn.T, atol=1e-12)
        told = np.allclose(np.cross(axes, unit), 0.0, atol=1e-12)
        assert spared == told == (axis is not None and np.allclose(np.cross(axis, unit), 0.0))


# The others are left to `make test-all`.
PAIRS = [("field", "quantum"), ("interlayer DMI", "S = 5/2")]


@pytest.mark.parametrize(
    "name, bath",
    [
        pytest.param(*pair, marks=() if pair in PAIRS else pytest.mark.long)
        for pair in itertools.product(ALL_FIELD_TERMS, ALL_BATHS)
    ],
)
def test_steady_state_with_every_term_and_bath(name, bath):
    """dm/dt = Omega x m in the equation of motion itself, and the growth rate is its spectrum without the modes of the
    rotations that spare the term."""
    (term, axis), (bath, curie) = ALL_FIELD_TERMS[name], ALL_BATHS[bath]
    magnet = LayeredMagnet(J, [0.1, 0.04], -10.0, [0.0, 0.002], 1.0, 6.0 * curie, terms=(term,), bath=bath)
    state = steady_state(magnet)
    omega = state.angular_velocity

    def rest(flat):
        m = flat.reshape(2, 3)
        return (magnet.vector_field(0.0, m) - jnp.cross(omega[None, :], m)).ravel()

    np.testing.assert_allclose(rest(state.m.ravel()), 0.0, atol=1e-9)
    spectrum = np.linalg.eigvals(np.asarray(jax.jacfwd(rest)(state.m.ravel())))
    real = np.sort(spectrum.real)[::-1]
    free = axis is not None and np.linalg.norm(np.cross(axis, state.m)) > 1e-6
    np.testing.assert_allclose(real[: int(free)], 0.0, atol=1e-8)
    assert bool(state.valid) and float(state.growth_rate) == pytest.approx(real[int(free)], rel=1e-6)


def test_resonance_of_a_biaxial_magnet():
    """About the easier axis a moment m precesses at gyro m sqrt(K1 (K1 - K2)): the mean of both stiffnesses."""
    first, second, length = 0.8, 0.3, 0.7
    term = BiaxialAnisotropy(first, second, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    magnet = LayeredMagnet([[5.0]], 0.0, -10.0, 0.0, 1.0, 9.0, terms=(term,))
    rates = jax.jacfwd(lambda m: magnet.vector_field(0.0, m[None])[0])(jnp.asarray([0.0, 0.0, length]))
    found = np.sort(np.linalg.eigvals(np.asarray(rates)).imag)[-1]
    assert found == pytest.approx(2.0 * length * np.sqrt(first * (first - second)), rel=1e-12)
    assert_refused(lambda: BiaxialAnisotropy(1.0, 1.0, (1.0, 0.0, 0.0), (1.0, 1.0, 0.0)), ["perpendicular"])


def test_interlayer_dmi_twists_the_layers():
    """Two equal layers with j and D along an axis: the energy -j cos + D sin of the angle from A to B is least at
    tan = -D/j, and each feels sqrt(j^2 + D^2) of the other."""
    j, d, own, temperature = 3.0, 2.0, 8.0, 7.0
    term = DzyaloshinskiiMoriya.reciprocal(2, {(0, 1): (0.0, 0.0, d)})
    state = steady_state(LayeredMagnet([[own, j], [j, own]], 0.1, -10.0, 0.0, 1.0, temperature, terms=(term,)))
    reach = own + np.hypot(j, d)
    expected = root(lambda m: m - np.tanh(reach * m / temperature), 0.1, 1.0)
    np.testing.assert_allclose(state.lengths, expected, rtol=1e-8)
    assert float(state.angle) == pytest.approx(np.arctan2(d, j), rel=1e-7)
    # From A to B against the right hand about D.
    assert float(jnp.cross(*state.m)[2]) == pytest.approx(-(expected**2) * d / np.hypot(j, d), rel=1e-6)
    assert_refused(lambda: DzyaloshinskiiMoriya([[1.0, 2.0]]), ["vectors", "(1, 2)", "(L, L, 3)"])
