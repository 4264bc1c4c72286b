"""The plan of an experiment: its arithmetic, and what it says could kill it."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants

from nrjax import (
    Gaussian,
    Phase,
    ThermalModel,
    experiment,
    exposure,
    hanai2025_bilayer,
    illuminated_bilayer,
    plot,
    simulate,
    steady_state,
    turns,
)
from nrjax.cli import design_command
from nrjax.inverse import AboveOnset, EnoughElectrons, MaxTemperature, MinTurns, NarrowLine, StableInSpace
from tests.refusal import assert_refused


def test_the_published_point_would_not_be_seen():
    magnet, thermal = illuminated_bilayer(2.65e10, 1550.0), ThermalModel.gadolinium(10.0, 9.0)
    plan = experiment(magnet, thermal, duration=100.0)
    # 2.65e10 W/cm^2 for 100 ps; power per site over site volume is the intensity over the depth.
    assert float(plan.fluence) == pytest.approx(2.65e10 * 100e-12 * 1e3, rel=1e-12)
    watts = np.mean(np.asarray(exposure(magnet, plan.state.m).absorbed_power)) * 1e-9
    depth = 2.65e10 * 1e4 * 33.1e-30 / watts
    assert float(plan.penetration_depth) == pytest.approx(1e9 * depth, rel=1e-6)
    assert float(plan.heat.power) == pytest.approx(watts / constants.e * 1e3 * 1e-12, rel=1e-6)
    assert not plan.observable
    kept = {name: check.met for name, check in plan.checks.items()}
    assert kept == {
        "chase frequency at 1/1.1 of the intensity": True,
        "growth of deviations in space": False,
        "polarization of the conduction electrons": True,
        "relative width of the line of 1e+06 spins": False,
        "turns before the sample melts": False,
    }
    assert plan.checks["turns before the sample melts"].value == float(turns(magnet, thermal, 100.0).chase)
    text = str(plan)
    assert "2650 mJ/cm^2" in text and text.count("NOT KEPT") == 3 and "would not be seen" in text
    figure = plot.experiment(plan)
    assert len(figure.axes) == 6 and "fs" in figure.axes[3].get_xlabel()


@pytest.mark.long
def test_what_nothing_kills_is_said_to_be_seen():
    """An overdamped magnet (slow precession) with an enormous heat capacity."""
    magnet = illuminated_bilayer(2.65e10, 1550.0, gyro=0.1)
    plan = experiment(magnet, ThermalModel(0.05, 5000.0, 400.0, jnp.inf, 9.0))
    assert plan.observable and len(plan.checks) == 5 and "nothing that was checked kills it" in str(plan)
    assert float(plan.duration) == pytest.approx(1e4 / float(plan.state.chase_frequency), rel=1e-9)
    assert not bool(plan.heat.ended) and float(plan.heat.chase) == pytest.approx(10.0, rel=0.1)
    dark = experiment(illuminated_bilayer(1e9, 1550.0), ThermalModel.gadolinium(10.0, 9.0))
    assert int(dark.state.phase) != Phase.CHIRAL and "no chase" in str(dark) and not dark.checks
    assert_refused(lambda: plot.experiment(dark), ["no chase to draw", "Change its light"])


def test_a_laser_heats_by_its_own_photons():
    """The same course whether the magnet has a laser or the thermal model is told of the photons."""
    lit = illuminated_bilayer(2.65e10, 1550.0)
    numbers = (0.05, 50.0, 4.0, jnp.inf, 9.0)
    start = steady_state(lit).m
    known = simulate(lit, start, 0.2, thermal=ThermalModel(*numbers))
    told = simulate(lit.plateau(), start, 0.2, thermal=ThermalModel(*numbers, photon_energy=1550.0))
    assert known.heat is not None and told.heat is not None
    np.testing.assert_allclose(known.heat.electrons, told.heat.electrons, rtol=1e-9)
    assert float(known.heat.absorbed[-1, 0]) > 1.0


def test_everything_else_absorbs_as_well():
    """I V/depth beside what the moments take: 2.65e10 W/cm^2 in 20 nm of 33.1 cubic angstrom per site."""
    lit, start = illuminated_bilayer(2.65e10, 1550.0), jnp.asarray([[0.3, 0.0, 0.1], [0.0, 0.0, 0.05]])
    clear, metal = (ThermalModel.gadolinium(jnp.inf, 9.0, background_depth=depth) for depth in (jnp.inf, 20.0))
    extra = float(metal.power(lit, start)[0] - clear.power(lit, start)[0])
    assert extra == pytest.approx(2.65e14 * 33.1e-30 / 20e-9 / constants.e * 1e3 * 1e-12, rel=1e-9)
    # Half of the light leaves half of the heat; none leaves none.
    pulsed = illuminated_bilayer(2.65e10, 1550.0, envelope=Gaussian(10.0, 3.0))
    half = 10.0 + 3.0 / 2.0
    assert float(metal.power(pulsed, start, half)[0] - clear.power(pulsed, start, half)[0]) == pytest.approx(extra / 2)
    assert float(metal.power(pulsed, start, 90.0)[0]) == pytest.approx(0.0, abs=1e-12)


def test_plans_that_mean_nothing_are_refused():
    thermal = ThermalModel.gadolinium(10.0, 9.0)
    pulsed = illuminated_bilayer(2.65e10, 1550.0, envelope=Gaussian(10.0, 3.0))
    assert_refused(lambda: experiment(pulsed, thermal), ["constant intensity", "duration"])
    assert_refused(lambda: experiment(hanai2025_bilayer(0.05, 6.0), thermal), ["with_light"])
    lit = illuminated_bilayer(2.65e10, 1550.0)
    assert_refused(lambda: experiment(lit, thermal, duration=-1.0), ["duration", "greater than 0"])
    assert_refused(lambda: ThermalModel.gadolinium(1.0, 9.0, volume=0.0), ["volume", "greater than 0"])
    assert_refused(lambda: ThermalModel.gadolinium(1.0, 9.0, background_depth=-2.0), ["background_depth", "nm"])
    assert_refused(lambda: experiment(lit, ThermalModel.gadolinium(10.0, 20.0)), ["bath_temperature", "colder"])


def test_limits_of_the_command_line():
    run = {
        "stable_in_space": True,
        "enough_electrons": True,
        "above_onset": 1.2,
        "line_width": 0.02,
        "spins": 1e4,
        "min_turns": 3.0,
    }
    run |= {"min_turns": 3.0, "max_temperature": 300.0, "thermal": "insulator", "cooling_time": 2.0, "substrate": 80.0}
    limits = design_command._limits(run, illuminated_bilayer, {"intensity": (1e9, 2e9)})
    assert [type(x) for x in limits] == [
        StableInSpace,
        EnoughElectrons,
        AboveOnset,
        NarrowLine,
        MinTurns,
        MaxTemperature,
    ]
    assert [float(x.limit) for x in limits] == [0.0, 1.0, 0.0, 0.02, 3.0, 300.0]
    assert limits[3].spins == 1e4
    for limit in limits[4:]:
        assert float(limit.thermal.base) == pytest.approx(80.0) and float(limit.thermal.cooling_time) == 2.0
    assert_refused(
        lambda: design_command._limits({"min_turns": "many"}, illuminated_bilayer, {}), ["min_turns", "give a number"]
    )
