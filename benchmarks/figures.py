"""The pictures of benchmarks/README.md. Each PNG carries a fingerprint of the results that it was drawn from."""

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "figures"
# Colour and marker of each solver, ours first.
STYLES = {
    "nrjax": ("#c0392b", "o"),
    "Numba": ("#2c3e50", "s"),
    "vmap of Diffrax Tsit5": ("#2980b9", "^"),
    "vmap of Diffrax Dopri8": ("#7fb3d5", "v"),
    "SciPy DOP853": ("#27ae60", "D"),
    "SciPy LSODA": ("#82e0aa", "d"),
    "QuTiP adams": ("#8e44ad", "^"),
    "QuTiP vern7": ("#bb8fce", "v"),
    "dynamiqs Dopri8": ("#d68910", "D"),
    "dynamiqs Tsit5": ("#f8c471", "d"),
}


def fingerprint(*results: dict[str, Any]) -> str:
    """A hash of what a picture shows."""
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_in(path: Path) -> str | None:
    """The fingerprint that a PNG carries; None without one, or without the file."""
    from PIL import Image

    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get("Results")


def _style(name: str) -> dict[str, Any]:
    colour, marker = next(style for key, style in STYLES.items() if name.startswith(key))
    ours = name.startswith("nrjax")
    return {"color": colour, "marker": marker, "lw": 2.2 if ours else 1.2, "ms": 6 if ours else 4.5, "label": name}


def _axes(count: int) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=(4.6 * count, 4.0), layout="constrained")
    for ax in axes:
        ax.set(xscale="log", yscale="log")
        ax.grid(True, which="major", alpha=0.3)
    return figure, axes


def _save(figure: Any, name: str, mark: str) -> None:
    import matplotlib.pyplot as plt

    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / name, dpi=130, metadata={"Results": mark})
    plt.close(figure)


def work_precision(result: dict[str, Any]) -> None:
    """Seconds against error, both parts."""
    figure, axes = _axes(2)
    parts = (
        ("trajectories", "median error of a moment", "seconds for each trajectory"),
        ("lindblad", "largest error of the density matrix", "seconds for each laser setting"),
    )
    for ax, (part, x, y) in zip(axes, parts, strict=True):
        for name, rows in result[part]["curves"].items():
            ax.plot([row["error"] for row in rows], [row["seconds"] for row in rows], **_style(name))
        ax.set(xlabel=x, ylabel=y)
        ax.invert_xaxis()
        ax.set_ylim(top=10.0 * ax.get_ylim()[1])
        ax.legend(fontsize=7.5, ncols=2, loc="upper left")
    axes[0].set_title(f"bilayer, {result['trajectories']['duration_ps']:.0f} ps", fontsize=10)
    axes[1].set_title("Anderson model, 256 states, 0.3 ps", fontsize=10)
    _save(figure, "work_precision.png", fingerprint(result))


def scaling(result: dict[str, Any]) -> None:
    """Cost against lanes, layers and states."""
    figure, axes = _axes(3)

    def draw(ax: Any, rows: list[dict[str, Any]], x: str, per: str | None, entries: dict[str, str]) -> None:
        for key, name in entries.items():
            seen = [row for row in rows if key in row]
            if not seen:
                continue
            seconds = [row[key]["median_s"] / (row[per] if per else 1) for row in seen]
            ax.plot([row[x] for row in seen], seconds, **_style(name))

    both = {"simulate_many": "nrjax simulate_many", "plain_diffrax": "vmap of Diffrax Tsit5", "numba": "Numba Tsit5"}
    draw(axes[0], result["lanes"], "lanes", "lanes", both)
    sweep = result["steady_states"]
    style = _style("nrjax sweep (steady states)") | {"ls": "--", "marker": "x"}
    axes[0].plot([row["points"] for row in sweep], [row["sweep"]["median_s"] / row["points"] for row in sweep], **style)
    axes[0].set(xlabel="trajectories, or points of a map", ylabel="seconds for each")
    draw(axes[1], result["layers"], "layers", "lanes", both)
    counts = [row["layers"] for row in result["layers"]]
    axes[1].set_xticks(counts, [str(count) for count in counts])
    axes[1].minorticks_off()
    axes[1].set(xlabel="layers", ylabel="seconds for each trajectory")
    solvers = {"nrjax": "nrjax evolve", "qutip": "QuTiP adams", "dynamiqs": "dynamiqs Dopri8"}
    draw(axes[2], result["hilbert"], "states", None, solvers)
    axes[2].set(xlabel="states (dimension of the Hilbert space)", ylabel="seconds for one evolution")
    for ax in axes:
        ax.legend(fontsize=7.5)
    _save(figure, "scaling.png", fingerprint(result))


DRAW = {"work_precision": work_precision, "scaling": scaling}
