# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Benchmarks
#
# What the committed results say, and a small run here. `make bench` makes them anew; `benchmarks/README.md` explains each.

# %%
import json
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display

import nrjax

folder = next(p for p in (Path("benchmarks"), Path("../benchmarks")) if p.is_dir()) / "results"
results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
for name, result in results.items():
    where = result["machine"]
    print(
        f"{name:24s} {where['processor']}, {where['cores']} cores, {where['dtype']}, jax {where['versions']['jax']}, {where['date']}"
    )

# %% [markdown]
# ## What was measured
#
# How many times faster than each peer, at equal accuracy, warm; below 1 we lose.

# %%
cpu = {result["benchmark"]: result for result in results.values() if result["machine"]["platform"] == "cpu"}
paths, inverse = cpu["trajectories"], cpu["inverse_design"]
ratios = {
    "phase diagram / vmap of Diffrax": cpu["phase_diagram"]["times_faster_than_plain_diffrax"],
    "trajectories / vmap of Diffrax": paths["times_faster_than_plain_diffrax"],
    "trajectories / Numba": paths["times_faster_than_numba"],
    "trajectories / SciPy": paths["times_faster_than_solve_ivp"],
    "two macrospins / cmtj": cpu["macrospins"]["ratio"],
    "Lindbladian / dynamiqs": cpu["lindblad"]["comparison"]["times_faster_than_dynamiqs"],
    "Lindbladian / QuTiP": cpu["lindblad"]["comparison"]["times_faster_than_qutip"],
    "laser design / L-BFGS-B": inverse["restarts"]["ratio"],
    "gradient / through a trajectory": inverse["gradients"]["ratio"],
}
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
axes.barh(
    list(ratios), list(ratios.values()), color=["#009e73" if ratio >= 1 else "#d55e00" for ratio in ratios.values()]
)
axes.axvline(1.0, color="0.2", linewidth=0.8)
axes.set(xscale="log", xlabel="times faster than the peer")
axes.invert_yaxis()
plt.show()

# %% [markdown]
# Time against error, and growth with size; small sizes and first calls are where we lose.

# %%
display(Image(folder.parent / "figures/work_precision.png"), Image(folder.parent / "figures/scaling.png"))

# %% [markdown]
# ## A small run here
#
# The first call compiles; the second shows the speed.

# %%
grid = {"loss_rate": np.linspace(0.0, 0.12, 161), "interlayer_exchange": np.linspace(0.0, 12.0, 161)}
for call in ("first", "second"):
    begin = time.perf_counter()
    dataset = nrjax.sweep(nrjax.hanai2025_bilayer, grid, progress=False)
    seconds = time.perf_counter() - begin
    print(f"{call} call: {seconds:.2f} s, {dataset.phase.size / seconds:,.0f} steady states per second")
print("devices:", jax.devices())
