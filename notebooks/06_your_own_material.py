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
# # Your own material
#
# A magnet is an exchange matrix, a damping, a temperature, and a local moment for each layer. All of it can be yours:
# also the band that carries the exchange, and the bath that moments relax to.

# %%
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nrjax
from nrjax import ClassicalBath, Laser, Lattice, LayeredMagnet, LocalMoment, OpticalTransition

# %% [markdown]
# ## The moments
#
# Level, repulsion and hybridization in meV; the optical transition of the doublon with its resonance (meV), dipole
# (e·Å) and linewidth (meV). `validity` says whether the projection on a spin is good.

# %%
a = LocalMoment(-1800.0, 4200.0, 105.0, OpticalTransition(energy=1900.0, dipole=0.9, linewidth=90.0))
b = LocalMoment(-2200.0, 4000.0, 100.0, OpticalTransition(energy=1600.0, dipole=1.1, linewidth=90.0))
laser = Laser(intensity=2e10, photon_energy=1600.0)
print(f"g = {float(a.sd_coupling()):.3f} and {float(b.sd_coupling()):.3f} meV")
print(b.validity(laser))

# %% [markdown]
# ## The exchange that a band carries
#
# Per unit of g² the susceptibility of a layered lattice between layers at a distance; it oscillates with the spacer.

# %%
lattice = Lattice.layered(48, 64, 1000.0, 1000.0)
chi = np.asarray(nrjax.layer_susceptibility(lattice, temperature=30.0, filling=0.3))
thickness = np.arange(1, 13)
mediated = 400.0 * float(a.sd_coupling() * b.sd_coupling()) * chi[thickness]
figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
axes.bar(thickness, mediated, color=np.where(mediated > 0, "#0072b2", "#e69f00"))
axes.set(xlabel="distance (layers)", ylabel="exchange x 400 (meV)", title="blue aligns, orange antialigns")
plt.show()

# %% [markdown]
# Real materials have other exchange too, so j is yours to set; `mediated_exchange` says which part of it the light acts on.

# %%
exchange = jnp.asarray([[10.0, 6.0], [6.0, 5.0]])
magnet = LayeredMagnet(
    exchange,
    damping=[0.08, 0.002],
    sd_coupling=-10.0,
    loss_rate=0.0,
    filling=1.0,
    temperature=8.8,
    mediated_exchange=0.95 * exchange,
).with_light([a, b], laser)
state = nrjax.steady_state(magnet)
print(state)
print(nrjax.exposure(magnet, state.m))

# %% [markdown]
# ## Another bath
#
# Classical moments of any length instead of spins 1/2: their Curie point is j/3.

# %%
classical = LayeredMagnet(exchange, [0.08, 0.002], -10.0, [0.0, 0.05], 1.0, 2.9, bath=ClassicalBath())
print(nrjax.steady_state(classical))

# %% [markdown]
# ## Three layers
#
# Any number of layers works through time integration; more than two are slower, and just as differentiable.

# %%
between = jnp.asarray([[0.0, 6.0, 1.2], [6.0, 0.0, 6.0], [1.2, 6.0, 0.0]])
trilayer = LayeredMagnet(
    jnp.diag(jnp.asarray([10.0, 5.0, 4.0])) + between, [0.1, 2e-3, 2e-3], -10.0, [0.0, 0.05, 0.0], 1.0, 9.0
)
print(nrjax.steady_state(trilayer))

# %% [markdown]
# ## Design it
#
# Whatever your own function takes can be designed: here the laser, for 30 GHz.


# %%
def build(intensity, photon_energy):
    light = Laser(intensity, photon_energy)
    return LayeredMagnet(exchange, [0.08, 0.002], -10.0, 0.0, 1.0, 8.8, mediated_exchange=0.95 * exchange).with_light(
        [a, b], light
    )


bounds = {"intensity": (0.0, 5e10), "photon_energy": (1400.0, 2000.0)}
print(nrjax.design(build, {"intensity": 0.0}, 30.0, bounds=bounds, objectives=[nrjax.LowPower()], progress=False))

# %% [markdown]
# ## Which parameter matters
#
# Per cent of the observable for a per cent of the parameter.

# %%
table = nrjax.sensitivity(magnet).relative.to_pandas().T
table.loc[table.abs().max(axis=1) > 0.3].round(2)
