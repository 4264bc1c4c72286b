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
# # Does it survive?
#
# A uniform bilayer without noise chases for ever. A sample is neither uniform nor without noise. Three questions, in ten
# minutes: does the chase stay together in space, when does it start, how sharp is its line?

# %%
# %matplotlib inline
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nrjax
from nrjax import plot

# %% [markdown]
# ## In space
#
# At the published point the uniform chase is a solution, and it is unstable: a wave of deviations whose exchange is weaker
# than the uniform one grows within picoseconds.

# %%
magnet = nrjax.hanai2025_bilayer(0.066, 6.0)
stability = nrjax.spatial_stability(magnet)
print(stability)
plot.survival(stability, "the published bilayer, loss rate 0.066 meV")

# %% [markdown]
# Precession does it: where it is slow against damping and light, the chase survives. The hatched part of the phase diagram
# falls apart.

# %%
dataset = nrjax.sweep(
    lambda loss_rate, gyro: nrjax.hanai2025_bilayer(loss_rate, 6.0, gyro=gyro),
    {"loss_rate": np.linspace(0.02, 0.1, 81), "gyro": np.linspace(0.0, 2.0, 61)},
    observe=["phase", "chase_frequency", nrjax.SpatialGrowth()],
    progress=False,
)
plot.phase_diagram(dataset)

# %% [markdown]
# ## Spin by spin
#
# One classical spin of each layer in every cell of a lattice, with thermal noise, exchange over a box of 27 cells. Without
# precession the layers keep chasing; with it they do not.

# %%
light = {"sd_coupling": -10.0, "loss_rate": [0.0, 0.1]}
times = np.linspace(1.0, 60.0, 60)
runs = {}
for gyro in (0.0, 2.0):
    spins = nrjax.LayeredMagnet(
        [[10.0, 6.0], [6.0, 5.0]], [0.1, 0.002], **light, temperature=1.5, gyro=gyro, bath=nrjax.ClassicalBath()
    )
    lattice = nrjax.SpinLattice.from_layers(spins, (12, 12, 12), reach=1)
    runs[gyro] = nrjax.simulate_spins(
        lattice, jax.random.key(1), 60.0, saveat=times, observe={"chirality": nrjax.local_chirality}, progress=False
    )

figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
for gyro, run in runs.items():
    area = np.linalg.norm(np.cross(np.asarray(run.moments)[:, 0], np.asarray(run.moments)[:, 1]), axis=1)
    axes.plot(times, area, label=f"gyro = {gyro:g}")
axes.set(xlabel="time (ps)", ylabel=r"$|m_A \times m_B|$ of the whole sample")
axes.legend()
late = {
    g: np.mean(np.linalg.norm(np.cross(*np.moveaxis(np.asarray(r.moments)[-20:], 1, 0)), axis=1))
    for g, r in runs.items()
}
print({gyro: round(float(value), 3) for gyro, value in late.items()})
assert late[0.0] > 3 * late[2.0]

# %%
plot.snapshot(runs[0.0])

# %%
plot.snapshot(runs[2.0])

# %% [markdown]
# ## What a mean field leaves out
#
# A layer of nrjax is a mean that obeys a closed equation. Infinitely many single spins, each in the mean field of all, have a
# whole distribution of directions: the black line. The closure sets the chase on a little late, and lets it be a tenth too slow.


# %%
def single_spins(loss_rate):
    layers = nrjax.LayeredMagnet(
        [[10.0, 6.0], [6.0, 5.0]],
        [0.1, 0.002],
        sd_coupling=-10.0,
        loss_rate=[0.0, loss_rate],
        temperature=2.0,
        bath=nrjax.ClassicalBath(),
    )
    return nrjax.FokkerPlanckMagnet(layers)


def closure(loss_rate):
    return single_spins(loss_rate).magnet


line = {"loss_rate": np.linspace(0.0, 0.12, 61)}
exact, closed = (nrjax.sweep(build, line, progress=False) for build in (single_spins, closure))
for name, build in (("single spins", single_spins), ("closure", closure)):
    (onset,) = nrjax.boundary(build, nrjax.Boundary.ANTIALIGNED_CHIRAL, "loss_rate", (0.0, 0.12))
    print(f"{name}: the chase begins at {onset:.5f} meV")
plot.characteristic(exact, beside={"closure": closed})

# %% [markdown]
# ## When it starts
#
# A chase grows from the tilt that thermal motion leaves. Layers of N spins fluctuate, and each realization starts at a time of
# its own: fewer spins sooner, all with the same spread.

# %%
lit = nrjax.illuminated_bilayer(2.65e10, 1550.0, gyro=0.0)  # without precession: long steps
rest = nrjax.steady_state(lit.without_light()).m
final = nrjax.steady_state(lit)
half = 0.5 * float(jnp.linalg.norm(jnp.cross(*final.m)))
saved = np.linspace(0.0, 300.0, 301)


def opening(key, number):
    """|m_A x m_B| of one realization."""
    run = nrjax.simulate(lit, rest, saved[-1], saveat=saved, spins=number, key=key, rtol=1e-5, throw=False)
    return jnp.linalg.norm(jnp.cross(run.ms[:, 0], run.ms[:, 1]), axis=1)


figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
for number, colour in ((1e5, "C0"), (1e8, "C1"), (1e11, "C2")):
    tilts = np.asarray(jax.vmap(opening, in_axes=(0, None))(jax.random.split(jax.random.key(2), 24), number))
    starts = saved[np.argmax(tilts > half, axis=1)]
    axes.plot(saved, tilts.T, color=colour, linewidth=0.7)
    print(f"N = {number:.0e}: starts after {starts.mean():.0f} ps, give or take {starts.std():.0f}")
    axes.plot([], [], color=colour, label=f"{number:.0e} spins: {starts.mean():.0f} ± {starts.std():.0f} ps")
axes.set(xlabel="time in the light (ps)", ylabel=r"$|m_A \times m_B|$", yscale="log", ylim=(1e-7, 0.1))
axes.legend()

# %% [markdown]
# ## How sharp it is
#
# A probe sees a line at the rotation frequency, none at the chase frequency; and the line is as wide as N spins make it.

# %%
published = nrjax.hanai2025_bilayer(0.05, 6.0)
for gyro in (2.0, 0.0):
    chase = nrjax.hanai2025_bilayer(0.05, 6.0, gyro=gyro)
    print(f"gyro = {gyro:g}: {nrjax.linewidth(chase, 1e6)}")
state = nrjax.steady_state(published)
print(nrjax.spectrum(state, nrjax.linewidth(published, 1e6))[["amplitude", "fwhm"]].to_dataframe().round(3))
