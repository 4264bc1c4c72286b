import argparse
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

from nrjax import (
    Lattice,
    LocalMoment,
    Phase,
    default_start,
    hanai2025_bilayer,
    layer_exchange,
    layer_susceptibility,
    plot,
    simulate,
    steady_state,
)
from nrjax.cli import COMMANDS, _parser, configuration, main

LINE = ["--axis", "loss_rate", "0", "0.1", "200"]
SMALL = ["--axis", "loss_rate", "0", "0.12", "25", "--axis", "interlayer_exchange", "0.5", "12", "21"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def png_size(path):
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return tuple(int.from_bytes(header[i : i + 4], "big") for i in (16, 20))


@pytest.fixture
def legends(monkeypatch):
    """The words in the legends of all phase diagrams that are drawn."""
    seen, draw = [], plot.phase_diagram

    def drawn(*arguments):
        figure = draw(*arguments)
        seen.append({text.get_text() for legend in figure.legends for text in legend.get_texts()})
        return figure

    monkeypatch.setattr(plot, "phase_diagram", drawn)
    return seen


def test_phase_diagram(tmp_path, capsys, legends):
    assert main(["phase-diagram", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "antialigned - chiral" in legends[0]
    assert "wrote phase_diagram.png" in printed and "wrote phase_diagram.nc" in printed and "chiral" in printed
    assert min(png_size(tmp_path / "phase_diagram.png")) > 500
    with xr.open_dataset("phase_diagram.nc", engine="h5netcdf") as dataset:
        assert dataset.sizes["loss_rate"] == 25
        assert int(dataset["phase"].sel(loss_rate=0.05, interlayer_exchange=6.25, method="nearest")) == Phase.CHIRAL
        assert int(dataset["phase"].sel(loss_rate=0.0, interlayer_exchange=6.25, method="nearest")) == Phase.ALIGNED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["phase_diagram.nc", "phase_diagram.png"]
    # Nothing is replaced unasked.
    assert main(["phase-diagram", *SMALL]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["phase-diagram", *SMALL, "--no-boundaries", "--overwrite"]) == 0
    assert "chiral" in legends[1] and "antialigned - chiral" not in legends[1]


@pytest.mark.long
def test_simulate_from_a_file(tmp_path, capsys):
    (tmp_path / "run.toml").write_text(
        '[magnet]\nloss_rate = 0.03\ninterlayer_exchange = 8\nbath = "quantum"\n'
        '[run]\ntime = 20\nsamples = 200\nm0 = [0.1, 0, 0.8, 0, 0.1, 0.5]\noutput = "a.svg"\ndata = "a.nc"\n'
    )
    assert main(["simulate", "run.toml", "--loss-rate", "0.05", "--interlayer-exchange", "6"]) == 0
    assert "CHIRAL" in capsys.readouterr().out
    with xr.open_dataset("a.nc", engine="h5netcdf") as dataset:
        assert dataset["moment"].shape == (200, 2, 3) and dataset["time"].attrs["units"] == "ps"
        np.testing.assert_allclose(dataset["moment"][0], [[0.1, 0, 0.8], [0, 0.1, 0.5]], atol=1e-12)
        assert dataset.attrs["chase_frequency_ghz"] == pytest.approx(0.172072683 * 241.7989242, rel=1e-6)
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


@pytest.mark.long
def test_which_light_and_how_strong(tmp_path, capsys):
    axes = ["--axis", "photon_energy", "1400", "1700", "13", "--axis", "intensity", "0", "5e10", "11"]
    assert main(["phase-diagram", *axes]) == 0
    printed = capsys.readouterr().out
    assert "MV/cm" in printed and "nW" in printed
    with xr.open_dataset("phase_diagram.nc", engine="h5netcdf") as dataset:
        assert dataset["intensity"].attrs["units"] == "W/cm^2"
        assert int(dataset["phase"].sel(photon_energy=1550, intensity=2.5e10)) == Phase.CHIRAL
        assert int(dataset["phase"].sel(photon_energy=1400, intensity=2.5e10)) == Phase.ALIGNED


def test_curve(tmp_path, capsys):
    assert main(["curve", "--axis", "intensity", "0", "6e10", "31", "--set", "linewidth=120"]) == 0
    assert "highest chase frequency" in capsys.readouterr().out
    assert min(png_size(tmp_path / "curve.png")) > 500
    with xr.open_dataset("curve.nc", engine="h5netcdf") as dataset:
        chiral = dataset["phase"] == Phase.CHIRAL
        chase = dataset["chase_frequency"].values
        assert 5 < int(chiral.sum()) < 30 and (np.diff(chase[chiral.values]) > 0).all()


@pytest.mark.long
def test_simulate_with_noise(tmp_path, capsys):
    """--noise SEED is the key of the fluctuations of --spins spins."""
    flags = ["--loss-rate", "0.05", "--interlayer-exchange", "6", "--set", "gyro=0"]
    assert main(["simulate", *flags, "--time", "2", "--samples", "5", "--spins", "1e4", "--noise", "3"]) == 0
    capsys.readouterr()
    magnet, times = hanai2025_bilayer(0.05, 6.0, gyro=0.0), np.linspace(0.0, 2.0, 5)
    expected = simulate(magnet, default_start(magnet), 2.0, saveat=times, spins=1e4, key=jax.random.key(3))
    with xr.open_dataset("simulation.nc", engine="h5netcdf") as dataset:
        np.testing.assert_allclose(dataset["moment"], expected.ms, rtol=1e-9)
        assert (dataset.attrs["spins"], dataset.attrs["noise"]) == (1e4, 3)


@pytest.mark.long
def test_pulse_from_a_file(tmp_path, capsys):
    (tmp_path / "pulse.toml").write_text(
        "[laser]\nintensity = 2.65e10\nphoton_energy = 1550\n"
        'envelope = { kind = "chirped", rate = 1.0, envelope = { kind = "gaussian", centre = 8, width = 4 } }\n'
        "[moments]\nresonance = [1850, 1550]\n[run]\ntime = 20\nsamples = 100\n"
    )
    assert main(["simulate", "pulse.toml"]) == 0
    assert "under full light: CHIRAL" in capsys.readouterr().out
    with xr.open_dataset("simulation.nc", engine="h5netcdf") as dataset:
        assert dataset["chase_frequency"].shape == (100,) and dataset["rotation_frequency"].attrs["units"] == "GHz"
    assert min(png_size(tmp_path / "simulation.png")) > 500
    assert main(["simulate", "--intensity", "1e10", "--pulse", "2", "8", "1", "--time", "9", "-o", "b.svg"]) == 2
    assert "simulation.nc exists" in capsys.readouterr().err


def test_experiment(tmp_path, capsys):
    """The page and its picture; exit code 1, since the light melts the sample at once."""
    (tmp_path / "design.toml").write_text(
        "[laser]\nintensity = 2.65e10\nphoton_energy = 1550\n[run]\ntime = 300\nthermal = 'nickel'\n"
    )
    assert main(["experiment", "design.toml", "--cooling-time", "5", "--duration", "50", "--spins", "1e4"]) == 1
    printed = capsys.readouterr().out
    assert "1325 mJ/cm^2" in printed and "1e+04 spins" in printed and "would not be seen" in printed
    assert min(png_size(tmp_path / "experiment.png")) > 1000
    assert main(["experiment", "design.toml"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_exchange(tmp_path, capsys):
    assert main(["exchange", "--sites", "24", "--layers", "32", "--temperature", "60", "--sd-coupling", "-1e2"]) == 0
    said = capsys.readouterr().out
    assert min(png_size(tmp_path / "exchange.png")) > 400
    chi = layer_susceptibility(Lattice.layered(24, 32, 1000.0, 1000.0), 60.0, filling=0.3)
    expected = [layer_exchange([-100.0, -100.0], chi, (n,))[0, 1] for n in range(8)]
    with xr.open_dataset("exchange.nc", engine="h5netcdf") as dataset:
        assert dataset.attrs["hopping_across_mev"] == 1000.0
        np.testing.assert_array_equal(dataset["spacer"], range(8))
        np.testing.assert_allclose(dataset["interlayer_exchange"], expected, rtol=1e-9)
        fewer = layer_susceptibility(Lattice.layered(18, 32, 1000.0, 1000.0), 60.0, filling=0.3)
        uncertain = max(abs(layer_exchange([-100.0, -100.0], fewer, (n,))[0, 1] - expected[n]) for n in range(8))
        assert dataset["interlayer_exchange"].attrs["uncertainty_mev"] == pytest.approx(float(uncertain), rel=1e-6)
    told = [x for x in expected if abs(x) > uncertain]
    turns = sum(a * b < 0 for a, b in itertools.pairwise(told))
    assert f"changes sign {turns} times among {len(told)} values" in said and "18 sites instead of 24" in said


@pytest.mark.parametrize(
    "command", [["simulate", "--time", "1", "--samples", "50"], ["exchange", "--sites", "8", "--layers", "16"]]
)
def test_nothing_is_lost_where_nobody_reads_on(command, tmp_path):
    """`nrjax ... | head -0`: what was computed is written before the first word, and nothing is said of the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-u", "-m", "nrjax.cli", *command, "--quiet"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1 and "pipe" not in done.stderr.lower() and "Traceback" not in done.stderr
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".nc", ".png"]


def test_info(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "jax" in printed and "cpu" not in printed and "241.799" in printed
    assert main(["info", "--devices"]) == 0
    assert "cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [[], ["phase-diagram"], ["curve"], ["simulate"], ["design"], ["experiment"], ["exchange"], ["info"]]
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0 and len(capsys.readouterr().out) > 100


def test_the_defaults_that_help_tells_are_the_defaults():
    """Where a flag's help says (default 30), that is what the flag has."""
    told = 0
    for command in COMMANDS:
        (commands,) = (a for a in _parser(command)._actions if isinstance(a, argparse._SubParsersAction))
        for action in commands.choices[command]._actions:
            said = re.search(r"\(default ([^ ),;]+)", action.help or "")
            if said and action.default is not None:
                default = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
                assert said.group(1) == default
                told += 1
    assert told > 8


BAD_FILES = {
    "malformed.toml": "[magnet\nloss_rate = 1",
    "unknown.toml": "[magnet]\ncolour = 3",
    "table.toml": "[lamp]\nintensity = 3",
    "envelope.toml": "[laser]\nenvelope = 3",
    "kind.toml": '[laser]\nenvelope = {kind = "round"}',
    "square.toml": '[laser]\nenvelope = {kind = "square", start = 1, stop = 5, width = 3}',
    "begin.toml": '[laser]\nenvelope = {kind = "square", begin = 3}',
    "nottable.toml": "magnet = 3",
    "run.toml": "[run]\nspeed = 3",
    "axes.toml": "[run]\naxes = 3",
}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["simulate", "malformed.toml"], ["malformed.toml", "not valid TOML"]),
        (["simulate", "unknown.toml"], ["colour", "Allowed", "temperature"]),
        (["simulate", "table.toml"], ["lamp", "Allowed"]),
        (["simulate", "envelope.toml"], ["envelope", "kind"]),
        (["simulate", "kind.toml"], ["round", "gaussian"]),
        (["simulate", "square.toml"], ["square", "width"]),
        (["simulate", "--intensity", "-1"], ["intensity", "-1"]),
        (
            ["simulate", "--intensity", "1e10", "--loss-rate", "0.05"],
            ["loss_rate", "intensity is of a laser", "Leave one"],
        ),
        (["curve", "--loss-rate", "0.05"], ["loss_rate", "by hand", "another axis"]),
        (["experiment", "--loss-rate", "0.05"], ["loss_rate", "by hand", "--intensity"]),
        (["simulate", "--loss-rate", "0.05", "--set", "loss_rate=0.03"], ["loss_rate is given twice"]),
        (["simulate", "--set", "gyro=1", "--set", "gyro=2"], ["gyro is given twice"]),
        (["curve", "--axis", "gyro", "0", "1", "3", "--axis", "gyro", "0", "2", "3"], ["--axis gyro is given twice"]),
        (["simulate", "--m0", *"000000"], ["m0 = 0", "direction"]),
        (["simulate", "begin.toml"], ["'begin' in envelope square", "start, stop, rise"]),
        (["exchange", "--sites", "100000"], ["100000 x 100000 x 128", "GiB", "--sites"]),
        (["status", "."], ["is no store of a sweep"]),
        (["design", "--target-chase-ghz", "40", "--spins", "-1"], ["spins = -1", "greater than 0"]),
        (["simulate", "--set", "linewidth=0"], ["linewidth", "greater than 0"]),
        (["simulate", "--set", "level=100"], ["level", "no moment"]),
        (["experiment", "--thermal", "insulator", "--set", "thermal=3"], ["thermal", "Allowed"]),
        (["experiment", "--substrate", "200"], ["bath_temperature", "colder"]),
        (["simulate", "--noise", "3", "--spins", "0"], ["key", "spins=N"]),
        (["simulate", "--pulse", "10", "5", "1"], ["stop - start - rise"]),
        (["simulate", "--time", "10", "--pulse", "20", "30", "1"], ["begins at 20 ps", "--time"]),
        (["simulate", "--m0", "0", "0", "1", "0", "0", "2"], ["m0", "length 2"]),
        (["simulate", "--set", "field=5"], ["field", "(3,)", "x y z"]),
        (["simulate", "--set", "filling=5"], ["filling", "5", "0 to 2"]),
        (["simulate", "--data", "same.png", "--output", "same.png"], ["same.png", "*.nc"]),
        (["phase-diagram", *SMALL[:5], "--axis", "field", "0", "5", "3"], ["unknown axis", "field"]),
        (["exchange", "--sd-coupling", "0"], ["sd_coupling", "nothing is exchanged"]),
        (["exchange", "--hopping-across", "0"], ["hopping_across", "nothing is exchanged"]),
        (["exchange", "--sites", "3"], ["sites = 3", "4 or more"]),
        (["exchange", "--filling", "3"], ["filling", "3"]),
        (["exchange", "--layers", "2"], ["layers", "2"]),
        (["curve", *SMALL], ["axes", "give one"]),
        (["simulate", "nottable.toml"], ["[magnet]"]),
        (["simulate", "run.toml"], ["speed", "Allowed"]),
        (["simulate", "missing.toml"], ["missing.toml"]),
        (["simulate", "--set", "temperature=-9"], ["temperature", "-9", "greater than 0"]),
        (["simulate", "--set", "temperature=hot"], ["temperature", "hot"]),
        (["simulate", "--set", "temperature"], ["NAME=VALUE"]),
        (["simulate", "--set", "colour=1"], ["colour", "Allowed"]),
        (["simulate", "--set", "bath=warm"], ["warm", "quantum"]),
        (["simulate", "--loss-rate", "nan"], ["loss_rate", "nan"]),
        (["simulate", "--time", "-3"], ["time", "-3"]),
        (["simulate", "--samples", "1"], ["samples", "1"]),
        (["simulate", "--time", "1e9", "--samples", "1000000000"], ["saving 1e+09 times", "GiB", "--samples"]),
        (["simulate", "--spins", "-3"], ["spins", "-3"]),
        (
            [
                "phase-diagram",
                "--axis",
                "loss_rate",
                "0",
                "1",
                "99999",
                "--axis",
                "interlayer_exchange",
                "0",
                "9",
                "99999",
            ],
            ["1e+10 points", "GiB", "fewer"],
        ),
        (["simulate", "--m0", "1", "2"], ["m0", "2 numbers", "6"]),
        (["simulate", "--output", "nowhere/x.png"], ["nowhere", "does not exist"]),
        (["simulate", "--output", "x.exe"], ["x.exe", ".png"]),
        (["phase-diagram", "axes.toml"], ["axes", "MIN MAX POINTS"]),
        (["phase-diagram", "--axis", "loss_rate", "0", "1", "9"], ["axes", "two"]),
        (["phase-diagram", *SMALL[:5], "--axis", "colour", "0", "1", "3"], ["colour", "Allowed"]),
        (["phase-diagram", *SMALL[:5], "--axis", "temperature", "9", "1", "3"], ["temperature", "MIN < MAX"]),
        (["phase-diagram", *SMALL[:5], "--axis", "temperature", "-9", "9", "3"], ["temperature", "-9"]),
        (["phase-diagram", *SMALL[:5], "--axis", "temperature", "a", "9", "3"], ["temperature", "'a'"]),
        (["phase-diagram", *SMALL, "--set", "sd_coupling=0"], ["sd_coupling", "nonzero"]),
    ],
)
def test_bad_input_gives_one_clear_error_and_no_file(arguments, words, tmp_path, capsys):
    for name, text in BAD_FILES.items():
        (tmp_path / name).write_text(text)
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_a_rate_that_is_no_number(capsys):
    with pytest.raises(SystemExit):
        main(["simulate", "--loss-rate", "0.05,"])
    assert "'0.05,' is not a number" in capsys.readouterr().err


def test_a_file_that_begins_with_a_mark_of_its_encoding(tmp_path):
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf[magnet]\ngyro = 1.5\n")
    options = argparse.Namespace(config=tmp_path / "marked.toml", set=[], **dict.fromkeys(configuration.FLAGS))
    assert configuration.parameters(options, []) == ({"gyro": 1.5}, {})


def test_unknown_flag_and_exit_code_of_the_installed_command():
    run = subprocess.run(
        [sys.executable, "-m", "nrjax.cli", "simulate", "--colour"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2 and "--colour" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "command",
    [["simulate", "--time", "20", "--samples", "4000"], pytest.param(["curve", *LINE], marks=pytest.mark.long)],
)
def test_a_full_disk_leaves_nothing_half_written(command, tmp_path):
    """A limit of 16 kB on files stands for the full disk: the process ends by itself, with 1, and says why."""
    program = (
        "import resource, sys; sys.dont_write_bytecode = True; from nrjax.cli import main; import nrjax.plot;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384)); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"cannot write: .*'(simulation|curve).nc'", done.stderr)
    assert "Free some space" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_computation_ends_with_1(tmp_path, capsys):
    """A damping that no explicit step can follow."""
    assert main(["simulate", "--set", "damping=1e13", "--time", "1", "--samples", "10"]) == 1
    error = capsys.readouterr().err
    assert "the computation failed" in error and "Traceback" not in error and not list(tmp_path.iterdir())


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    def broken(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    (tmp_path / "curve.png").write_bytes(b"old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    assert main(["curve", *LINE[:-1], "3", "--overwrite"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "curve.png").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.nc", "curve.png"]


def test_a_value_beside_its_axis_is_refused(tmp_path, capsys):
    (tmp_path / "run.toml").write_text("[magnet]\nloss_rate = 0.03\n")
    for given in (["--set", "loss_rate=[0.025,0.05]"], ["--loss-rate", "0.02"]):
        assert main(["curve", "--axis", "loss_rate", "0", "0.1", "3", *given]) == 2
        assert "loss_rate has a value and an axis" in capsys.readouterr().err
    assert main(["curve", "run.toml", "--axis", "loss_rate", "0", "0.1", "3"]) == 0
    assert "loss_rate of run.toml is not used" in capsys.readouterr().out


@pytest.mark.parametrize("from_file", [True, False])
def test_light_on_each_layer(from_file, tmp_path, capsys):
    (tmp_path / "run.toml").write_text("[magnet]\nloss_rate = [0.01, 0.05]\n")
    given = ["run.toml"] if from_file else ["--loss-rate", "0.01,0.05"]
    assert main(["simulate", *given, "--time", "1", "--samples", "10"]) == 0
    expected = steady_state(hanai2025_bilayer([0.01, 0.05], 6.0))
    assert f"chase {float(expected.chase_frequency):.6g} GHz" in capsys.readouterr().out
    with xr.open_dataset("simulation.nc", engine="h5netcdf") as dataset:
        assert json.loads(dataset.attrs["parameters"])["light.loss_rate"] == [0.01, 0.05]


def test_units_out_of_range_are_warned_of(capsys):
    assert main(["curve", "--photon-energy", "1.55", "--axis", "intensity", "0", "1e10", "2"]) == 0
    captured = capsys.readouterr()
    error = captured.err
    assert error.count("warning: photon_energy = 1.55 is unusual") == 1 and "1550 meV" in error
    # Nothing chases under such light, and nothing is said to.
    assert "aligned" in captured.out and "highest chase" not in captured.out
    with pytest.warns(UserWarning, match="temperature = 300 is unusual.*25.9 meV"):
        hanai2025_bilayer(0.05, temperature=300.0)
    with pytest.warns(UserWarning, match="temperature = 101 is unusual"):
        hanai2025_bilayer(0.05, temperature=[9.0, 101.0])
    with pytest.warns(UserWarning, match="repulsion = 4 is unusual"):
        LocalMoment(-2.0, 4.0, 0.1)


def test_turns_of_the_chase_and_of_the_magnet(capsys):
    """From the rotating state on: frequency times time; and none of what thermal tilt does in the dark."""
    state = steady_state(hanai2025_bilayer(0.05, 6.0))
    m0 = [repr(float(x)) for x in np.asarray(state.m).ravel()]
    assert main(["simulate", "--time", "20", "--samples", "50", "--m0", *m0]) == 0
    chase, rotation = 0.02 * float(state.chase_frequency), 0.02 * float(state.rotation_frequency)
    printed = capsys.readouterr().out
    assert f"turns in 20 ps: {chase:.4g} of the chase, {rotation:.4g} of the whole magnet" in printed
    assert "(the line that a probe sees)" in printed
    with xr.open_dataset("simulation.nc", engine="h5netcdf") as dataset:
        for name in ("chase_frequency", "rotation_frequency"):
            np.testing.assert_allclose(dataset[name], float(getattr(state, name)), rtol=1e-4)
    dark = ["simulate", "--loss-rate", "0", "--time", "30", "--samples", "500", "--spins", "1e6", "--overwrite"]
    assert main([*dark, "--m0", "0", "0", "0.9164", "0", "0", "0.7755"]) == 0
    assert "0 of the chase, 0 of the whole magnet" in capsys.readouterr().out
    # A million spins tilt by chance, from a start that is collinear.
    with xr.open_dataset("simulation.nc", engine="h5netcdf") as dataset:
        tilt = np.linalg.norm(np.cross(*dataset["moment"].values[-1]))
        assert dataset.attrs["spins"] == 1e6 and 1e-4 < tilt < 1e-2
