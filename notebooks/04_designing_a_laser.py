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
# # Designing a laser
#
# Ask for a rotation frequency, get the laser; ask for it in a material that is not known exactly; ask for a frequency
# that changes in time.

# %%
# %matplotlib inline
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nrjax
from nrjax import plot

bounds = {"intensity": (0.0, 6e10), "photon_energy": (1300.0, 2100.0)}
dark = {"intensity": 0.0, "photon_energy": 1700.0}

# %% [markdown]
# ## 40 GHz, with the least light
#
# The search starts in the dark and far from the resonance, where the frequency is zero and has no slope. It is led to the
# chiral phase by what is missing there: a reversed torque, and a tilt that grows.

# %%
result = nrjax.design(
    nrjax.illuminated_bilayer, dark, 40.0, bounds=bounds, objectives=[nrjax.LowIntensity()], progress=False
)
print(nrjax.design_sheet(result, nrjax.illuminated_bilayer, bounds))

# %%
axes = {name: np.linspace(*limits, 121) for name, limits in bounds.items()}
dataset = nrjax.sweep(nrjax.illuminated_bilayer, axes, progress=False)
figure = plot.design(result, dataset, nrjax.illuminated_bilayer)
figure

# %% [markdown]
# A trajectory from rest under the designed laser:

# %%
magnet = nrjax.illuminated_bilayer(**result.parameters)
solution = nrjax.simulate(magnet, nrjax.default_start(magnet), 600.0)
measured = float(nrjax.instantaneous_frequency(solution).chase[-1])
print(f"{measured:.6f} GHz in the trajectory")
assert abs(measured / 40.0 - 1.0) < 1e-4

# %% [markdown]
# ## A frequency that is out of reach
#
# is told, with the nearest one and what limits it.

# %%
weak = bounds | {"intensity": (0.0, 3e10)}
least = [nrjax.LowIntensity()]
print(nrjax.design(nrjax.illuminated_bilayer, dark, 60.0, bounds=weak, objectives=least, progress=False))

# %% [markdown]
# ## A material that is not known exactly
#
# The exchange scatters by 5 %. The mean over the ensemble meets the target; how far single samples may be off is part
# of the answer.

# %%
ensemble = nrjax.gaussian_ensemble({"interlayer_exchange": 6.0}, {"interlayer_exchange": 0.3}, members=8)


def sample(intensity, photon_energy, interlayer_exchange):
    return nrjax.illuminated_bilayer(intensity, photon_energy, interlayer_exchange)


for worst_case in (False, True):
    robust = nrjax.design(
        sample, dark, 40.0, bounds=bounds, ensemble=ensemble, worst_case=worst_case, steps=40, progress=False
    )
    each = robust.each
    print(
        f"{'worst case' if worst_case else 'mean      '}: mean {each.mean():.3f}, from {each.min():.2f} to {each.max():.2f} GHz, "
        f"largest error {100 * np.abs(each / 40.0 - 1.0).max():.2f} %"
    )

# %% [markdown]
# ## A frequency modulator
#
# The envelope of the light under which the chase frequency follows a sine of 20 %. The magnet answers at its growth rate,
# about 16 ps here: a period of 300 ps is slow, and followed closely; one of 6 ps is not, and the result says so.

# %%
strong = nrjax.illuminated_bilayer(5e10, 1550.0)
figure, axes = plt.subplots(2, 2, figsize=(11, 5.2), layout="constrained", sharex="col")
for column, period in enumerate((300.0, 6.0)):

    def course(t, period=period):
        return 35.0 * (1.0 + 0.2 * jnp.sin(2.0 * jnp.pi * t / period))

    pulse = nrjax.design_pulse(strong, course, 2.0 * period, steps=10)
    print(f"period {period:g} ps: {pulse}")
    axes[0, column].plot(pulse.times, pulse.target, color="0.6", linewidth=4, label="wanted")
    axes[0, column].plot(pulse.times, pulse.achieved, color="#009e73", label="simulated")
    axes[1, column].plot(pulse.times, pulse.intensity, color="#d55e00")
    axes[1, column].set(xlabel="time (ps)")
axes[0, 0].set(ylabel="chase frequency (GHz)")
axes[1, 0].set(ylabel="intensity (W/cm²)")
axes[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# `nrjax.design_startup` finds, in the same way, the opening pulse that starts the chase fastest.
