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
# # Beyond magnets in a metal
#
# Light that empties virtual states makes torques in other materials, too. Who takes the reaction decides whether one order
# parameter can chase another: in a Mott insulator nobody does, and a theorem forbids what works in the metal.

# %%
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nrjax
from nrjax import Phase, units
from nrjax.lindblad import HubbardModel, HundModel, evolve, product_state

# %% [markdown]
# ## One orbital: light stirs, and its torques are equal and opposite
#
# Two sites of a Hubbard model with light on the second one only. A doublon is a singlet, and the light takes either of its
# electrons: what A loses B gains. Energies in units of U.

# %%
hopping, kappa = 0.02, 0.3
pair = HubbardModel([[0.1, hopping], [hopping, -0.1]], 1.0, [0.0, kappa])
gamma = float(pair.light().hop_rate[0, 1])
cost_b, cost_a = 1.0 - 0.2, 1.0 + 0.2
exchange = 2 * hopping**2 * (cost_b / (cost_b**2 + kappa**2) + 1 / cost_a)
times = np.linspace(0.0, 1.0 / gamma, 401)
seen = evolve(pair, product_state(pair, [[0, 0, 1], [0, 0, -1]]), times / units.ps, ["impurity_spin"])
spins = np.asarray(seen.observables["impurity_spin"])[:, :, 2]
closed = 0.5 * np.cos(exchange * times) * np.exp(-2 * gamma * times)

figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
axes.plot(gamma * times, spins, label=["$S_A$ (dark)", "$S_B$ (lit)"])
axes.plot(gamma * times, closed, "k--", linewidth=1, label="closed form")
axes.plot(gamma * times, spins.sum(axis=1), "0.5", label="sum")
axes.set(xlabel=r"$\gamma t$", ylabel="$S_z$", title="all 16 states: what A loses B gains")
axes.legend()
assert np.abs(spins.sum(axis=1)).max() < 1e-6 and np.abs(spins[:, 0] - closed).max() < 5e-3

# %% [markdown]
# ## So layers of equal damping never chase
#
# Of random Mott bilayers none does, whatever the light. Unequal dampings help: the light then beats the damping of one layer
# only.

# %%
number = 4000
ranges = [(-8, 8), (2, 15), (2, 15), (0, 0.3), (-3, -1)]
keys = jax.random.split(jax.random.key(0), len(ranges))
scatter = [jax.random.uniform(k, (number,), minval=a, maxval=b) for k, (a, b) in zip(keys, ranges, strict=True)]


def share_that_chases(ratio, light_of):
    """The share of random bilayers that rotate, layer A damped `ratio` times as much as B."""

    def one(across, a, b, rate, damping):
        exchange = jnp.stack([jnp.stack([a, across]), jnp.stack([across, b])])
        dampings = 10.0**damping * jnp.array([ratio**0.5, ratio**-0.5])
        return nrjax.LayeredMagnet(exchange, dampings, temperature=9.0, light=light_of(rate))

    states = nrjax.steady_states(jax.vmap(one)(*scatter))
    return float(np.mean(np.asarray(states.phase) == Phase.CHIRAL))


ratios = [1.0, 2.0, 5.0, 20.0, 50.0]
mott = [share_that_chases(r, nrjax.MottLight) for r in ratios]
hund = [share_that_chases(r, lambda g: nrjax.HundLight(3 * g, g, g)) for r in ratios]
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.semilogx(ratios, mott, "o-", label="one orbital (Mott)")
axes.semilogx(ratios, hund, "s-", label="two orbitals (Hund)")
axes.set(xlabel=r"$\alpha_A/\alpha_B$", ylabel="share that chases")
axes.legend()
assert mott[0] == 0.0 < mott[-1] and hund[0] > 0.0

# %% [markdown]
# ## Two orbitals: the photocurrent takes the reaction
#
# A's electron meets B's in a triplet or a singlet of different cost, and leaves the sample. The torques on A and B are no
# longer opposite: A runs away, B chases, with equal dampings.

# %%
borrowed = HundModel(0.05, 0.9, 1.9, 0.2)
light = borrowed.light()
print(f"G0 = {light.g0:.4g}, G1 = {light.g1:.4g}, G2 = {light.g2:.4g}, Y = {light.y:.4g} (units of the cost)")
times = np.linspace(0.0, 0.5 / float(light.g0), 201)
start = product_state(borrowed, [[0.0, 0.0, 0.8], [0.0, 0.0, 0.0]])
seen = evolve(borrowed, start, times / units.ps, ["impurity_spin"])
moments = 2.0 * np.asarray(seen.observables["impurity_spin"])[:, :, 2]
figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
axes.plot(float(light.g0) * times, moments, label=["$m_A$", "$m_B$"])
axes.plot(float(light.g0) * times, moments.sum(axis=1), "0.5", label="sum")
axes.set(xlabel="$G_0 t$", ylabel="moment along z", title="all 64 states: the photocurrent takes spin along")
axes.legend()
assert moments.sum(axis=1)[-1] < 0.9 * moments.sum(axis=1)[0]

# %%
magnet = nrjax.hund_bilayer()
state = nrjax.steady_state(magnet)
print(state)
figure = nrjax.plot.trajectory(
    nrjax.simulate(magnet, nrjax.default_start(magnet), 400.0, saveat=np.linspace(0.0, 400.0, 4001)),
    title="a Hund bilayer with equal damping",
)
figure

# %% [markdown]
# ## Two condensates: a voltage without a current
#
# Light breaks pairs that two superconducting bands share, and opposes their Josephson coupling. Where the bands relax at
# unequal rates their phases chase each other: the common phase turns against that of the normal electrons, which is a dc
# voltage between a superconducting and a normal probe.

# %%
rates = np.linspace(0.0, 0.18, 181)
states = nrjax.steady_states(jax.vmap(nrjax.two_band_superconductor)(jnp.asarray(rates)))
phase = np.asarray(states.phase)
frequency = np.where(phase == Phase.CHIRAL, np.asarray(states.rotation_frequency), np.nan)
figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
for value, colour in (
    (Phase.CHIRAL, nrjax.plot.COLOURS[Phase.CHIRAL]),
    (Phase.MODULATED, nrjax.plot.COLOURS[Phase.MODULATED]),
):
    here = rates[phase == value]
    if here.size:
        axes.axvspan(here.min(), here.max(), color=colour, alpha=0.25, label=value.name.lower())
axes.plot(rates, frequency, "k")
axes.set(xlabel=r"pair conversion by light $\gamma$ (meV)", ylabel="rotation (GHz)")
voltage = axes.secondary_yaxis("right", functions=(lambda f: 2.0678 * f, lambda v: v / 2.0678))
voltage.set_ylabel(r"voltage to a normal probe ($\mu$V)")
axes.legend(loc="upper left")
middle = nrjax.steady_state(nrjax.two_band_superconductor(0.1))
assert abs(float(middle.rotation_frequency) * units.GHz - 0.1143403866) < 1e-9

# %% [markdown]
# | material | who takes the reaction | condition for a chase | what rotates | what is measured |
# | --- | --- | --- | --- | --- |
# | metal | conduction electrons | loss rate > damping times coupling, in one layer | moments | Kerr effect, emission |
# | Mott insulator | nobody | unequal damping, antiferromagnetic exchange | moments | the same |
# | Hund insulator | the photocurrent | light beats A's damping | moments | the same |
# | two-band superconductor | normal electrons | unequal relaxation | phases | a voltage |
#
# The metal is special for one reason: the partner that the lit layer's electron meets is a conduction electron, whose bath
# absorbs what the layer loses.
