"""`nrjax design`: from a frequency to a file that `nrjax simulate` confirms."""

import tomllib

import numpy as np
import pytest
import xarray as xr

from nrjax.cli import main
from tests.test_cli import png_size


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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
