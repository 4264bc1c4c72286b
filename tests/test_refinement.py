"""Refined maps against the full ones, and the pieces of a refinement by themselves."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nrjax
from nrjax import LayeredMagnet, Phase, hanai2025_bilayer, sweep
from nrjax.maps.refinement import Cells, Refinement
from nrjax.rotation.rigid_states import unknown_state
from tests.refusal import assert_refused

AXES = {"loss_rate": np.linspace(0.0, 0.12, 65), "interlayer_exchange": np.linspace(0.0, 12.0, 49)}
FREQUENCIES = ("chase_frequency", "rotation_frequency")


def build(loss_rate, interlayer_exchange, exchange, back, damping, loss, temperature):
    rows = [[exchange[0], interlayer_exchange], [interlayer_exchange * back, exchange[1]]]
    matrix = jnp.stack([jnp.stack([jnp.asarray(x, float) for x in row]) for row in rows])
    rates = jnp.stack([jnp.asarray(loss, float), loss_rate])
    return LayeredMagnet(matrix, jnp.asarray(damping), -10.0, rates, 1.0, temperature)


def random_bilayer(seed):
    rng = np.random.default_rng(seed)
    return partial(
        build,
        exchange=rng.uniform(0, 12, 2),
        back=rng.choice([1.0, rng.uniform(-1.5, 1.5)]),
        damping=10 ** rng.uniform(-2.7, -0.7, 2),
        loss=rng.uniform(0, 0.1) * (rng.uniform() < 0.5),
        temperature=rng.uniform(3, 9),
    )


def at_boundary(phase):
    """Whether a point or one of its neighbours, across corners too, lies beside another phase."""
    padded = np.pad(phase, 1, mode="edge")
    (n, m), edge = phase.shape, np.zeros(phase.shape, bool)
    for i in range(3):
        for j in range(3):
            edge |= padded[i : i + n, j : j + m] != phase
    return edge


def require_same(refined, full):
    """Labels but for points at a boundary, and all numbers of valid states."""
    phase = full["phase"].values
    different = refined["phase"].values != phase
    assert not (different & ~at_boundary(phase)).any()
    same = ~different & full["valid"].values
    np.testing.assert_array_equal(refined["valid"].values[same], True)
    assert float(refined["residual"].values[same].max(initial=0.0)) < 1e-9
    for name in FREQUENCIES:
        np.testing.assert_allclose(refined[name].values[same], full[name].values[same], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(refined["lengths"].values[same], full["lengths"].values[same], rtol=1e-9, atol=1e-12)
    moving = (phase == Phase.MODULATED) | (phase == Phase.UNRESOLVED)
    np.testing.assert_array_equal(refined["result"].values[moving], full["result"].values[moving])


def test_the_reference_map():
    refined, full = (sweep(hanai2025_bilayer, AXES, refine=refine, progress=False) for refine in (True, False))
    require_same(refined, full)
    assert set(np.unique(full["phase"])) >= {Phase.PARAMAGNETIC, Phase.ALIGNED, Phase.CHIRAL}
    assert list(refined.data_vars) == list(full.data_vars) and refined.sizes == full.sizes
    # What it leaves out is said.
    assert 0 < refined.attrs["points_in_full"] < 0.3 * full["phase"].size and refined.attrs["refined_from"] == 16
    assert "may be missing" in refined.attrs["refined"] and "refined" not in full.attrs


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_random_maps(seed):
    axes = {"loss_rate": np.linspace(0.0, 0.15, 129), "interlayer_exchange": np.linspace(-8.0, 12.0, 129)}
    of = random_bilayer(seed)
    require_same(*(sweep(of, axes, refine=refine, progress=False) for refine in (True, False)))


@pytest.mark.long
def test_lines_and_three_axes():
    line = {"loss_rate": np.linspace(0.12, 0.0, 200)}
    of = partial(hanai2025_bilayer, interlayer_exchange=6.0)
    refined, full = (sweep(of, line, refine=refine, progress=False) for refine in (True, False))
    np.testing.assert_array_equal(refined["phase"], full["phase"])
    np.testing.assert_allclose(refined["chase_frequency"], full["chase_frequency"], rtol=1e-9, atol=1e-9)

    def lit(loss_rate, interlayer_exchange, temperature):
        return hanai2025_bilayer(loss_rate, interlayer_exchange, temperature=temperature)

    # One axis of a single point, one shorter than a cell.
    box = {"loss_rate": np.linspace(0.0, 0.12, 21), "interlayer_exchange": [6.0], "temperature": np.linspace(8, 9.5, 7)}
    refined, full = (sweep(lit, box, refine=refine, progress=False) for refine in (True, False))
    np.testing.assert_array_equal(refined["phase"], full["phase"])
    np.testing.assert_allclose(refined["angle"], full["angle"], rtol=1e-9, atol=1e-9)


def test_bad_points_and_stores(tmp_path):
    """A strip of NaN is flagged and spoils nothing; a store holds the refined map and tells it from the full one."""

    def broken(loss_rate, interlayer_exchange):
        bad = (interlayer_exchange > 5.0) & (interlayer_exchange < 5.3)
        return hanai2025_bilayer(jnp.where(bad, jnp.nan, loss_rate), interlayer_exchange)

    refined, full = (sweep(broken, AXES, refine=refine, progress=False) for refine in (True, False))
    assert (refined["result"] == 4).sum() == (full["result"] == 4).sum() > 0
    np.testing.assert_array_equal(refined["phase"], full["phase"])
    store = tmp_path / "map.nc"
    kept = sweep(hanai2025_bilayer, AXES, refine=True, store=store, progress=False)
    again = sweep(hanai2025_bilayer, AXES, refine=True, store=store, progress=False)
    np.testing.assert_array_equal(kept["chase_frequency"], again["chase_frequency"])
    assert again.attrs["points_in_full"] == kept.attrs["points_in_full"]
    with pytest.raises(ValueError, match="other input"):
        sweep(hanai2025_bilayer, AXES, store=store, progress=False)


def test_only_what_can_be_continued():
    in_field = partial(hanai2025_bilayer, field=[[0.0, 0.0, 0.1]] * 2)
    assert_refused(lambda: sweep(in_field, AXES, refine=True), ["refine = True", "isotropic bilayers"])
    assert_refused(
        lambda: sweep(hanai2025_bilayer, AXES, refine=True, observe=nrjax.steady_state), ["function of the model"]
    )


def test_cells_cover_the_grid():
    """Every point lies in a cell; halves of cells hold the same points; neighbours share their corners."""
    for shape in ((7,), (1,), (33, 17), (20, 1, 5)):
        cells = Cells.coarse(shape, 16)
        while True:
            points, cell = cells.inner(16)
            assert len(np.unique(points, axis=0)) == np.prod(shape) and cell.max() == len(cells) - 1
            assert (cells.corners.reshape(-1, len(shape)) >= 0).all()
            if not cells.are_filled.any():
                break
            cells = cells.halves()


def fake(phase_of, shape):
    """A refinement of states without physics: a phase for each point, and a length that is linear in the indices."""
    asked = []

    def states(flat):
        places = np.stack(np.unravel_index(flat, shape), axis=1).astype(float)
        length = 0.1 + 0.001 * places.sum(axis=1)
        blank = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], len(flat), 0), unknown_state(2, jnp.float64, 3))
        m = np.zeros((len(flat), 2, 3))
        m[:, :, 2] = length[:, None]
        values = (phase_of(places).astype(np.int32), np.ones(len(flat), bool), m, np.repeat(length[:, None], 2, 1))
        return eqx.tree_at(lambda s: (s.phase, s.valid, s.m, s.lengths), blank, values)

    def solve(flat):
        asked.append(flat)
        return states(flat)

    def extend(flat, near):
        # What is handed on has been interpolated exactly: the length is linear.
        found = states(flat)
        np.testing.assert_allclose(near.m, found.m, atol=1e-12)
        return eqx.tree_at(lambda s: s.phase, found, near.phase)

    return Refinement(shape, solve, extend, lambda points: None), asked


def test_work_grows_with_the_boundary():
    """A straight boundary across grids of twice the width: twice the points in full, apart from the coarse grid's."""
    counts = []
    for n in (129, 257, 513):
        refinement, asked = fake(lambda places, n=n: places[:, 0] + 0.5 * places[:, 1] > 0.7 * n, (n, n))
        states = refinement.run(16)
        places = np.stack(np.unravel_index(np.arange(n * n), (n, n)), axis=1)
        np.testing.assert_array_equal(states.phase, places[:, 0] + 0.5 * places[:, 1] > 0.7 * n)
        assert sum(map(len, asked)) == refinement.in_full.sum()
        counts.append(refinement.in_full.sum() - 2 * (n // 16) ** 2)
    assert 1.8 < counts[1] / counts[0] < 2.2 and 1.8 < counts[2] / counts[1] < 2.2


def test_a_middle_of_another_phase_is_noticed():
    """Corners of one phase around an island that holds the middle: the cell is cut, and the island found."""
    inside = lambda places: ((places - 8) ** 2).sum(axis=1) < 9  # noqa: E731
    refinement, _ = fake(inside, (17, 17))
    states = refinement.run(16)
    np.testing.assert_array_equal(states.phase, inside(np.stack(np.unravel_index(np.arange(289), (17, 17)), axis=1)))


def test_a_middle_on_another_branch_is_noticed():
    """The same where the island is a second branch of the same phase: only what the corners lead to tells it."""
    shape = (17, 17)
    places = np.stack(np.unravel_index(np.arange(289), shape), axis=1)
    length = 0.1 + 0.001 * places.sum(axis=1) + 0.2 * (((places - 8) ** 2).sum(axis=1) < 9)
    whole = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], 289, 0), unknown_state(2, jnp.float64, 3))
    m = np.zeros((289, 2, 3))
    m[:, :, 2] = length[:, None]
    values = (np.ones(289, np.int32), np.ones(289, bool), m, np.repeat(length[:, None], 2, 1))
    whole = eqx.tree_at(lambda s: (s.phase, s.valid, s.m, s.lengths), whole, values)

    def extend(flat, near):
        # On from where it is told to begin, whichever branch that is.
        found = jax.tree.map(lambda x: x[flat], whole)
        return eqx.tree_at(lambda s: (s.m, s.lengths), found, (near.m, near.m[:, :, 2]))

    refinement = Refinement(shape, lambda flat: jax.tree.map(lambda x: x[flat], whole), extend, lambda points: None)
    np.testing.assert_allclose(refinement.run(16).lengths, whole.lengths, atol=1e-12)
