"""The tables of the README and of benchmarks/README.md, and the pictures, from the committed results.

python benchmarks/report.py            writes them
python benchmarks/report.py --check    exit code 1 if one of them says something else than the results
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import figures

ROOT = Path(__file__).parent.parent
# Peers by their keys in the results.
PEERS = {
    "plain_diffrax": "vmap of Diffrax",
    "numba": "Numba",
    "solve_ivp": "solve_ivp",
    "qutip": "QuTiP",
    "dynamiqs": "dynamiqs",
}
# Part of scaling.json, what its size counts, and the key of our own times.
SIZES = (("lanes", "lanes", "simulate_many"), ("layers", "layers", "simulate_many"), ("hilbert", "states", "nrjax"))


def results() -> dict[str, Any]:
    """Every committed CPU result by name."""
    files = sorted((ROOT / "benchmarks/results").glob("*-cpu.json"))
    return {path.stem.removesuffix("-cpu"): json.loads(path.read_text()) for path in files}


def rounded(value: float, digits: int = 2) -> str:
    """A number as a reader wants it: 36,000 or 0.14."""
    text = f"{float(f'{value:.{digits}g}'):.12g}"
    return f"{int(text):,}" if "." not in text and "e" not in text else text


def table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *lines))


def ratio(value: float) -> str:
    """How two times compare, with the loser named as such."""
    if 0.95 < value < 1.05:
        return "equally fast"
    return f"{rounded(value)} times faster" if value >= 1.0 else f"**{rounded(1.0 / value)} times slower**"


def summary(r: dict[str, Any]) -> str:
    """The table of the README: job and figure, best known first."""
    diagram, paths, lindblad, inverse = (r[n] for n in ("phase_diagram", "trajectories", "lindblad", "inverse_design"))
    pair = r["macrospins"]
    compared, far = lindblad["comparison"], lindblad["trajectories"]
    restarts, gradients, trip = (inverse[n] for n in ("restarts", "gradients", "round_trip"))
    lines = [
        (
            "phase diagram of the bilayer, 401 x 401",
            f"{rounded(diagram['sweep']['points_per_s'])} points per second",
        ),
        (
            "against a plain vmap of Diffrax on the full vector equation, to the same labels",
            f"{ratio(diagram['times_faster_than_plain_diffrax'])} per point",
        ),
        ("peak memory of a 1001 x 1001 map", f"{rounded(diagram['map_1001']['peak_gib'], 3)} GiB"),
        (
            f"{paths['lanes']:,} trajectories of {rounded(paths['duration_ps'])} ps at tolerance "
            f"{paths['tolerance']:.0e}, against a plain vmap of Diffrax",
            ratio(paths["times_faster_than_plain_diffrax"]),
        ),
        (
            "the same against machine code, one lane at a time on all cores (Numba)",
            ratio(paths["times_faster_than_numba"]),
        ),
        (
            "the same against `scipy.integrate.solve_ivp` (DOP853, compiled right-hand side, all cores)",
            ratio(paths["times_faster_than_solve_ivp"]),
        ),
        (
            f"{pair['pairs']:,} pairs of macrospins without light and damping to {pair['allowed_error']:.0e}, against "
            "cmtj on all cores",
            ratio(pair["ratio"]),
        ),
        (
            f"{restarts['restarts']} restarts of a two-parameter laser design, of which "
            f"{restarts['nrjax']['reached']} reach the target",
            f"{rounded(restarts['nrjax']['median_s'])} s",
        ),
        (
            "the same against SciPy's L-BFGS-B with finite differences on the same function "
            f"({restarts['scipy']['reached']} reach it)",
            ratio(restarts["ratio"]),
        ),
        (
            "gradient of the frequency, against differentiating a trajectory of "
            f"{rounded(gradients['trajectory_ps'], 3)} ps",
            ratio(gradients["ratio"]),
        ),
        (
            f"targets of {trip['targets']} hidden lasers, designed from four starts",
            f"{trip['reached']} reached; {trip['reached_from_darkness']} from darkness alone",
        ),
        (
            f"Lindbladian, 256 states, {lindblad['settings']} laser settings at tolerance {lindblad['rtol']:.0e}, "
            "against dynamiqs (Dopri8) and QuTiP (Adams, all cores)",
            " and ".join(ratio(compared[f"times_faster_than_{peer}"]) for peer in ("dynamiqs", "qutip")),
        ),
        (
            "quantum trajectories of 2 impurities on "
            f"{far['sites']} sites ({far['states']:,} states), {far['trajectories']} trajectories of 3 ps, compilation "
            "included",
            f"{rounded(far['wall_s'])} s",
        ),
    ]
    return table(("job", "figure"), lines)


def labels(r: dict[str, Any]) -> str:
    """How far plain integration and the sweep agree."""
    plain = r["phase_diagram"]["plain_diffrax"]
    return (
        f"The plain integration gives the same label at {plain['lanes'] - plain['others']} of {plain['lanes']} random "
        f"points; the others lie within {rounded(100 * plain['others_within'])} % of the paramagnetic boundary, where "
        f"it has not settled after {rounded(plain['duration'])} hbar/meV."
    )


def seconds(value: float | None) -> str:
    """A time with its unit."""
    if value is None:
        return "not reached"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{rounded(value / size, 3)} {unit}"
    return f"{rounded(value / 1e-9, 3)} ns"


def comparisons(r: dict[str, Any]) -> list[tuple[str, str, float]]:
    """(job, peer, how many times faster nrjax is) of every comparison that was measured."""
    paths, lindblad, curves, growth = (r[n] for n in ("trajectories", "lindblad", "work_precision", "scaling"))
    found = [
        ("phase diagram", "vmap of Diffrax", r["phase_diagram"]["times_faster_than_plain_diffrax"]),
        *(
            (f"{paths['lanes']:,} trajectories", PEERS[peer], paths[f"times_faster_than_{peer}"])
            for peer in ("plain_diffrax", "numba", "solve_ivp")
        ),
        (f"{r['macrospins']['pairs']:,} pairs of macrospins", "cmtj", r["macrospins"]["ratio"]),
        ("restarts of a design", "L-BFGS-B", r["inverse_design"]["restarts"]["ratio"]),
        ("gradient of the frequency", "trajectory", r["inverse_design"]["gradients"]["ratio"]),
    ]
    for peer in ("dynamiqs", "qutip"):
        job = f"Lindbladian, 256 states, {lindblad['settings']} settings"
        found.append((job, PEERS[peer], lindblad["comparison"][f"times_faster_than_{peer}"]))
    for part, name in (("trajectories", "trajectories"), ("lindblad", "Lindbladian")):
        at = curves[part]["seconds_at_meeting_error"]
        ours, *peers = at
        for peer in peers:
            if at[peer] is not None and at[ours] is not None:
                found.append((f"{name} at error {curves['meeting_error']:.0e}", peer, at[peer] / at[ours]))
    for part, what, ours in SIZES:
        for row in growth[part]:
            for peer in filter(row.__contains__, PEERS):
                job = f"{row[what]:,} {what}, warm"
                found.append((job, PEERS[peer], row[peer]["median_s"] / row[ours]["median_s"]))
    for row in r["lattices"]["rows"]:
        if "numba" in row:
            speeds = (row[name]["spin_steps_per_s"] for name in ("nrjax", "numba"))
            ours, theirs = speeds
            found.append((f"{row['cells']:,} spins, {row['dtype']}", PEERS["numba"], ours / theirs))
    found.extend(at_equal_error(r))
    return found


def losses(r: dict[str, Any]) -> str:
    """Every comparison that nrjax loses."""
    lost = sorted((v, job, peer) for job, peer, v in comparisons(r) if v < 1.0)
    lines = [(job, peer, f"{rounded(1.0 / v)} times slower") for v, job, peer in lost]
    return table(("job", "peer", "nrjax is"), lines) if lines else "No comparison was lost."


def first_calls(r: dict[str, Any]) -> str:
    """First calls in a process, with nothing kept, beside those of peers."""
    lines = []
    for part, what, ours in SIZES:
        for row in r["scaling"][part]:
            timed = [(name, row[key].get("first_call_s")) for key, name in PEERS.items() if key in row]
            peers = [f"{name} {seconds(first)}" for name, first in timed if first is not None]
            if peers and "first_call_s" in row[ours]:
                lines.append((f"{row[what]:,} {what}", seconds(row[ours]["first_call_s"]), ", ".join(peers)))
    return table(("first call", "nrjax", "peers"), lines)


def meeting(r: dict[str, Any]) -> str:
    """Seconds at equal error, by solver."""
    curves = r["work_precision"]
    lines = [
        (what, name, seconds(value))
        for part, what in (("trajectories", "trajectory"), ("lindblad", "laser setting of the Lindbladian"))
        for name, value in curves[part]["seconds_at_meeting_error"].items()
    ]
    return table(("of one", "solver", f"time at an error of {curves['meeting_error']:.0e}"), lines)


def growth(r: dict[str, Any]) -> str:
    """Warm and first calls against size."""
    lines = []
    for part, what, ours in SIZES:
        for row in r["scaling"][part]:
            peers = [f"{name} {seconds(row[key]['median_s'])}" for key, name in PEERS.items() if key in row]
            warm, first = row[ours]["median_s"], row[ours]["first_call_s"]
            lines.append((f"{row[what]:,} {what}", seconds(warm), seconds(first), ", ".join(peers)))
    return table(("size", "nrjax, warm", "nrjax, first call", "peers, warm"), lines)


def clusters(r: dict[str, Any]) -> str:
    """Time for each product of the Lindbladian of a model of 256 states."""
    rows = r["lindblad"]["clusters"]
    first = next(iter(rows.values()))["ns_per_product_and_number"]
    lines = [
        (name, f"{rounded(row['ns_per_product_and_number'])} ns", rounded(row["ns_per_product_and_number"] / first))
        for name, row in rows.items()
    ]
    return table(("model", "time for each real number of a state", "of the first"), lines)


def macrospins(r: dict[str, Any]) -> str:
    """Time and error of both sides."""
    pair = r["macrospins"]
    ours = [
        ("nrjax", f"rtol {row['rtol']:.0e}", f"{row['max_error']:.1e}", seconds(row["median_s"] / pair["pairs"]))
        for row in pair["simulate_many"]
    ]
    theirs = [
        (
            f"cmtj {row['mode']}",
            f"step {row['step_s']:.0e} s",
            f"{row['max_error']:.1e}",
            seconds(row["median_s"] / row["pairs"]),
        )
        for row in pair["cmtj"]
    ]
    return table(("solver", "setting", "largest error", "time for each pair"), [*ours, *theirs])


def compilation(r: dict[str, Any]) -> str:
    """Seconds that first calls add."""
    lines = [(f"`{name}`", seconds(value)) for name, value in r["phase_diagram"]["compile_s"].items()]
    return table(("first call of", "adds"), lines)


def commands(r: dict[str, Any]) -> str:
    """What commands take in a new process."""
    lines = []
    for name, row in r["first_call"]["commands"].items():
        parts = row.get("warm_parts_s", {})
        said = ", ".join(
            f"{part} {seconds(parts[part])}" for part in ("import", "trace", "lower", "read", "load") if part in parts
        )
        cells = (f"{seconds(row[f'{kind}_s'])} ({rounded(row[f'{kind}_units'])})" for kind in ("cold", "warm"))
        lines.append((f"`nrjax {name}`", *cells, said))
    return table(("command", "nothing kept (units)", "programs kept (units)", "of which"), lines)


def maps(r: dict[str, Any]) -> str:
    """Full and refined maps."""
    lines = []
    for row in r["sweeps"]["maps"]:
        n = round(row["points"] ** 0.5)
        speeds = (f"{rounded(row[kind]['points_per_s'])} per s" for kind in ("full", "refined"))
        unresolved = f"{row['unresolved_in_full']}, {row['unresolved_when_refined']}"
        share, different = f"{row['share_in_full']:.1%}", str(row["labels_that_differ"])
        lines.append((f"{n} x {n}", *speeds, share, different, unresolved))
    return table(
        ("map", "full", "refined", "solved in full", "labels that differ", "UNRESOLVED in full, refined"), lines
    )


def sweep_peers(r: dict[str, Any]) -> str:
    """One small map by every sweeper."""
    lines = [
        (
            row["way"],
            seconds(row["median_s"]),
            f"{rounded(row['points'] / row['median_s'])} per s",
            str(row["wrong_labels"]),
        )
        for row in r["sweep_peers"]["rows"]
    ]
    return table(("way", "time", "points of the map", "wrong labels"), lines)


def stores(r: dict[str, Any]) -> str:
    """What a store costs, what a second thread gains, and how the cost grows."""
    sweeps = r["sweeps"]
    lines = [
        (f"{row['points']:,} points kept as Zarr", f"{rounded(row['points_per_s'])} per s", _gib(row["peak_bytes"]))
        for row in sweeps["large"]
    ]
    one, two = (row["points_per_s"] for row in sweeps["workers"])
    lines.append(("two threads against one", f"{two / one:.2f} times", ""))
    lines.append((f"a store of {sweeps['store']['points']:,} points", f"{sweeps['store']['overhead']:+.1%} time", ""))
    return table(("sweep", "speed", "most memory of the process"), lines)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def lattices(r: dict[str, Any]) -> str:
    """Spin steps per second."""
    names = {"all": "all to all", "nearest": "6 neighbours", 1: "box of 27"}
    lines = []
    for row in r["lattices"]["rows"]:
        peer = row.get("numba", {}).get("spin_steps_per_s")
        ours = row["nrjax"]["spin_steps_per_s"]
        cells = (f"{rounded(ours / 1e6)} million", "" if peer is None else f"{rounded(peer / 1e6)} million")
        lines.append((f"{row['cells']:,}", names[row["reach"]], row["dtype"], *cells))
    return table(("spins", "exchange", "precision", "nrjax, spin steps per s", "Numba"), lines)


AVERAGES = {"cube": "cube of 32^3 spins in a field", "chain": "open chain"}


def spin_peers(r: dict[str, Any]) -> str:
    """Speeds at an equal error of an average."""
    lines = []
    for job, name in AVERAGES.items():
        for row in r["spin_peers"][job]["at_equal_error"]:
            lines.append(
                (
                    f"{name}, within {r['spin_peers']['within'][job]}",
                    row["scheme"],
                    f"{row['dt_ps']} ps",
                    f"{row['error']:+.4f} ± {row['standard_error']:.4f}",
                    f"{rounded(row['spin_steps_per_s'] / 1e6)} million",
                    f"{rounded(row['megaspin_ps_per_s'])} ps",
                )
            )
    head = ("average", "scheme", "longest step", "error", "spin steps per s", "of a million spins, per s")
    return table(head, lines)


def at_equal_error(r: dict[str, Any]) -> Iterable[tuple[str, str, float]]:
    """(job, peer, how many times faster nrjax is) in double precision, against the best scheme of each peer."""
    for job, name in AVERAGES.items():
        rows = r["spin_peers"][job]["at_equal_error"]
        best = max((row for row in rows if row["peer"]), key=lambda row: row["megaspin_ps_per_s"])
        (ours,) = (row for row in rows if row["scheme"] == "nrjax, float64")
        yield name, best["scheme"].split(",")[0], ours["megaspin_ps_per_s"] / best["megaspin_ps_per_s"]


def for_a_gpu(r: dict[str, Any]) -> str:
    """What was compiled for a GPU without one."""
    lines = []
    for name, by_type in json.loads((ROOT / "benchmarks/results/gpu-compilation.json").read_text())["programs"].items():
        for dtype, row in by_type.items():
            loops = [f"{loop['total']}" for loop in row["loops"][1:]]
            lines.append(
                (
                    f"{name}, {dtype}",
                    str(row["loops"][0]["total"]),
                    ", ".join(loops),
                    f"{row['scratch_bytes_per_lane']:,} B",
                    f"{row['most_registers']}, {row['spilled_bytes']} B",
                )
            )
    return table(
        ("program", "launches outside loops", "in one turn of each loop", "scratch per lane", "registers, spilled"),
        lines,
    )


def gpus() -> list[dict[str, Any]]:
    """What was measured on GPUs."""
    files = sorted((ROOT / "benchmarks/results").glob("gpu-*.json"))
    return [found for path in files if "map" in (found := json.loads(path.read_text()))]


def measured(found: dict[str, Any], *parts: str) -> list[dict[str, Any]]:
    """The rows of parts of a day with a GPU that came to an end."""
    return [row for part in parts for row in found.get(part, []) if "median_s" in row]


def on_a_gpu(r: dict[str, Any]) -> str:
    """What was measured on GPUs, and the same on the processor where that was."""
    return "\n\n".join(
        f"{_agreement(found)}\n\n{table(('job', 'time', 'speed', 'on two CPU cores'), _gpu_lines(found, r))}"
        for found in gpus()
    )


def _agreement(found: dict[str, Any]) -> str:
    where, agree = found["machine"], {row.get("of"): row for row in found["agreement"]}
    states, ends = agree["steady states"], agree["trajectories"]
    return (
        f"{where['device']}, {where['date']}, jax {where['versions']['jax']}. Of {states['points']:,} random points "
        f"the labels of {states['labels_that_differ']} differ from the CPU's, and valid frequencies by "
        f"{states['largest_difference_GHz']:.1e} GHz at most; the ends of as many trajectories by "
        f"{ends['largest_difference']:.1e}, less than their own error at this tolerance.{_cycles(found)}{_tests(found)}"
    )


def _tests(found: dict[str, Any]) -> str:
    rows = found.get("tests", [])
    parts = [
        f"as many as {row['wall_s']:.0f} s allow: {row['passed']} passed, {row['failed']} failed"
        + (f", {row['cut_off']} were cut off while they compiled" if row["cut_off"] else "")
        for row in rows
    ]
    return f" Of the project's tests ran there {'; of what has changed since, '.join(parts)}." if parts else ""


def _cycles(found: dict[str, Any]) -> str:
    return "".join(
        f" Of {row['points']:,} magnets with random parameters the labels of {row['labels_that_differ']} differ, and "
        f"{row['closed_orbits']} closed orbits by {row['largest_relative_difference_of_periods']:.1e} of their period."
        for row in found.get("agreement_of_cycles", [])
        if "closed_orbits" in row
    )


# Numbers that a step of a spin has to move at least: its spin is read and a halfway one written, then both are read and
# the next one written.
NUMBERS_MOVED = 15


def _gpu_lines(found: dict[str, Any], r: dict[str, Any]) -> list[tuple[str, ...]]:
    lines = []

    def add(job: str, row: dict[str, Any], number: int, unit: str, here: float | None = None) -> None:
        speed = f"{rounded(number / row['median_s'])} {unit} per s"
        lines.append((job, seconds(row["median_s"]), speed, "" if here is None else rounded(here)))

    here, paths, pair = r["sweeps"]["maps"][-1], r["trajectories"], r["lindblad"]
    points = here["points"]
    for row in measured(found, "map"):
        add(f"full map, {points:,} points", row, points, "points", here["full"]["points_per_s"])
    for row in measured(found, "refined_map"):
        add("refined map of the same points", row, points, "points", here["refined"]["points_per_s"])
    for part, dtype in (("trajectories", "float64"), ("trajectories_in_single_precision", "float32")):
        for row in measured(found, part)[:1]:
            number, on_cpu = row["trajectories"], paths["lanes"] / paths["simulate_many"]["median_s"]
            on_cpu = on_cpu if dtype == "float64" else None
            add(f"{number:,} trajectories of 33 ps, {dtype}", row, number, "trajectories", on_cpu)
    for row in measured(found, "designs"):
        add(f"{row['restarts']:,} restarts of a laser design", row, row["restarts"], "restarts")
    lattice = {(row["cells"], row["dtype"]): row["nrjax"] for row in r["lattices"]["rows"] if row["reach"] == "nearest"}
    copied = next((row["bytes_per_s"] for row in measured(found, "spin_lattices") if "bytes_per_s" in row), None)
    graphs = {row["cells"]: row["spin_steps_per_s"] for row in measured(found, "as_graphs") if "cells" in row}
    for row in measured(found, "spin_lattices"):
        if "cells" not in row:
            continue
        cells, dtype, speed = row["cells"], row["dtype"], row["spin_steps_per_s"]
        on_cpu = lattice.get((cells, dtype), {}).get("spin_steps_per_s")
        ours = f"{rounded(speed / 1e6)} million spin steps per s"
        if copied is not None:
            least = NUMBERS_MOVED * (4 if dtype == "float32" else 8)
            ours += f", {100 * speed * least / copied:.0f} % of what memory allows"
        if dtype == "float32" and cells in graphs:
            ours += f"; as graphs {rounded(graphs[cells] / 1e6)} million"
        cpu = "" if on_cpu is None else f"{rounded(on_cpu / 1e6)} million"
        lines.append((f"{cells:,} spins with 6 neighbours, {dtype}", "", ours, cpu))
    for row in measured(found, "lindbladians")[-1:]:
        on_cpu = pair["settings"] / pair["comparison"]["nrjax"]["median_s"]
        job = f"Lindbladian of 256 states, {row['settings']:,} laser settings"
        add(job, row, row["settings"], "settings", on_cpu)
    for row in measured(found, "agreement_of_cycles"):
        add(f"{row['points']:,} magnets with random parameters", row, row["points"], "points")
    for row in measured(found, "as_graphs"):
        if row.get("of") == "a map":
            add("the full map, loops as graphs", row, points, "points")
        if row.get("of") == "closed orbits":
            add("the random magnets, loops as graphs", row, row["points"], "points")
    for row in measured(found, "general_road"):
        add(f"{row['points']:,} magnets in a field", row, row["points"], "points")
    return lines


def gpu_in_short(r: dict[str, Any]) -> str:
    """One line for the README."""
    del r
    found = gpus()[-1]
    best = measured(found, "map")[0]["median_s"]
    paths, designs = measured(found, "trajectories")[0], measured(found, "designs")[0]
    device = found["machine"]["device"]
    return (
        f"On one {device}: a map of a million points in {seconds(best)}, a million trajectories in\n"
        f"{seconds(paths['median_s'])}, {designs['restarts']:,} restarts of a design in {seconds(designs['median_s'])}."
    )


def machines(r: dict[str, Any]) -> str:
    """Where each result was measured."""
    lines = []
    for name, result in r.items():
        where = result["machine"]
        versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if k in ("jax", "diffrax", "equinox"))
        lines.append(
            (f"`results/{name}-cpu.json`", f"{where['processor']}, {where['cores']} cores", where["date"], versions)
        )
    return table(("result", "processor", "date", "versions"), lines)


def history() -> str:
    """Medians by commit, from what pytest-benchmark saved."""
    runs = [json.loads(path.read_text()) for path in sorted((ROOT / "benchmarks/history").rglob("*.json"))]
    names = sorted({entry["param"] for run in runs for entry in run["benchmarks"]})
    lines = []
    for run in sorted(runs, key=lambda run: run["datetime"]):
        medians = {entry["param"]: entry["stats"]["median"] for entry in run["benchmarks"]}
        dirty = "+" if run["commit_info"].get("dirty") else ""
        cells = [seconds(medians[name]) if name in medians else "" for name in names]
        lines.append((run["datetime"][:10], run["commit_info"]["id"][:7] + dirty, *cells))
    return table(("date", "commit", *(name.removeprefix("test_").replace("_", " ") for name in names)), lines)


BLOCKS = {
    "summary": summary,
    "labels": labels,
    "losses": losses,
    "first_calls": first_calls,
    "meeting": meeting,
    "growth": growth,
    "clusters": clusters,
    "macrospins": macrospins,
    "compilation": compilation,
    "commands": commands,
    "maps": maps,
    "sweep_peers": sweep_peers,
    "stores": stores,
    "lattices": lattices,
    "spin_peers": spin_peers,
    "for_a_gpu": for_a_gpu,
    "on_a_gpu": on_a_gpu,
    "gpu_in_short": gpu_in_short,
    "machines": machines,
    "history": lambda r: history(),
}
PAGES = (ROOT / "README.md", ROOT / "benchmarks/README.md")


def renewed(text: str, r: dict[str, Any]) -> str:
    """A page with every generated block written anew: <!-- NAME: begin --> ... <!-- NAME: end -->."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin in text:
            before, rest = text.split(begin)
            text = f"{before}{begin}\n{block(r)}\n{end}{rest.split(end)[1]}"
    return text


def stale(r: dict[str, Any]) -> list[str]:
    """Pages and pictures that do not show the results."""
    pages = [path.relative_to(ROOT).as_posix() for path in PAGES if renewed(path.read_text(), r) != path.read_text()]
    pictures = [
        f"{name}.png"
        for name in figures.DRAW
        if figures.fingerprint_in(figures.FOLDER / f"{name}.png") != figures.fingerprint(r[name])
    ]
    return pages + pictures


def main() -> int:
    """Write, or check."""
    r = results()
    if "--check" in sys.argv:
        found = stale(r)
        print("stale: " + ", ".join(found) if found else "all numbers are those of the results")
        return int(bool(found))
    for path in PAGES:
        path.write_text(renewed(path.read_text(), r))
    for name, draw in figures.DRAW.items():
        if figures.fingerprint_in(figures.FOLDER / f"{name}.png") != figures.fingerprint(r[name]):
            draw(r[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
