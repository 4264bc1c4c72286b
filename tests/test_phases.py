import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

from nrjax import Phase, Solution, classify_trajectory
from nrjax.motion.rigid_rotation import leading_pair

TIMES = np.linspace(0.0, 100.0, 400)


def solution(ms, valid=True):
    return Solution(
        jnp.asarray(TIMES), jnp.asarray(ms), diffrax.RESULTS.successful, {"num_steps": 1}, jnp.asarray(valid)
    )


def moments(length_a, length_b, angle, rate=0.3):
    """Two moments with given lengths and angle, turning about z."""
    turn = rate * TIMES
    one, zero = np.ones_like(TIMES), np.zeros_like(TIMES)
    a = np.stack([np.cos(turn), np.sin(turn), zero], axis=1) * (length_a * one)[:, None]
    b = np.stack([np.cos(turn + angle), np.sin(turn + angle), zero], axis=1) * (length_b * one)[:, None]
    return np.stack([a, b], axis=1)


@pytest.mark.parametrize(
    "ms, phase",
    [
        (moments(0.8, 0.5, 0.0, rate=0.0), Phase.ALIGNED),
        (moments(0.8, 0.5, np.pi, rate=0.0), Phase.ANTIALIGNED),
        (moments(0.8, 0.5, 1.2), Phase.CHIRAL),
        (moments(0.8, 0.5, 1.2 + 0.3 * np.sin(0.9 * TIMES)), Phase.MODULATED),
        (moments(0.5 + 0.2 * np.sin(0.9 * TIMES), 0.5, 1.2), Phase.MODULATED),
        # Lengths that repeat while a small tilt grows: the motion will end.
        (moments(0.5 + 0.2 * np.sin(0.9 * TIMES), 0.5, 1e-3 * np.exp(TIMES / 60), rate=0.0), Phase.UNRESOLVED),
        (moments(0.5 + 0.2 * np.sin(0.9 * TIMES), 0.5, 1e-3, rate=0.0), Phase.MODULATED),
        (moments(0.8 * np.exp(-TIMES / 5), 0.5 * np.exp(-TIMES / 5), 1.0), Phase.PARAMAGNETIC),
        (moments(0.2 + 0.004 * TIMES, 0.5, 1.2), Phase.UNRESOLVED),
        (moments(0.5, 0.5, 1.2 + 0.3 * np.exp(-TIMES / 50) * np.sin(0.9 * TIMES)), Phase.UNRESOLVED),
    ],
)
def test_classification_of_known_motions(ms, phase):
    told = classify_trajectory(solution(ms))
    assert int(told.phase) == phase and phase.name in str(told)


def test_averages():
    told = classify_trajectory(solution(moments(0.8, 0.5, 1.2)))
    np.testing.assert_allclose(told.lengths, [0.8, 0.5], rtol=1e-12)
    assert float(told.angle) == pytest.approx(1.2, rel=1e-9)


def test_a_failed_trajectory_is_unresolved():
    assert int(classify_trajectory(solution(moments(0.8, 0.5, 0.0), valid=False)).phase) == Phase.UNRESOLVED


def test_too_few_times():
    ms = jnp.zeros((4, 2, 3))
    few = Solution(jnp.arange(4.0), ms, diffrax.RESULTS.successful, {}, jnp.asarray(True))
    with pytest.raises(ValueError, match="16"):
        classify_trajectory(few)


def test_numbers_of_the_phases_are_fixed():
    assert {p.name: p.value for p in Phase} == {
        "PARAMAGNETIC": 0, "ALIGNED": 1, "ANTIALIGNED": 2, "CHIRAL": 3, "MODULATED": 4, "UNRESOLVED": -1
    }  # fmt: skip


def test_the_leading_pair_is_the_first_two_of_many():
    m = np.array([[0.3, -0.2, 0.6], [-0.1, 0.45, 0.2], [0.5, 0.5, -0.1]])
    pair, cross = leading_pair(jnp.asarray(m)), np.cross(m[0], m[1])
    lengths = np.linalg.norm(m, axis=1)
    np.testing.assert_allclose(pair.angle, np.arccos(m[0] @ m[1] / lengths[0] / lengths[1]), rtol=1e-12)
    np.testing.assert_allclose(pair.normal, cross / np.linalg.norm(cross), rtol=1e-12)
    np.testing.assert_allclose(
        [pair.first, pair.second, pair.product], [*lengths[:2], m[0] @ m[1]], rtol=1e-12, atol=1e-16
    )
    flat = leading_pair(jnp.asarray(m[:, :2]))
    np.testing.assert_allclose(flat.normal, [0.0, 0.0, np.sign(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])], atol=1e-12)
    for single in (m[:1], m * np.array([[1.0], [0.0], [1.0]])):
        alone = leading_pair(jnp.asarray(single))
        assert float(alone.angle) == 0.0 and float(alone.cosine) == pytest.approx(1.0)
