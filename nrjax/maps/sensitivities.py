"""Which parameter matters: the derivatives of everything that is seen with respect to everything that is set."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from .._numerics.validation import Numbers
from ..light.illumination import GivenRates, Illumination
from ..magnets import LayeredMagnet
from ..magnets.absorption import exposure
from ..rotation.attractors import SteadyState, continued, steady_state
from .sweeps import AXIS_UNITS, VARIABLES

LAYERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
AXES: Final = "xyz"
# Everything else is an energy or a rate, in meV.
UNITS: Final = (
    AXIS_UNITS
    | {name: unit for name, (unit, _) in VARIABLES.items()}
    | dict.fromkeys(("damping", "filling", "gyro", "length", "bath_spin"), "1")
    | {"absorbed_power": "nW"}
)


def sensitivity(model: LayeredMagnet, m0: Numbers | None = None) -> xr.Dataset:
    """The Jacobian of all observables of the steady state with respect to all parameters of a magnet,

        S_op = (p/O) dO/dp:  per cent of the observable O for one per cent of the parameter p.

    **Arguments** `model`: a `LayeredMagnet`; under a laser the parameters of light and moments stand in for the sd
    coupling and the loss rate that follow from them. `m0`: as in `steady_state`.

    **Returns** an xarray.Dataset over `observable` and `parameter`: `relative` (S, dimensionless; 0 for a parameter
    that is 0, NaN for an observable that is), `absolute` (dO/dp in their units), and over one of them `value`,
    `observed` and their units as coordinates. `dataset.relative.to_pandas()` is a table.

    **Raises** `ValueError` if there is no valid steady state.

    **Source** implicit function theorem, docs/physics.md, "Shape dynamics".
    """
    parameters, rebuild = _parameters(model)
    flat, unravel = ravel_pytree(list(parameters.values()))
    names = _names(parameters)

    state = steady_state(model, m0, throw=False)
    if not bool(state.valid):
        raise ValueError(f"no valid steady state, no sensitivity: {state}")

    def observed(flat: Array) -> Array:
        magnet = rebuild(dict(zip(parameters, unravel(flat), strict=True)))
        return jnp.stack(list(_observables(magnet, continued(magnet, state)).values()))

    found = _observables(model, state)
    seen, p = np.asarray(list(found.values())), np.asarray(flat)
    slopes = np.asarray(jax.jit(jax.jacfwd(observed))(flat))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(seen[:, None] != 0, slopes * p / seen[:, None], np.nan)
    dims = ("observable", "parameter")
    return xr.Dataset(
        {
            "relative": (dims, relative, {"long_name": "per cent of the observable for one per cent of the parameter"}),
            "absolute": (dims, slopes, {"long_name": "derivative, in units of observable over parameter"}),
            "value": ("parameter", p),
            "observed": ("observable", seen),
        },
        coords={
            "parameter": names,
            "observable": list(found),
            "parameter_unit": ("parameter", [_unit(name) for name in names]),
            "observable_unit": ("observable", [_unit(name) for name in found]),
        },
        attrs={"title": "nrjax sensitivity", "dtype": str(flat.dtype)},
    )


def _parameters(model: LayeredMagnet) -> tuple[dict[str, Array], Callable[[dict[str, Array]], LayeredMagnet]]:
    """Everything that is set, by name, and how to make the magnet of it again."""
    places = {name: name for name in ("exchange", "damping", "filling", "temperature", "gyro")}
    places |= {name: name for name in ("mediated_exchange", "field") if getattr(model, name) is not None}
    if model.anisotropy is not None:
        places |= {f"anisotropy_{name}": f"anisotropy.{name}" for name in ("strength", "axis")}
    if isinstance(model.light, GivenRates):
        places |= {name: f"light.{name}" for name in ("sd_coupling", "loss_rate")}
    elif model.has_laser:
        places |= {name: f"light.laser.{name}" for name in ("intensity", "photon_energy")}
        moment = ("level", "repulsion", "hybridization", "fermi_energy")
        places |= {name: f"light.moments.{name}" for name in moment}
        if model.illumination.moments.transition is not None:
            line = {"resonance": "energy", "dipole": "dipole", "linewidth": "linewidth"}
            places |= {name: f"light.moments.transition.{place}" for name, place in line.items()}
    getters: dict[str, Callable[[Any], Array]] = {name: attrgetter(place) for name, place in places.items()}
    getters |= _of_parts(model)

    def rebuild(values: dict[str, Array]) -> LayeredMagnet:
        return eqx.tree_at(lambda m: [get(m) for get in getters.values()], model, list(values.values()))

    return {name: get(model) for name, get in getters.items()}, rebuild


def _parts(model: LayeredMagnet) -> list[tuple[str, Any]]:
    """What may be of the user's own kind, with the name under which its numbers go."""
    own_light = (
        [] if isinstance(model.light, GivenRates | Illumination) else [(type(model.light).__name__, model.light)]
    )
    return [("bath", model.bath), *own_light, *((type(term).__name__, term) for term in model.terms)]


def _of_parts(model: LayeredMagnet) -> dict[str, Callable[[Any], Array]]:
    """Where bath, light and further field terms keep numbers of their own, as in "DzyaloshinskiiMoriya_vectors"."""
    getters = {}
    for number, (owner, part) in enumerate(_parts(model)):
        for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(part)):
            if eqx.is_inexact_array(leaf):
                name = jax.tree_util.keystr(path, simple=True, separator="_")
                known = f"{owner}_{name}" if f"{owner}_{name}" not in getters else f"{owner}_{number}_{name}"
                getters[known] = partial(_number_in, number, index)
    return getters


def _number_in(number: int, index: int, model: Any) -> Any:
    return jax.tree.leaves(_parts(model)[number][1])[index]


def _observables(magnet: LayeredMagnet, state: SteadyState) -> dict[str, Array]:
    """Everything that is seen, by name."""
    values = {f"length {LAYERS[a]}": state.lengths[a] for a in range(magnet.layers)}
    for name in ("angle", "chase_frequency", "rotation_frequency", "growth_rate"):
        values[name] = getattr(state, name)
    if magnet.has_laser:
        power = exposure(magnet, state.m).absorbed_power
        values |= {f"absorbed_power {LAYERS[a]}": power[a] for a in range(magnet.layers)}
    return values


def _names(parameters: dict[str, Array]) -> list[str]:
    """One name for each number: "exchange AB", "damping B", "field Ax", "gyro"."""
    names = []
    for name, values in parameters.items():
        letters = (AXES,) if name.endswith("axis") else (LAYERS, AXES) if name == "field" else (LAYERS, LAYERS, AXES)
        for index in np.ndindex(values.shape):
            places = "".join(which[i] for which, i in zip(letters, index, strict=False))
            names.append(f"{name} {places}".rstrip())
    return names


def _unit(name: str) -> str:
    name = name.split(" ")[0]
    return "1" if name.endswith("axis") else UNITS.get(name, "meV")
