import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from nrjax import Boundary, FokkerPlanckMagnet, Phase, boundary, design, hanai2025_bilayer, plot, simulate, sweep
from nrjax.plot import phase_maps
from nrjax.plot.style import AXIS_LABELS
from tests.magnets import classical_bilayer
from tests.refusal import assert_refused


def legend_texts(figure):
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_phase_diagram_shows_phases_and_exact_lines():
    axes = {"loss_rate": np.linspace(0, 0.12, 21), "interlayer_exchange": np.linspace(0.2, 12, 20)}
    figure = plot.phase_diagram(sweep(hanai2025_bilayer, axes, progress=False), hanai2025_bilayer)
    texts = legend_texts(figure)
    assert {"aligned", "antialigned", "chiral", "paramagnetic", "antialigned - chiral"} <= texts
    left = figure.axes[0]
    assert "meV" in left.get_xlabel() and "meV" in left.get_ylabel()
    # The drawn line is the closed form: its points solve the boundary equation.
    drawn = [c for c in left.collections if c.get_linestyle() and len(c.get_paths()) and hasattr(c, "levels")]
    points = np.concatenate([p.vertices for c in drawn for p in c.get_paths()])
    exact = boundary(hanai2025_bilayer, Boundary.ANTIALIGNED_CHIRAL, "interlayer_exchange", (0.2, 12), loss_rate=0.06)
    nearest = points[np.argsort(np.abs(points[:, 0] - 0.06))[:4]]
    assert np.abs(nearest[:, 1] - exact).min() < 2e-3


def test_boundaries_are_drawn_where_there_are_any():
    """Those of a magnet in a field would be another's; single spins have their own."""
    axes = {"loss_rate": np.linspace(0, 0.12, 4), "interlayer_exchange": np.linspace(0.2, 12, 3)}

    def in_a_field(loss_rate, interlayer_exchange):
        return hanai2025_bilayer(loss_rate, interlayer_exchange, field=[0.0, 0.0, 0.1])

    dataset = sweep(hanai2025_bilayer, axes, progress=False)
    with pytest.warns(UserWarning, match="No boundaries are drawn.* Zeeman"):
        assert not {"antialigned - chiral"} & legend_texts(plot.phase_diagram(dataset, in_a_field))


def test_boundaries_of_single_spins_are_drawn(monkeypatch):
    """The line of the distribution, at a few points, and not that of its closure."""
    monkeypatch.setattr(phase_maps, "SAMPLES_OF_SOLUTIONS", 21)

    def build(loss, exchange):
        return FokkerPlanckMagnet(bilayer(exchange, loss), 3)

    def bilayer(exchange, loss):
        magnet = classical_bilayer(1.0, 3.0, 0.0)
        matrix = jnp.asarray([[10.0, 0.0], [0.0, 5.0]]) + exchange * jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
        light = jnp.stack([jnp.zeros_like(loss), loss])
        return eqx.tree_at(lambda m: (m.exchange, m.light.loss_rate), magnet, (matrix, light))

    axes = {"loss": np.linspace(0.03, 0.04, 3), "exchange": np.linspace(3.2, 3.8, 3)}
    dataset = sweep(lambda loss, exchange: bilayer(exchange, loss), axes, progress=False)
    left = plot.phase_diagram(dataset, build).axes[0]
    drawn = [c for c in left.collections if c.get_linestyle() and len(c.get_paths()) and hasattr(c, "levels")]
    points = np.concatenate([p.vertices for c in drawn for p in c.get_paths()])
    (exact,) = boundary(build, Boundary.ANTIALIGNED_CHIRAL, "exchange", (3.2, 3.8), loss=0.035)
    assert np.abs(points[np.argsort(np.abs(points[:, 0] - 0.035))[:2], 1] - exact).min() < 2e-3


def test_another_sweep_is_drawn_beside():
    axes = {"loss_rate": np.linspace(0.0, 0.08, 5)}
    one, other = (
        sweep(lambda loss_rate, j=j: hanai2025_bilayer(loss_rate, j), axes, progress=False) for j in (6.0, 7.0)
    )
    figure = plot.characteristic(one, ["chase_frequency"], beside={"seven": other})
    solid, dashed = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines)
    chases = np.asarray(other.phase) == Phase.CHIRAL
    np.testing.assert_allclose(dashed[chases], other.chase_frequency.values[chases])
    assert solid[-1] == one.chase_frequency[-1] and "seven" in legend_texts(figure)
    with pytest.raises(ValueError, match="'plane' has axes"):
        plot.characteristic(one, beside={"plane": other.expand_dims("gyro")})


def test_trajectory_shows_space_shape_and_components():
    solution = simulate(hanai2025_bilayer(), [[0.1, 0.0, 0.8], [0.0, 0.2, 0.5]], 5.0, saveat=np.linspace(0, 5, 100))
    figure = plot.trajectory(solution, title="dark")
    labels = [axes.get_xlabel() for part in figure.subfigs for axes in part.axes]
    assert "time (ps)" in labels and "$m_x$" in labels
    lines = {
        line.get_label(): np.asarray(line.get_xydata())
        for part in figure.subfigs
        for a in part.axes
        for line in a.lines
    }
    ms = np.asarray(solution.ms)
    lengths = np.linalg.norm(ms, axis=2)
    np.testing.assert_allclose(lines["$|m_B|$"][:, 1], lengths[:, 1])
    np.testing.assert_allclose(lines[r"$\cos\theta$"][:, 1], np.sum(ms[:, 0] * ms[:, 1], axis=1) / lengths.prod(axis=1))
    np.testing.assert_allclose(lines["$m_y$"][:, 0], np.linspace(0, 5, 100)[-10:])


def test_errors():
    with pytest.raises(ValueError, match="two"):
        plot.phase_diagram(sweep(hanai2025_bilayer, {"loss_rate": [0.0, 0.05]}, progress=False))
    growth = xr.Dataset({"growth_rate": (("a", "b"), np.zeros((2, 2)))})
    with pytest.raises(ValueError, match="has growth_rate but no phase"):
        plot.phase_diagram(growth)
    with pytest.raises(ValueError, match="saveat"):
        plot.trajectory(simulate(hanai2025_bilayer(), [[0.1, 0.0, 0.8], [0.0, 0.2, 0.5]], 1.0))


def test_any_observable_is_drawn():
    axes = {"loss_rate": np.linspace(0, 0.12, 5), "interlayer_exchange": np.linspace(0.5, 12, 4)}
    dataset = sweep(hanai2025_bilayer, axes, progress=False)
    figure = plot.phase_diagram(dataset, observable="growth_rate")
    mesh = figure.axes[1].collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()), dataset.growth_rate.values.T)
    assert any(axes.get_ylabel() == "growth rate (meV)" for axes in figure.axes)
    assert_refused(lambda: plot.phase_diagram(dataset, observable="lengths"), ["lengths", "single number", "angle"])
    line = dataset.isel(interlayer_exchange=2)
    panels = plot.characteristic(line, ["angle", "chase_frequency", "growth_rate"]).axes
    assert [axes.get_ylabel().split("\n")[0].split(" $")[0] for axes in panels] == [
        "angle",
        "chase frequency",
        "growth rate (meV)",
    ]
    np.testing.assert_allclose(np.asarray(panels[0].lines[0].get_ydata()), line.angle)
    # Weakly coupled layers go from aligned to antialigned, and through no angle in between.
    weak = dataset.isel(interlayer_exchange=0)
    steps = [
        np.diff(y)
        for y in (weak.angle.values, np.asarray(plot.characteristic(weak, ["angle"]).axes[0].lines[0].get_ydata()))
    ]
    assert np.max(steps[0]) == np.pi and not np.any(steps[1] > 3.0) and np.isfinite(steps[1]).any()


def test_a_design_lies_where_its_parameters_are():
    """Whatever the order of the map's axes, and not over a map of others."""
    bounds = {"loss_rate": (0.03, 0.07), "interlayer_exchange": (5.0, 7.0)}
    result = design(hanai2025_bilayer, None, 40.0, bounds=bounds, restarts=2, steps=40, progress=False)
    axes = {name: np.linspace(*bounds[name], 3) for name in reversed(bounds)}
    plane = plot.design(result, sweep(hanai2025_bilayer, axes, progress=False), None).axes[1]
    assert [plane.get_xlabel(), plane.get_ylabel()] == [AXIS_LABELS[name] for name in axes]
    star = np.asarray(plane.lines[-1].get_xydata())
    np.testing.assert_allclose(star, [[result.parameters[name] for name in axes]])
    other = sweep(hanai2025_bilayer, {"loss_rate": [0.03, 0.05], "gyro": [1.0, 2.0]}, progress=False)
    assert_refused(lambda: plot.design(result, other, None), ["gyro", "interlayer_exchange", "sweep over"])
