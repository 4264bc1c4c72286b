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
# # An experiment that could work?
#
# A chase costs light, and light melts the magnet that it turns. Which material and which laser would show a turn before that?
# The answer is a search over all that theory leaves open, and it is an honest one: with visible light none, within the ranges
# stated below.

# %%
# %matplotlib inline
import warnings

import jax

jax.config.update("jax_enable_x64", True)
import equinox as eqx
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nrjax
from nrjax import Phase, plot, units

warnings.filterwarnings("ignore", message=".*is unusual.*")  # far-infrared photons, meant so

# %% [markdown]
# ## The published point

# %%
gadolinium = nrjax.ThermalModel.gadolinium(cooling_time=10.0, bath_temperature=9.0)
published = nrjax.experiment(nrjax.illuminated_bilayer(2.65e10, 1550.0), gadolinium)
print(published)

# %%
plot.experiment(published)

# %% [markdown]
# Every turn costs about a photon per site, whatever the intensity, and a photon of 1.55 eV brings fifty times the heat that
# separates the sample from its melting point.
#
# ## What has to be small
#
# The number that counts is photons per site and turn. In the limit of weak light it goes like
# $n |g| \sqrt{\alpha_B/\alpha_A}/j$: less coupling, fewer electrons, more exchange. But the exchange is carried by those
# electrons: $2 |s| = 2 j m/|g|$ of their spin, and they have no more than $n$. What a search would gain by leaving that out
# is no material (`EnoughElectrons`).
#
# ## All that theory leaves open
#
# The exchange within layer A sets the scale (10 meV, Curie point 116 K). Everything else ranges over what magnetic metals
# might have; gyro = 2 as for every electron.

# %%
bounds = {
    "damping_a": (2e-3, 0.3),
    "damping_b": (2e-3, 0.3),
    "coupling": (1.0, 100.0),  # |g|, meV
    "filling": (0.1, 1.0),
    "across": (0.5, 20.0),  # j_AB, meV
    "within_b": (0.1, 10.0),  # j_BB, meV
    "temperature": (0.5, 11.5),  # meV
    "light": (0.5, 20.0),  # loss rate of B in units of alpha_B |g|, the threshold of the theory
}
logarithmic = ["damping_a", "damping_b", "coupling", "light"]


def material(damping_a, damping_b, coupling, filling, across, within_b, temperature, light):
    exchange = jnp.stack([jnp.stack([jnp.full_like(across, 10.0), across]), jnp.stack([across, within_b])])
    loss = light * damping_b * coupling
    return nrjax.LayeredMagnet(
        exchange,
        jnp.stack([damping_a, damping_b]),
        -coupling,
        jnp.stack([jnp.zeros_like(loss), loss]),
        filling,
        temperature,
    )


counter = nrjax.ThermalModel.gadolinium(jnp.inf, 9.0, photon_energy=1.0)  # meV: counts photons


class Photons(nrjax.AbstractObservable):
    """Absorbed per site and turn of the chase."""

    name: str = eqx.field(default="photons", static=True)
    unit: str = eqx.field(default="1", static=True)
    long_name: str = eqx.field(default="photons per site and turn", static=True)

    def __call__(self, magnet, state):
        return jnp.mean(counter.power(magnet, state.m)) / (state.chase_frequency * 1e-3)


class Electrons(nrjax.AbstractObservable):
    """The share of the electrons' spin that the exchange takes."""

    name: str = eqx.field(default="electrons", static=True)
    unit: str = eqx.field(default="1", static=True)
    long_name: str = eqx.field(default="share of the electrons' spin", static=True)

    def __call__(self, magnet, state):
        return nrjax.EnoughElectrons().quantity(magnet, state)


class Warming(nrjax.AbstractObservable):
    """What the sample may warm by before its order is lost."""

    name: str = eqx.field(default="warming", static=True)
    unit: str = eqx.field(default="K", static=True)
    long_name: str = eqx.field(default="warming to where the order is lost", static=True)

    def __call__(self, magnet, state):
        return (nrjax.ordering_temperature(magnet) - magnet.temperature[0]) / units.kelvin


points = nrjax.spread_points(bounds, 2**16, logarithmic=logarithmic)
observe = ["phase", "valid", "chase_frequency", Photons(), Electrons(), Warming()]
sample = nrjax.sweep_points(material, points, observe=observe, progress=False)
chases = ((sample.phase == Phase.CHIRAL) & sample.valid).values
carried = chases & (sample.electrons <= 1.0).values
print(f"{len(chases)} materials, {chases.sum()} chase, in {carried.sum()} of them electrons carry the exchange")

# %% [markdown]
# Which of these still chase with a tenth less light, and which stay together in space?

# %%
weaker = nrjax.sweep_points(material, points | {"light": points["light"] / 1.1}, observe=["phase"], progress=False)
carried &= (weaker.phase == Phase.CHIRAL).values
index = np.flatnonzero(carried)
magnets = jax.vmap(material)(*(jnp.asarray(points[name][index]) for name in bounds))
growth = jax.vmap(lambda magnet: nrjax.spatial_stability(magnet).fastest_growth_rate)(magnets)
stays = np.zeros_like(chases)
stays[index] = np.asarray(growth) < 0.0
print(f"{index.size} with a margin of ten per cent, of which {stays.sum()} stay together")

# %% [markdown]
# One turn of N photons of energy E at the frequency f brings the heat E N to the lattice (C_l = 3 k_B per atom), and keeps the
# electrons P/G = E N f/G ahead of it. With $\Delta T$ to go until the order is lost, one turn can be seen with photons of at
# most $E = C_l \Delta T / [N (1 + C_l f/G)]$.

# %%
capacity, frequency = 3.0 * units.kelvin, sample.chase_frequency.values * 1e-3  # meV/K, 1/ps
ahead = 1.0 + capacity * frequency / float(gadolinium.coupling)
largest = capacity * sample.warming.values / (sample.photons.values * ahead)  # meV
figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
for mask, colour, label in (
    (carried & ~stays, "#d55e00", "falls apart in space"),
    (stays, "#009e73", "stays together"),
):
    axes.loglog(sample.chase_frequency.values[mask], largest[mask], ".", color=colour, label=label, markersize=4)
axes.axhline(1550.0, color="black", linestyle="--", linewidth=1)
axes.text(1.2, 1650.0, "800 nm")
axes.set(
    xlabel="chase frequency (GHz)",
    ylabel="largest photon energy for one turn (meV)",
    xlim=(1.0, 2000.0),
    ylim=(1e-3, 4e3),
    title="what the light may bring, one point for each material",
)
axes.legend(loc="lower right")
best = int(np.flatnonzero(stays)[np.argmax(largest[stays])])
print({name: float(f"{points[name][best]:.3g}") for name in bounds})
print(
    f"{float(sample.photons[best]):.2f} photons a turn, {float(sample.warming[best]):.0f} K to go: one turn with photons of "
    f"{largest[best]:.0f} meV or less; with 1550 meV {largest[best] / 1550.0:.3f} turns"
)
assert largest[stays].max() < 1550.0 / 10.0

# %% [markdown]
# ## The best candidate, with a laser
#
# Light with two thirds of that photon energy, far in the infrared, on a transition there, at the same loss rate. Whether a
# virtual doublon can have a resonance that low is another question; visible light cannot do it.

# %%
chosen = {name: float(points[name][best]) for name in bounds}
energy = 0.67 * float(largest[best])
loss_rate = chosen["light"] * chosen["damping_b"] * chosen["coupling"]
level = 60.0 * chosen["coupling"]  # |v| is small against it
moment = dict(level=-level, repulsion=2.0 * level, hybridization=np.sqrt(0.5 * chosen["coupling"] * level))


def lit(intensity):
    """The best candidate under light of `intensity` W/cm^2 on layer B."""
    dark = material(**{name: jnp.asarray(value) for name, value in chosen.items()})
    transition = nrjax.OpticalTransition(energy, dipole=3.0, linewidth=20.0 * loss_rate)
    layers = nrjax.LocalMoment(**moment), nrjax.LocalMoment(**moment, transition=transition)
    return dark.with_light(layers, nrjax.Laser(intensity, energy))


one = float(lit(1.0).loss_rate[1])
plan = nrjax.experiment(lit(loss_rate / one), nrjax.ThermalModel.gadolinium(jnp.inf, float(chosen["temperature"])))
print(plan)

# %%
plot.experiment(plan)

# %% [markdown]
# ## What stands between this and a sample
#
# - **Heat**: within these ranges light of 1.55 eV is too expensive by more than a factor of a hundred. Cooling does not help:
#   what a turn costs has to leave the electrons within the turn.
# - **Everything else that absorbs**: a metal takes far-infrared light in its skin, and none of that is in the numbers above
#   (`background_depth` of a `ThermalModel` puts it in).
# - **The model**: mean field, one temperature, electrons in equilibrium. Materials in which the exchange is not carried by the
#   electrons that the light takes (Hund insulators, notebook 09) pay other prices.
