"""Which parameter matters: the derivatives of everything that is seen with respect to everything that is set."""

from collections.abc import Callable, Sequence
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
from ..rotation.attractors import continued, steady_state
from ..rotation.observables import AbstractObservable, observable_of
from .table import AXIS_UNITS

LAYERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
AXES: Final = "xyz"
# Everything else is an energy or a rate, in meV.
UNITS: Final = AXIS_UNITS | dict.fromkeys(("damping", "filling", "gyro", "bath_spin"), "1")
# What has a derivative.
DIFFERENTIABLE: Final = ("lengths", "angle", "chase_frequency", "rotation_frequency", "growth_rate", "absorbed_power")


def sensitivity(
    model: LayeredMagnet,
    m0: Numbers | None = None,
    observables: Sequence[str | AbstractObservable] = DIFFERENTIABLE,
) -> xr.Dataset:
    """The Jacobian of observables of the steady state with respect to all parameters of a magnet,

        S_op = (p/O) dO/dp:  per cent of the observable O for one per cent of the parameter p.

    **Arguments** `model`: a `LayeredMagnet`; under a laser the parameters of light and moments stand in for the sd
    coupling and the loss rate that follow from them. `m0`: as in `steady_state`. `observables`: names or
    `AbstractObservable`s; those that the magnet does not have are left out.

    **Returns** an xarray.Dataset over `observable` and `parameter`: `relative` (S, dimensionless; 0 for a parameter
    that is 0, NaN for an observable that is), `absolute` (dO/dp in their units), and over one of them `value`,
    `observed` and their units as coordinates. `dataset.relative.to_pandas()` is a table.

    **Raises** `ValueError` if there is no valid steady state.

    **Source** implicit function theorem, docs/physics.md, "Shape dynamics".
    """
    asked = [f for f in map(observable_of, observables) if f.exists_for(model)]
    parameters, rebuild = _parameters(model)
    flat, unravel = ravel_pytree(list(parameters.values()))
    names = _names(parameters)

    state = steady_state(model, m0, throw=False)
    if not bool(state.is_rigid):
        raise ValueError(f"no valid steady state, no sensitivity: {state}")

    def observed(flat: Array) -> Array:
        magnet = rebuild(dict(zip(parameters, unravel(flat), strict=True)))
        near = continued(magnet, state)
        return jnp.concatenate([jnp.atleast_1d(f(magnet, near)) for f in asked])

    told = [(f, _named(f, f(model, state))) for f in asked]
    found = {name: value for _, values in told for name, value in values.items()}
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
            "observable_unit": ("observable", [f.unit for f, values in told for _ in values]),
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


def _parts(model: LayeredMagnet) -> list[tuple[str, Callable[[Any], Any]]]:
    """Where a magnet keeps what may be of the user's own kind, with the name under which its numbers go."""
    own = {"bath": "bath"}
    if not isinstance(model.light, GivenRates | Illumination):
        own[type(model.light).__name__] = "light"
    places: list[tuple[str, Callable[[Any], Any]]] = [(name, attrgetter(place)) for name, place in own.items()]
    return places + [(type(term).__name__, partial(_term, k)) for k, term in enumerate(model.terms)]


def _term(number: int, model: Any) -> Any:
    return model.terms[number]


def _of_parts(model: LayeredMagnet) -> dict[str, Callable[[Any], Array]]:
    """Where bath, light and further field terms keep numbers of their own, as in "DzyaloshinskiiMoriya_vectors"."""
    getters = {}
    for number, (owner, place) in enumerate(_parts(model)):
        for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(place(model))):
            if eqx.is_inexact_array(leaf):
                name = jax.tree_util.keystr(path, simple=True, separator="_")
                known = f"{owner}_{name}" if f"{owner}_{name}" not in getters else f"{owner}_{number}_{name}"
                getters[known] = partial(_number_in, place, index)
    return getters


def _number_in(place: Callable[[Any], Any], index: int, model: Any) -> Any:
    return jax.tree.leaves(place(model))[index]


def _named(observable: AbstractObservable, value: Array) -> dict[str, Array]:
    """The numbers of an observable: "angle", or "length A", "length B" for one of each layer."""
    if not observable.each:
        return {observable.name: value}
    return {f"{observable.each} {LAYERS[a]}": value[a] for a in range(value.shape[0])}


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
