import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import Boundary, Phase, boundary, branches, hanai2025_bilayer, steady_state, tilt_modes
from nrjax.rotation.boundaries import boundaries_along
from tests.magnets import magnet_of
from tests.systems.bilayer import UNEQUAL, Bilayer


def test_reference_boundary_points():
    exchange = boundary(
        hanai2025_bilayer, Boundary.ANTIALIGNED_CHIRAL, "interlayer_exchange", (0.1, 12.0), loss_rate=0.05
    )
    light = boundary(hanai2025_bilayer, Boundary.ANTIALIGNED_CHIRAL, "loss_rate", (0.0, 0.12), interlayer_exchange=6.0)
    np.testing.assert_allclose(exchange, [3.352034332], rtol=1e-9)
    np.testing.assert_allclose(light, [0.0227023022], rtol=1e-8)


@pytest.mark.parametrize("j_ab", [4.5, 6.0, 11.0])
def test_paramagnetic_boundary_does_not_depend_on_the_exchange(j_ab):
    point = boundary(
        hanai2025_bilayer, Boundary.CHIRAL_PARAMAGNETIC, "loss_rate", (0.0, 0.12), interlayer_exchange=j_ab
    )
    np.testing.assert_allclose(point, [0.092], rtol=1e-12)


def unequal(gamma_b):
    """The unequal bilayer with another light on B; the light on A stays."""
    return replace(UNEQUAL, loss_rate=jnp.stack([jnp.full_like(gamma_b, 0.01), gamma_b]))


def test_boundaries_of_layers_that_have_nothing_in_common():
    """Both lit: B's torque turns at gamma_B jm_BA/|g_B| = alpha_B j_BA, moments melt where
    sum_a 2 alpha_a (j_aa - T_a) + 2 gamma_a jm_aa/g_a - gamma_a n_a = 0, and the chase begins where trace W = 0."""

    def line(kind):
        return boundary(lambda gamma_b: magnet_of(unequal(gamma_b)), kind, "gamma_b", (0.0, 0.2))

    np.testing.assert_allclose(line(Boundary.ALIGNED_ANTIALIGNED), [0.003 * 5.0 * 8.0 / 4.5], rtol=1e-12)
    constant = 0.2 * (10.0 - 9.0) - 0.02 * 8.0 / 10.0 - 0.01 * 0.9 + 0.006 * (5.0 - 8.5)
    np.testing.assert_allclose(line(Boundary.CHIRAL_PARAMAGNETIC), [constant / (2.0 * 4.0 / 8.0 + 1.1)], rtol=1e-12)
    (onset,) = line(Boundary.ANTIALIGNED_CHIRAL)
    oracle = unequal(np.asarray(onset))
    oracle = replace(oracle, loss_rate=np.asarray(oracle.loss_rate))
    a, b = oracle.collinear((0.4, -0.02))
    assert a * b < 0 and abs(np.trace(oracle.rates(abs(a), abs(b), -1.0))) < 1e-12
    assert line(Boundary.ALIGNED_CHIRAL).size == 0
    # The range is searched to its end.
    ends = boundary(hanai2025_bilayer, Boundary.CHIRAL_PARAMAGNETIC, "loss_rate", (0.0, 0.09201))
    np.testing.assert_allclose(ends, [0.092], rtol=1e-12)


def test_no_chiral_state_no_chiral_boundary():
    """Without light trace W(0) vanishes at T = 9.902 meV, where a real eigenvalue is still positive: nothing melts
    there, and nothing chases. Moments vanish where (j_AA - T)(j_BB - T) = j_AB^2: T = 14 meV; the other solution of
    that, 1 meV, is no boundary, for there the trace is positive."""

    def line(kind):
        return boundary(lambda t: hanai2025_bilayer(0.0, 6.0, temperature=t), kind, "t", (0.5, 30.0))

    assert line(Boundary.CHIRAL_PARAMAGNETIC).size == 0
    np.testing.assert_allclose(line(Boundary.COLLINEAR_PARAMAGNETIC), [14.0], rtol=1e-12)


def test_reversal_of_the_torque():
    point = boundary(hanai2025_bilayer, Boundary.ALIGNED_ANTIALIGNED, "loss_rate", (0.0, 0.12), interlayer_exchange=5.0)
    np.testing.assert_allclose(point, [2e-3 * 10.0], rtol=1e-12)


def test_collinear_states_lose_their_order_where_the_determinant_vanishes():
    (j_ab,) = boundary(
        hanai2025_bilayer, Boundary.COLLINEAR_PARAMAGNETIC, "interlayer_exchange", (0.5, 12.0), loss_rate=0.1
    )
    w = Bilayer().with_light(0.1, float(j_ab)).rates(0.0, 0.0, 1.0)
    assert abs(np.linalg.det(w)) < 1e-12
    below, above = (steady_state(hanai2025_bilayer(0.1, j_ab * f)) for f in (0.99, 1.01))
    assert int(below.phase) == Phase.ANTIALIGNED and int(above.phase) == Phase.PARAMAGNETIC


def test_no_crossing_and_bad_range():
    assert boundary(hanai2025_bilayer, Boundary.ALIGNED_ANTIALIGNED, "loss_rate", (0.03, 0.12)).size == 0
    with pytest.raises(ValueError, match="smaller value first"):
        boundary(hanai2025_bilayer, Boundary.ALIGNED_ANTIALIGNED, "loss_rate", (0.12, 0.0))


WRONG_KINDS = """
import nrjax
for kind in ("ANTIALIGNED_CHIRAL", 1):
    for ask in (
        lambda: nrjax.boundary(nrjax.hanai2025_bilayer, kind, "loss_rate", (0.0, 0.12), interlayer_exchange=6.0),
        lambda: nrjax.indicator(nrjax.hanai2025_bilayer(), kind),
    ):
        try:
            print("found", ask())
        except ValueError as error:
            print(error)
"""


def test_what_is_no_boundary_is_not_one_that_is_not_crossed():
    """In a process whose annotations are not checked, as users have it."""
    said = subprocess.run([sys.executable, "-c", WRONG_KINDS], capture_output=True, text=True, check=True).stdout
    lines = said.splitlines()
    assert len(lines) == 4 and all("no boundary" in line and "Boundary.ANTIALIGNED_CHIRAL" in line for line in lines)
    assert "'ANTIALIGNED_CHIRAL'" in lines[0] and lines[2].startswith("1 is")


def test_exceptional_point_without_precession():
    (j_ab,) = boundary(
        hanai2025_bilayer, Boundary.ANTIALIGNED_CHIRAL, "interlayer_exchange", (0.1, 12.0), loss_rate=0.05
    )
    oracle = Bilayer().with_light(0.05, float(j_ab))
    a, b = oracle.collinear((0.35, -0.06))
    assert a * b < 0
    m = jnp.asarray([[0.0, 0.0, a], [0.0, 0.0, b]])
    frozen = np.asarray(tilt_modes(hanai2025_bilayer(0.05, j_ab, gyro=0.0), m))
    size = np.abs(frozen).max()
    # Jordan block: both eigenvalues vanish, the square of the matrix vanishes, the matrix does not.
    assert np.abs(frozen @ frozen).max() < 1e-9 * size**2 and size > 1e-2
    left, right = np.linalg.eig(frozen)[1].T
    assert abs(np.vdot(left, right)) > 1 - 1e-6

    # With precession the second one turns at gyro (j_BA m_A + j_AB m_B).
    oracle = replace(UNEQUAL, loss_rate=np.array([0.01, 0.03]))
    a, b = oracle.collinear((0.4, -0.02))
    turning = np.linalg.eigvals(np.asarray(tilt_modes(magnet_of(oracle), jnp.asarray([[0, 0, a], [0, 0, b]]))))
    expected = np.trace(oracle.rates(abs(a), abs(b), -1.0)) - 2j * (5.0 * a + 7.0 * b)
    order = np.argsort(np.abs(turning))
    np.testing.assert_allclose(turning[order], [0.0, expected], atol=1e-9)


def test_second_tilt_mode_has_the_trace_of_w():
    state = steady_state(hanai2025_bilayer(0.05, 2.0))
    modes = np.linalg.eigvals(np.asarray(tilt_modes(hanai2025_bilayer(0.05, 2.0), state.m)))
    w = Bilayer().with_light(0.05, 2.0).rates(float(state.lengths[0]), float(state.lengths[1]), -1.0)
    assert np.abs(modes.real).min() < 1e-12
    assert modes.real.min() == pytest.approx(np.trace(w), rel=1e-9)


def test_growth_rate_is_the_spectrum_of_the_full_equation():
    # The 6 x 6 Jacobian in the co-rotating frame, less the modes of a common rotation.
    melted = Bilayer().with_light(0.12, 6.0)
    for system, zero_modes in ((UNEQUAL, 3), (replace(UNEQUAL, loss_rate=np.array([0.01, 0.03])), 2), (melted, 0)):
        magnet = magnet_of(system)
        state = steady_state(magnet)
        omega = state.angular_velocity

        def rest(flat, magnet=magnet, omega=omega):
            m = flat.reshape(2, 3)
            return (magnet.vector_field(0.0, m) - jnp.cross(omega[None, :], m)).ravel()

        spectrum = np.linalg.eigvals(np.asarray(jax.jacfwd(rest)(state.m.ravel())))
        real = np.sort(spectrum.real)[::-1]
        np.testing.assert_allclose(real[:zero_modes], 0.0, atol=1e-10)
        assert float(state.growth_rate) == pytest.approx(real[zero_modes], rel=1e-7)


def test_branches_hold_the_attractor_and_the_unstable_states():
    stable, *unstable = branches(hanai2025_bilayer(0.05, 6.0))
    assert int(stable.phase) == Phase.CHIRAL and bool(stable.valid)
    np.testing.assert_allclose(stable.chase_frequency, steady_state(hanai2025_bilayer(0.05, 6.0)).chase_frequency)
    assert [int(s.phase) for s in unstable] == [Phase.PARAMAGNETIC] and not any(bool(s.valid) for s in unstable)
    assert all(float(s.residual) < 1e-12 for s in (stable, *unstable))


@pytest.mark.parametrize(
    "oracle",
    [
        Bilayer().with_light(0.0, 3.0),
        Bilayer().with_light(0.05, 1.0),
        Bilayer().with_light(0.03, 3.6),
        replace(UNEQUAL, loss_rate=np.array([0.01, 0.03])),
        replace(UNEQUAL, loss_rate=np.array([0.05, 0.004])),
    ],
)
def test_branches_find_what_scipy_finds(oracle):
    found = {(round(float(s.lengths[0]), 6), round(float(s.lengths[1] * np.cos(s.angle)), 6))
             for s in branches(magnet_of(oracle)) if int(s.phase) in (1, 2)}  # fmt: skip
    expected = set()
    for guess in ((x, y) for x in (0.2, 0.5, 0.9) for y in (-0.8, -0.3, -0.05, 0.05, 0.3, 0.8)):
        try:
            a, b = oracle.collinear(guess)
        except AssertionError:
            continue
        if (
            abs(a) > 1e-3
            and abs(b) > 1e-4
            and np.abs(oracle.rates(abs(a), abs(b), np.sign(a * b)) @ [a, b]).max() < 1e-10
        ):
            expected.add((round(abs(a), 6), round(b * np.sign(a), 6)))
    assert expected == found


@pytest.mark.parametrize("oracle", [UNEQUAL, UNEQUAL.relabelled()], ids=["unequal", "relabelled"])
def test_the_chiral_branch_of_layers_that_are_both_lit(oracle):
    chiral = branches(magnet_of(oracle))[0]
    assert int(chiral.phase) == Phase.CHIRAL and bool(chiral.valid)
    expected = oracle.chiral((float(chiral.lengths[0]), float(np.cos(chiral.angle))))
    np.testing.assert_allclose([*chiral.lengths, np.cos(chiral.angle)], expected[:3], rtol=1e-8)


def test_branches_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="simulate"):
        branches(hanai2025_bilayer(field=[0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="damping of layer 0"):
        branches(hanai2025_bilayer(damping=[0.0, 0.1]))
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda g: branches(hanai2025_bilayer(g, 5.0))[0].angle)(0.01)


def test_several_boundaries_at_once_are_each_by_itself():
    """Along a line that crosses all of one kind or another: the roots of every kind, and no other's."""
    kinds = tuple(Boundary)
    together = boundaries_along(hanai2025_bilayer, kinds, "loss_rate", (0.0, 0.12), {"interlayer_exchange": 6.0})
    each = [boundary(hanai2025_bilayer, kind, "loss_rate", (0.0, 0.12), interlayer_exchange=6.0) for kind in kinds]
    assert sum(len(roots) > 0 for roots in each) >= 3
    for found, alone in zip(together, each, strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-14)
