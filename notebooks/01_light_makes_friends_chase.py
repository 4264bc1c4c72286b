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
# # Light makes friends chase
#
# Two magnetic layers, A and B, that want to point the same way. A laser is tuned to the doubly occupied states of B: they
# lose an electron before they can do what holds the layers together, and B now wants to point *away* from A, while A still
# wants to align with B. Neither can win, so they turn (Hanai, Ootsuki and Tazai, Nature Communications 2025).
#
# Energies are in meV, times in ps, frequencies in GHz, intensities in W/cm².

# %%
import jax

jax.config.update("jax_enable_x64", True)
import matplotlib.pyplot as plt
import numpy as np

import nrjax

# %% [markdown]
# ## In the dark, friends
#
# `illuminated_bilayer` is the published bilayer on local moments, under a laser of a given intensity and photon energy. In
# darkness its steady state is aligned and stands still.

# %%
dark = nrjax.illuminated_bilayer(intensity=0.0)
print(nrjax.steady_state(dark))

# %% [markdown]
# ## In the light, a chase
#
# 26.5 GW/cm² at 1550 meV, the resonance of layer B. `exposure` tells what that means for the sample. Two frequencies: the
# *chase* is the rate at which one layer follows the other, the *rotation* that of the whole magnet, and the only one of the
# two that a probe sees as a line.

# %%
lit = nrjax.illuminated_bilayer(intensity=2.65e10, photon_energy=1550.0)
state = nrjax.steady_state(lit)
print(state)
print(nrjax.exposure(lit, state.m))

# %% [markdown]
# The steady state was *solved for*: a rotating state stands still in the frame that rotates with it. A trajectory from the
# dark state is the independent check.

# %%
times = np.linspace(0.0, 400.0, 16001)
solution = nrjax.simulate(lit, nrjax.default_start(dark), times[-1], saveat=times, spins=1e6)
frequency = nrjax.instantaneous_frequency(solution)
print(
    f"chase: solved for {float(state.chase_frequency):.6f} GHz, in the trajectory {float(frequency.chase[-1]):.6f} GHz"
)
assert abs(float(frequency.chase[-1] / state.chase_frequency) - 1.0) < 1e-4

# %% [markdown]
# The directions of both moments during nine tenths of a turn about z: both go round at a fixed angle, one behind the other.
# Beside it the way from the dark state to the chase: the tilt grows from cycle to cycle until the shape stands still.

# %%
axis = np.asarray(state.angular_velocity)
start = nrjax.turning_about(state, [0.0, 0.0, 1.0])
period = 1e3 / float(state.rotation_frequency)
turn = nrjax.simulate(lit, start, 0.9 * period, saveat=np.linspace(0.0, 0.9 * period, 181))
figure = plt.figure(figsize=(11, 4.6), layout="constrained")
space = figure.add_subplot(1, 2, 1, projection="3d")
for layer, (name, colour) in enumerate([("A", "#0072b2"), ("B", "#e69f00")]):
    path = np.asarray(turn.ms[:, layer])
    path = path / np.linalg.norm(path[0])
    space.plot(*path.T, color=colour)
    space.quiver(
        0, 0, 0, *path[-1], color=colour, arrow_length_ratio=0.12, linewidth=2.5, label=f"m_{name} (direction)"
    )
space.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), xlabel="x", ylabel="y", zlabel="z", title="one turn about z")
space.legend()
shape = figure.add_subplot(1, 2, 2)
shape.plot(times, frequency.chase, color="black", linewidth=0.8)
shape.set(xlabel="time (ps)", ylabel="chase frequency (GHz)", title="from the dark state to the chase")
plt.show()

# %% [markdown]
# ## A frequency modulator
#
# The intensity switches the rotation on and sets its speed.

# %%
curve = nrjax.sweep(nrjax.illuminated_bilayer, {"intensity": np.linspace(0.0, 6e10, 201)}, progress=False)
chiral = curve.phase == nrjax.Phase.CHIRAL
edges = curve.intensity.values[chiral.values][[0, -1]]
print(f"chiral between {edges[0]:.3g} and {edges[1]:.3g} W/cm²")
figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
axes.plot(curve.intensity, curve.chase_frequency.where(chiral), color="#009e73", linewidth=2)
axes.set(xlabel="intensity (W/cm²)", ylabel="chase frequency (GHz)", xlim=(0, 6e10), ylim=(0, None))
plt.show()
