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
# # The phase diagram
#
# Steady states on a grid, the exact boundaries between them, and the places where two states are possible at once.

# %%
# %matplotlib inline
import jax

jax.config.update("jax_enable_x64", True)
import matplotlib.pyplot as plt
import numpy as np

import nrjax
from nrjax import Boundary, Phase, plot

# %% [markdown]
# ## Loss rate against exchange
#
# Each point is solved from the dark state on; one compilation serves the whole grid. The lines are closed forms, not
# read off the grid.

# %%
grid = {"loss_rate": np.linspace(0.0, 0.12, 161), "interlayer_exchange": np.linspace(0.0, 12.0, 161)}
dataset = nrjax.sweep(nrjax.hanai2025_bilayer, grid, progress=False)
figure = plot.phase_diagram(dataset, nrjax.hanai2025_bilayer)
figure

# %%
for phase in Phase:
    share = float((dataset.phase == phase).mean())
    if share:
        print(f"{phase.name.lower():13s} {100 * share:6.2f} %")
print("largest residual", f"{float(dataset.residual.where(dataset.valid).max()):.1e}")

# %% [markdown]
# ## The boundaries in numbers

# %%
onset = nrjax.boundary(
    nrjax.hanai2025_bilayer, Boundary.ANTIALIGNED_CHIRAL, "loss_rate", (0.0, 0.12), interlayer_exchange=6.0
)
melting = nrjax.boundary(
    nrjax.hanai2025_bilayer, Boundary.CHIRAL_PARAMAGNETIC, "loss_rate", (0.0, 0.12), interlayer_exchange=6.0
)
print(f"at j_AB = 6 meV the chase sets in at gamma_B = {onset[0]:.10f} meV and melts at {melting[0]:.10f} meV")

# %% [markdown]
# ## All states, stable or not
#
# `branches` lists every rigid state. In the chiral phase the collinear ones are still there, unstable.

# %%
for state in nrjax.branches(nrjax.hanai2025_bilayer(0.05, 6.0)):
    stable = "stable" if float(state.growth_rate) < 0 else "unstable"
    lengths = ", ".join(f"{float(x):.4f}" for x in state.lengths)
    print(
        f"{Phase(int(state.phase)).name.lower():13s} lengths {lengths}, growth rate {float(state.growth_rate):8.4f} meV, {stable}"
    )

# %% [markdown]
# ## Which light, how strong
#
# The same with a laser on local moments: photon energy against intensity.

# %%
light = {"photon_energy": np.linspace(1400.0, 1700.0, 121), "intensity": np.linspace(0.0, 6e10, 121)}
lit = nrjax.sweep(nrjax.illuminated_bilayer, light, progress=False)
figure = plot.phase_diagram(lit, nrjax.illuminated_bilayer)
figure

# %% [markdown]
# ## The exceptional point
#
# Small tilts of the collinear state: one mode is a common rotation and costs nothing, the other reaches the imaginary axis
# at the onset. Without precession both eigenvalues vanish there while the matrix does not: the modes coalesce.

# %%
rates = np.linspace(0.0205, 0.9999 * float(onset[0]), 12)
modes = []
for rate in rates:
    magnet = nrjax.hanai2025_bilayer(rate, 6.0, gyro=0.0)
    collinear = nrjax.steady_state(magnet)
    assert int(collinear.phase) == Phase.ANTIALIGNED
    modes.append(np.sort(np.linalg.eigvals(np.asarray(nrjax.tilt_modes(magnet, collinear.m))).real))
figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
axes.plot(rates, modes, color="#0072b2", linewidth=2)
axes.set(
    xlabel="loss rate (meV)", ylabel="rates of the two tilt modes (meV)", title="coalescence at the onset, gyro = 0"
)
plt.show()
print(f"the moving mode: {modes[0][0]:.5f} meV at first, {modes[-1][0]:.1e} meV next to the onset")
