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
import numpy as np

import nrjax

folder = next(p for p in (Path("benchmarks"), Path("../benchmarks")) if p.is_dir()) / "results"
results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
for name, result in results.items():
    where = result["machine"]
    print(
        f"{name:24s} {where['processor']}, {where['cores']} cores, {where['dtype']}, jax {where['versions']['jax']}, {where['date']}"
    )

# %% [markdown]
# ## Where time goes, from the committed results

# %%
design = next(r for name, r in results.items() if name.startswith("inverse_design"))
lindblad = next(r for name, r in results.items() if name.startswith("lindblad"))
print(
    f"64 restarts of a design: {design['restarts']['nrjax']['median_s']:.2f} s, "
    f"{design['restarts']['ratio']:.0f} times faster than L-BFGS-B on the same function"
)
print(
    f"one gradient: {1e3 * design['gradients']['implicit']['median_s']:.2f} ms, "
    f"{design['gradients']['ratio']:.0f} times faster than through the trajectory"
)

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
