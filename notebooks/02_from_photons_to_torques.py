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
# # From photons to torques
#
# Where does the reversed torque come from? From a Lindbladian: impurities on a conduction band, whose doublons lose an
# electron to the light. `AndersonModel` keeps the doublons; `SpinFermionModel` is its projection on local spins, with the
# jump operator sqrt(gamma) (1/2 - S.sigma) c that only the *singlet* of impurity and electron feels.

# %%
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from nrjax import Laser, LocalMoment, OpticalTransition
from nrjax.lindblad import AndersonModel, SpinFermionModel, conduction_state, evolve, product_state, projection_error

# %% [markdown]
# ## One impurity, one photon colour
#
# The rate at which a doublon loses an electron is a Lorentzian of the photon energy, and with it everything that follows:
# the sd coupling g and the loss rate gamma.

# %%
moment = LocalMoment(
    level=-2000.0, repulsion=4000.0, hybridization=100.0, transition=OpticalTransition(1550.0, 1.0, 100.0)
)
energies = jnp.linspace(1300.0, 1800.0, 201)
laser = Laser(2.65e10, energies)
figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
axes.plot(energies, moment.loss_rate(laser), color="#e69f00", linewidth=2)
axes.axhline(0.02, color="0.5", linestyle="--", label="alpha_B |g_B|: beyond it the torque on B is reversed")
axes.set(xlabel="photon energy (meV)", ylabel="loss rate (meV)", title="26.5 GW/cm²")
axes.legend(frameon=False)
plt.show()
print(moment.validity(Laser(2.65e10, 1550.0)))

# %% [markdown]
# ## The projection, measured
#
# Two impurities on a band of two sites, light on the second one, exact against projected.

# %%
a = LocalMoment(level=-400.0, repulsion=800.0, hybridization=20.0)
b = LocalMoment(-400.0, 800.0, 20.0, OpticalTransition(energy=1550.0, dipole=1.0, linewidth=400.0))
model = AndersonModel([a, b], [[0.0, -1.0], [-1.0, 0.0]], Laser(2e11, 1550.0))
electrons = conduction_state(model, temperature=0.3, electrons=2)
times = np.linspace(0.0, 3.0, 61)
compared = projection_error(model, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], electrons, times)
print(compared)
figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for layer, (name, colour) in enumerate([("A", "#0072b2"), ("B", "#e69f00")]):
    for solution, style in ((compared.exact, "-"), (compared.projected, ":")):
        length = np.linalg.norm(solution["impurity_spin"][:, layer], axis=-1)
        axes.plot(
            times,
            length,
            style,
            color=colour,
            linewidth=2,
            label=f"|S_{name}| " + ("exact" if style == "-" else "projected"),
        )
axes.set(xlabel="time (ps)", ylabel="impurity spin (hbar)")
axes.legend(frameon=False, ncols=2)
plt.show()

# %% [markdown]
# ## The torque of the light
#
# d<S>/dt by light is gamma (<s> - <n S>): *along* the polarization s of the electrons, while the antiferromagnetic
# coupling g < 0 makes the spin prefer -s. The torque opposes what holds the layers together. Here electrons polarized along
# x, and an impurity spin along z: without light the coupling only turns the spin, with light it is pulled towards +x.

# %%
spin = SpinFermionModel.project(AndersonModel([b], [[0.0]], Laser(2e11, 1550.0)))
polarized = conduction_state(spin, temperature=0.3, field=[2.0, 0.0, 0.0])
start = product_state(spin, [[0.0, 0.0, 1.0]], polarized)
solution = evolve(
    spin, start, np.linspace(0.0, 1.0, 41), ["impurity_spin", "site_spin", "light_torque", "coherent_torque"]
)
light, electrons = np.asarray(solution["light_torque"])[0, 0], np.asarray(solution["site_spin"])[0, 0]
gamma = float(b.loss_rate(Laser(2e11, 1550.0)))
print("electrons' spin     ", electrons.round(4), "hbar")
print("torque of the light ", light.round(5), "meV")
print("g                   ", round(float(b.sd_coupling(Laser(2e11, 1550.0))), 4), "meV, gamma", round(gamma, 5), "meV")
np.testing.assert_allclose(light[0], gamma * electrons[0], rtol=1e-9)
