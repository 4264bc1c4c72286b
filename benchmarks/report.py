"""The tables of the README and of benchmarks/README.md, from the committed results.

python benchmarks/report.py            writes both
python benchmarks/report.py --check    exit code 1 if one of them says something else than the results
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARKS = ("<!-- benchmarks: begin -->", "<!-- benchmarks: end -->")


def results() -> dict[str, Any]:
    """Every committed CPU result by name."""
    files = sorted((ROOT / "benchmarks/results").glob("*-cpu.json"))
    return {path.stem.removesuffix("-cpu"): json.loads(path.read_text()) for path in files}


def rounded(value: float, digits: int = 2) -> str:
    """A number as a reader wants it: 36,000 or 0.14."""
    text = f"{float(f'{value:.{digits}g}'):.12g}"
    return f"{int(text):,}" if "." not in text and "e" not in text else text


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """Job and figure, best known first."""
    diagram, paths, lindblad, inverse = (r[n] for n in ("phase_diagram", "trajectories", "lindblad", "inverse_design"))
    wide = diagram["sweep_wide_vectors"]
    tilted = lindblad["comparison"]["tilted spins"]
    projected = lindblad["projected"]
    far = lindblad["trajectories"]
    restarts, gradients, trip = (inverse[n] for n in ("restarts", "gradients", "round_trip"))
    return [
        (
            "phase diagram of the bilayer, 401 x 401",
            f"{rounded(diagram['sweep']['points_per_s'])} points per second; {rounded(wide['points_per_s'])} with "
            f"`XLA_FLAGS={wide['xla_flags']}`",
        ),
        (
            "against a plain vmap of Diffrax on the full vector equation, to the same labels",
            f"{rounded(diagram['times_faster_than_plain_diffrax'])} times faster per point",
        ),
        ("peak memory of a 1001 x 1001 map", f"{rounded(diagram['map_1001']['peak_gib'], 3)} GiB"),
        (
            f"{paths['lanes']:,} trajectories of {rounded(paths['duration_ps'])} ps at tolerance "
            f"{paths['tolerance']:.0e}, against the plain vmap",
            f"{rounded(paths['times_faster_than_plain_diffrax'])} times faster",
        ),
        (
            "the same against one-lane-at-a-time machine code (Numba, all cores)",
            f"{rounded(paths['times_faster_than_numba'])} times faster",
        ),
        (
            f"{restarts['restarts']} restarts of a two-parameter laser design, of which "
            f"{restarts['nrjax']['reached']} reach the target",
            f"{rounded(restarts['nrjax']['median_s'])} s",
        ),
        (
            "the same against SciPy's L-BFGS-B with finite differences on the same function "
            f"({restarts['scipy']['reached']} reach it)",
            f"{rounded(restarts['ratio'])} times faster",
        ),
        (
            "gradient of the frequency, against differentiating a trajectory of "
            f"{rounded(gradients['trajectory_ps'], 3)} ps",
            f"{rounded(gradients['ratio'])} times faster",
        ),
        (
            f"targets of {trip['targets']} hidden lasers, designed from four starts",
            f"{trip['reached']} reached; {trip['reached_from_darkness']} from darkness alone",
        ),
        (
            f"Lindbladian, 256 states, {lindblad['settings']} laser settings at tolerance {lindblad['rtol']:.0e}, "
            "against dynamiqs (Dopri8) and QuTiP (Adams, both cores)",
            " and ".join(rounded(tilted[f"times faster than {peer}"]) for peer in ("dynamiqs", "qutip"))
            + " times faster",
        ),
        (
            f"projected Lindbladian of 2 impurities on {', '.join(str(x['sites']) for x in projected)} sites "
            f"({', '.join(str(x['states']) for x in projected)} states), 3 ps",
            f"{', '.join(rounded(x['median_s']) for x in projected)} s",
        ),
    ] + _far(far)


def _far(far: Any) -> list[tuple[str, str]]:
    return [
        (
            f"quantum trajectories of 2 impurities on {far['sites']} sites ({far['states']:,} states), "
            f"{far['trajectories']} trajectories of 3 ps, compilation included",
            f"{rounded(far['wall_s'])} s",
        )
    ]


def table(r: dict[str, Any]) -> str:
    """The table of the README."""
    lines = ["| job | figure |", "| --- | --- |", *(f"| {job} | {figure} |" for job, figure in rows(r))]
    return "\n".join(lines)


def readme(r: dict[str, Any]) -> str:
    """The README with its table renewed."""
    text = (ROOT / "README.md").read_text()
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n{table(r)}\n{MARKS[1]}{after}"


def main() -> int:
    """Write, or check."""
    wanted = {ROOT / "README.md": readme(results())}
    if "--check" in sys.argv:
        stale = [path.name for path, text in wanted.items() if path.read_text() != text]
        print("stale: " + ", ".join(stale) if stale else "all numbers are those of the results")
        return int(bool(stale))
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
