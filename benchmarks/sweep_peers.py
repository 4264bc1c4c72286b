"""One phase diagram by nrjax's sweeps and by libraries that sweep any function: seconds, and labels that are wrong.

The reference bilayer on 65 x 65 points, labels only. All peers call nrjax's solver, so what differs is how points are
chosen, sent and kept: `jax.vmap` of all points at once; pipefunc, point by point, each kept on the disk; adaptive's
LearnerND, which chooses points where labels change and gives the grid the label of the nearest one. Warm.

python benchmarks/sweep_peers.py        writes benchmarks/results/sweep_peers-DEVICE.json (about a minute)
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import adaptive  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
import record
import sweeps
from pipefunc import Pipeline, pipefunc  # pyright: ignore[reportMissingImports]
from scipy.spatial import KDTree

import nrjax

SIDE: Final = 65


@jax.jit
def _phase(loss_rate: jax.Array, interlayer_exchange: jax.Array) -> jax.Array:
    magnet = nrjax.hanai2025_bilayer(loss_rate, interlayer_exchange)
    return nrjax.steady_state(magnet, throw=False).phase


def phase(loss_rate: float, interlayer_exchange: float) -> int:
    """The label of one point."""
    return int(_phase(jnp.asarray(loss_rate), jnp.asarray(interlayer_exchange)))


def by_vmap() -> Any:
    """All points at once."""
    loss, exchange = (jnp.asarray(x).ravel() for x in np.meshgrid(*sweeps.axes(SIDE).values(), indexing="ij"))
    return np.asarray(_all(loss, exchange)).reshape(SIDE, SIDE)


_all = jax.jit(jax.vmap(_phase))


def by_pipefunc() -> Any:
    """Point by point, kept in files as it goes."""
    step = pipefunc(output_name="label", mapspec="loss_rate[i], interlayer_exchange[j] -> label[i, j]")(phase)
    with tempfile.TemporaryDirectory() as folder:
        found = Pipeline([step]).map(
            sweeps.axes(SIDE), run_folder=Path(folder) / "run", parallel=False, storage="file_array"
        )
        return np.asarray(found["label"].output, dtype=int)


def by_learner(points: int) -> Any:
    """So many points where the learner wants them, and the nearest one's label for each of the grid."""
    axes = sweeps.axes(SIDE)
    bounds = [(float(x[0]), float(x[-1])) for x in axes.values()]
    learner = adaptive.LearnerND(lambda x: float(phase(*x)), bounds=bounds)
    adaptive.runner.simple(learner, npoints_goal=points)
    scale = np.array([high - low for low, high in bounds])
    known = np.array(list(learner.data))
    grid = np.stack([x.ravel() for x in np.meshgrid(*axes.values(), indexing="ij")], axis=1)
    _, nearest = KDTree(known / scale).query(grid / scale)
    return np.array(list(learner.data.values()))[nearest].astype(int).reshape(SIDE, SIDE)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    exact = sweeps.solved(SIDE)["phase"].values
    ways: dict[str, Callable[[], Any]] = {
        "nrjax sweep": lambda: sweeps.solved(SIDE, observe="phase")["phase"].values,
        "nrjax sweep, refined": lambda: sweeps.solved(SIDE, observe="phase", refine=True)["phase"].values,
        "vmap of steady_state": by_vmap,
        "pipefunc": by_pipefunc,
        "adaptive LearnerND, a quarter of the points": lambda: by_learner(SIDE * SIDE // 4),
    }
    rows = []
    for name, way in ways.items():
        times = record.timed(way, repeats=3)
        rows.append({"way": name, **times, "wrong_labels": int((way() != exact).sum()), "points": SIDE * SIDE})
        print(rows[-1], flush=True)
    begun = time.perf_counter()
    for _ in range(100):
        phase(0.05, 6.0)
    record.write("sweep_peers", {"rows": rows, "one_point_s": (time.perf_counter() - begun) / 100})


if __name__ == "__main__":
    main()
