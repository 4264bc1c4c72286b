"""`nrjax design`: from a frequency to a file that `nrjax simulate` confirms."""

import tomllib

import numpy as np
import pytest
import xarray as xr

from nrjax import design
from nrjax.cli import main
from tests.test_cli import png_size


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.long
def test_design_then_simulate(tmp_path, capsys):
    """The whole road: ask for 40 GHz, take the file, integrate from rest, find 40 GHz in the trajectory."""
    assert main(["design", "--target-chase-ghz", "40", "--restarts", "4", "--plot", "design.png"]) == 0
    printed = capsys.readouterr().out
    for words in ("reached chase frequency 40 GHz", "W/cm^2", "MV/cm", "edges of the chiral phase", "GHz per meV"):
        assert words in printed
    assert min(png_size(tmp_path / "design.png")) > 500
    design = tomllib.loads((tmp_path / "design.toml").read_text())
    # The least intensity is that on resonance, but for the light shift, which makes doublons cheaper below it: gamma is
    # largest at delta = -(kappa/Gamma) Gamma^2/(2 Delta_2), -0.5 meV for B alone; the tail of A pulls it back.
    assert -0.5 < design["laser"]["photon_energy"] - 1550.0 < -0.2
    assert main(["simulate", "design.toml"]) == 0
    with xr.open_dataset("simulation.nc", engine="h5netcdf") as dataset:
        np.testing.assert_allclose(dataset["chase_frequency"][-1], 40.0, rtol=1e-4)


@pytest.mark.long
def test_design_from_a_file_of_rates_set_by_hand(tmp_path, capsys):
    (tmp_path / "magnet.toml").write_text(
        '[magnet]\ninterlayer_exchange = 6.5\nbath = "quantum"\n'
        '[run]\ntarget_chase_ghz = 35\nvary = { loss_rate = [0, 0.12] }\ntoml = "a.toml"\nplot = "a.svg"\n'
    )
    assert main(["design", "magnet.toml", "--restarts", "2"]) == 0
    assert "loss_rate" in capsys.readouterr().out and (tmp_path / "a.svg").read_text().startswith("<?xml")
    written = tomllib.loads((tmp_path / "a.toml").read_text())
    assert written["magnet"]["interlayer_exchange"] == 6.5 and written["magnet"]["bath"] == "quantum"
    assert main(["design", "magnet.toml"]) == 2
    assert "a.toml exists" in capsys.readouterr().err
    # Out of reach: told, and no file.
    (tmp_path / "a.toml").unlink()
    (tmp_path / "a.svg").unlink()
    assert main(["design", "magnet.toml", "--restarts", "2", "--target-chase-ghz", "500"]) == 1
    printed = capsys.readouterr().out
    assert "out of reach" in printed and "not written" in printed and not (tmp_path / "a.toml").exists()


def test_out_of_reach_ends_with_1(tmp_path, capsys, monkeypatch):
    results = []

    def kept(*arguments, **options):
        results.append(design(*arguments, **options))
        return results[0]

    monkeypatch.setattr("nrjax.cli.design_command.design", kept)
    reach = ["--vary", "loss_rate", "0", "0.12", "--restarts", "1", "--steps", "3"]
    assert main(["design", "--target-chase-ghz", "500", *reach]) == 1
    assert "not written" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert results[0].history.sizes["restart"] == 1 and int(results[0].history.steps[0]) == 3


@pytest.mark.long
def test_a_target_in_another_unit(capsys):
    """40,000 for 40 GHz: no nearest design is claimed, and what might be wrong is said."""
    reach = ["--vary", "loss_rate", "0", "0.12", "--restarts", "2", "--steps", "40"]
    assert main(["design", "--target-chase-ghz", "40000", *reach]) == 1
    said = capsys.readouterr().out
    assert "Check the unit of the target" in said and "extremum" not in said and "the nearest is" not in said


def test_the_sheet_is_of_the_spins_that_were_asked_for(capsys):
    reach = ["--vary", "loss_rate", "0", "0.12", "--restarts", "2", "--steps", "40"]
    assert main(["design", "--target-chase-ghz", "40", "--spins", "3e4", *reach]) == 0
    assert "with 3e+04 spins per layer the line is" in capsys.readouterr().out


def test_every_option_reaches_the_design(monkeypatch, capsys):
    """What is asked for on the command line is what `nrjax.design` is asked for."""
    asked = {}

    def recorded(build, initial, target, **options):
        asked.update(options, initial=initial, target=target, magnet=build(intensity=1e10, temperature=9.0))
        raise ValueError("recorded")

    monkeypatch.setattr("nrjax.cli.design_command.design", recorded)
    flags = (
        "--restarts 3 --steps 7 --seed 11 --worst-case --margin 0.02 --responsive --modulation-range 0.3 --members 4"
    )
    arguments = ["--target-rotation-ghz", "900", "--vary", "intensity", "1e9", "5e10", "--intensity", "2e10"]
    arguments += ["--set", "temperature=8.5", "--spread", "temperature", "0.1", "--interlayer-exchange", "7"]
    assert main(["design", *arguments, *flags.split()]) == 2
    assert "recorded" in capsys.readouterr().err
    assert asked["observable"] == "rotation_frequency" and asked["target"] == 900.0
    assert asked["bounds"] == {"intensity": (1e9, 5e10)} and asked["initial"] == {"intensity": 2e10}
    assert [asked[name] for name in ("restarts", "steps", "seed", "worst_case")] == [3, 7, 11, True]
    kinds = [(type(f).__name__, f.weight) for f in asked["objectives"]]
    assert kinds == [("LowIntensity", 1.0), ("Margin", 10.0), ("Quiet", -1.0), ("WideRange", 1.0)]
    assert asked["objectives"][1].rate == 0.02 and asked["objectives"][3].depth == 0.3
    values = np.asarray(asked["ensemble"]["temperature"])
    assert values.shape == (4,) and abs(values.mean() - 8.5) < 0.1 and 0.02 < values.std() < 0.3
    assert float(asked["magnet"].exchange[0, 1]) == 7.0
    # Without any of them: from the dark, eight restarts, the least light.
    assert main(["design", "--target-chase-ghz", "40", "--insensitive", "--seed", "0"]) == 2
    assert asked["initial"] == {"intensity": 0.0} and asked["restarts"] == 8 and asked["seed"] == 0
    assert [(type(f).__name__, f.weight) for f in asked["objectives"]] == [("LowIntensity", 1.0), ("Quiet", 1.0)]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["one target"]),
        (["--target-chase-ghz", "40", "--target-rotation-ghz", "900"], ["one target"]),
        (["--target-chase-ghz", "-40"], ["target = -40"]),
        (["--target-chase-ghz", "40", "--vary", "colour", "0", "1"], ["colour", "Allowed"]),
        (["--target-chase-ghz", "40", "--vary", "intensity", "6e10", "0"], ["intensity", "reversed"]),
        (["--target-chase-ghz", "40", "--vary", "intensity", "a", "0"], ["intensity", "MIN MAX"]),
        (["--target-chase-ghz", "40", "--margin", "-1"], ["rate of Margin"]),
        (["--target-chase-ghz", "40", "--spread", "temperature", "0.1"], ["temperature", "--set"]),
        (["--target-chase-ghz", "40", "--members", "4"], ["members = 4", "--spread"]),
        (["--target-chase-ghz", "40", "--cooling-time", "10"], ["cooling_time", "--min-turns or --max-temperature"]),
        (["--target-chase-ghz", "40", "--insensitive", "--responsive"], ["cancel"]),
        (["--target-chase-ghz", "40", "--plot", "x.png", "--toml", "x.png"], ["x.png", "names of their own"]),
        (["--target-chase-ghz", "40", "--plot", "x.exe"], ["x.exe", ".png"]),
        (["--target-chase-ghz", "40", "--toml", "nowhere/x.toml"], ["nowhere", "does not exist"]),
    ],
)
def test_what_the_command_refuses(arguments, words, tmp_path, capsys):
    assert main(["design", *arguments]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error
    assert error.count("\n") == 1 and not list(tmp_path.iterdir())
