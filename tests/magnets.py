"""Magnets of nrjax made of the tests' own systems."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from nrjax import ClassicalBath, LayeredMagnet
from tests.systems.bilayer import Bilayer


def magnet_of(system: Bilayer, **options: Any) -> LayeredMagnet:
    """The bilayer of an oracle; all of its numbers given one by one, so that magnets of all systems are of one kind."""
    names = "exchange damping sd_coupling loss_rate filling temperature".split()
    numbers: dict[str, Any] = {name: jnp.asarray(getattr(system, name)) for name in names}
    arguments = {"mediated_exchange": jnp.asarray(system.light_exchange), "gyro": system.gyro} | options
    return LayeredMagnet(**(numbers | arguments))


def classical_bilayer(exchange, temperature, loss, gyro=0.0, field=None):
    """Classical spins: the bilayer of the tables of single spins, by interlayer exchange, T and gamma_B in meV."""
    return LayeredMagnet(
        [[10.0, exchange], [exchange, 5.0]],
        [0.1, 0.002],
        -10.0,
        [0.0, loss],
        1.0,
        temperature,
        gyro=gyro,
        bath=ClassicalBath(),
        field=field,
    )


# From here the shape of `modulated_magnet` keeps moving.
START_OF_MODULATED = np.array([[0.5, 0.3, 0.47], [0.1, 0.4, 0.22]])


def modulated_magnet():
    """Found by a random search; its lengths and angle keep oscillating."""
    return LayeredMagnet(
        [[8.71057037, 0.53915208], [-4.32330225, 11.36926766]], [0.0535582, 0.06521313], -10.0,
        [0.11526141, 0.09890705], 1.0, 4.595116603269163,
    )  # fmt: skip
