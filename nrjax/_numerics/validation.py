"""Checks of input values: every failure names the argument, its value, the allowed range and the remedy."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from typing_extensions import TypeAliasType

# Aliases with a name of their own, which is what help() shows of them.
Number = TypeAliasType("Number", ArrayLike)
"""What users may pass for a number: a Python or NumPy number, an array of no dimension, traced or not."""
Numbers = TypeAliasType("Numbers", ArrayLike | Sequence[Any])
"""What users may pass for an array: a number, an array, nested lists."""


PLAUSIBLE: Final = {
    "photon_energy": (20.0, 2e4, "it is in meV; 1.55 eV is 1550 meV."),
    "transition energy": (20.0, 2e4, "it is in meV; 1.55 eV is 1550 meV."),
    "repulsion": (20.0, 2e4, "it is in meV; 4 eV is 4000 meV."),
    "linewidth": (0.3, 1e6, "it is in meV; 0.1 eV is 100 meV."),
    "temperature": (1e-3, 100.0, "it is k_B T in meV; 300 K is 25.9 meV (300 * nrjax.units.kelvin)."),
    "dipole": (1e-3, 30.0, "it is in e*angstrom; 1 debye is 0.208 e*angstrom."),
    "intensity": (0.0, 1e15, "it is in W/cm^2; 1 W/m^2 is 1e-4 W/cm^2."),
}
"""Name -> the range (of absolute values) in which numbers are usual, and the likely mistake outside it."""


# Where `require` notes what holds, in place of raising.
_HELD: Final[ContextVar[list[Array | bool] | None]] = ContextVar("held", default=None)


def is_concrete(*values: Any) -> bool:
    """Whether the values are known numbers, rather than placeholders of a jit, vmap or grad trace."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def numbers_of(*values: Any) -> Any:
    """NumPy for known values, with which it computes without a program of XLA that would be compiled first; jax.numpy
    for placeholders."""
    return np if is_concrete(*values) else jnp


def array_of(values: Any, dtype: Any = None) -> Array:
    """`values` as an array of JAX: known ones without the program of XLA that `jnp.asarray` has compiled for them."""
    if not is_concrete(values):
        return jnp.asarray(values, dtype)
    if isinstance(values, jax.Array) and dtype in (None, values.dtype):
        return values
    # A copy: JAX may take the memory as its own, which whoever passed it may write to.
    return jax.device_put(np.array(values, dtype))


def float_array(name: str, value: Numbers, shape: tuple[int, ...] | None = None, dtype: Any = None) -> Array:
    """`value` as a floating-point array, broadcast to `shape` when one is given.

    Arrays of floating-point numbers keep their type. Python's numbers and lists get `dtype`, by default JAX's own
    float; never a weak type, for which functions would compile anew.

    **Raises** `ValueError` if `value` is not numeric or does not broadcast.
    """
    if not isinstance(value, jax.Array) and is_concrete(*jax.tree.leaves(value)):
        known = numpy_floats(name, value, dtype)
        return array_of(known if shape is None else _broadcast(np.broadcast_to, name, known, shape))
    try:
        array = jnp.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.complexfloating) or array.dtype == bool:
            raise TypeError(f"of type {array.dtype}")
    except (TypeError, ValueError) as error:
        raise _not_numbers(name, value) from error
    own = hasattr(value, "dtype") and jnp.issubdtype(array.dtype, jnp.floating)
    if not own or jax.typeof(array).weak_type:
        array = array.astype(jnp.result_type(float) if dtype is None else dtype)
    return array if shape is None else _broadcast(jnp.broadcast_to, name, array, shape)


def _broadcast(broadcast_to: Callable[..., Any], name: str, array: Any, shape: tuple[int, ...]) -> Any:
    try:
        return broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(
            f"{name} has shape {array.shape}, which does not fit {shape}. Pass a scalar or an array of shape {shape}."
        ) from error


def numpy_floats(name: str, value: Numbers, dtype: Any = None) -> np.ndarray:
    """`float_array` in NumPy, where an operation of JAX on few numbers would take as long as what is done with them.

    **Raises** `ValueError` if `value` is not numeric.
    """
    if not is_concrete(value):
        raise ValueError(f"{name} is traced: give known numbers, or take the function that works under jit and vmap.")
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"of type {array.dtype}")
    except (TypeError, ValueError) as error:
        raise _not_numbers(name, value) from error
    own = array.dtype if hasattr(value, "dtype") and array.dtype.kind == "f" else float if dtype is None else dtype
    return array.astype(jax.dtypes.canonicalize_dtype(own), copy=False)


def _not_numbers(name: str, value: Any) -> ValueError:
    return ValueError(f"{name} = {value!r} is not real numbers. Pass a number or an array of numbers.")


def unit_vector(name: str, value: Numbers) -> Array:
    """A direction in space, of length 1, from any vector along it; shape (3,).

    **Raises** `ValueError` for another shape, or a vector of length 0.
    """
    vector = float_array(name, value, (3,))
    length = jnp.sqrt(jnp.sum(vector**2))
    require_positive(f"length of the {name}", length, "Pass a direction, for example (0, 0, 1).")
    return vector / length


def moments_array(m0: Numbers, layers: int, components: int = 3) -> Array:
    """Initial moments as an array of shape (layers, components).

    **Raises** `ValueError` for another shape or numbers that are not finite.
    """
    moments = float_array("m0", m0)
    if moments.shape != (layers, components):
        row = ", ".join("xyz"[:components])
        raise ValueError(
            f"m0 has shape {moments.shape}: it must be ({layers}, {components}), one row ({row}) for each layer."
        )
    require_finite("m0", moments)
    return moments


def require(name: str, value: Number, allowed: Callable[[Any], Any], range_text: str, remedy: str = "") -> None:
    """Raise `ValueError` unless every entry of `value` is a number in the allowed range.

    Placeholders of a trace cannot be looked at and pass; results then carry `valid = False` instead, by `in_range`.
    """
    held = _HELD.get()
    if not is_concrete(value):
        if held is not None:
            numbers = jnp.asarray(value)
            held.append(jnp.all(jnp.isfinite(numbers) & allowed(numbers)))
        return
    array = np.asarray(value)
    good = np.isfinite(array) & np.asarray(allowed(np.where(np.isfinite(array), array, 0.0)))
    if held is not None:
        held.append(bool(good.all()))
    if good.all() or held is not None:
        return
    first = array[~good].flat[0] if array.ndim else array[()]
    where = "" if array.ndim == 0 else f" at index {tuple(int(i) for i in np.argwhere(~good)[0])}"
    text = f"{name} = {first:g}{where} is out of range: it must be {range_text}."
    raise ValueError(f"{text} {remedy}".rstrip())


def require_finite(name: str, value: Number) -> None:
    """Raise `ValueError` if any entry is NaN or infinite."""
    require(name, value, lambda x: x == x, "a finite number")


def in_range(part: Any) -> Array | bool:
    """Whether all that the constructors of an `eqx.Module` and of its parts require of numbers holds, traced or not:
    what `require` could not look at in a trace, and what was put into a module later."""
    held: list[Array | bool] = []
    token = _HELD.set(held)
    try:
        for each in _modules_of(part):
            for kind in type(each).__mro__:
                if "__check_init__" in vars(kind):
                    vars(kind)["__check_init__"](each)
    finally:
        _HELD.reset(token)
    if not all(x for x in held if isinstance(x, bool)):
        return False
    traced = [x for x in held if not isinstance(x, bool)]
    return jnp.all(jnp.stack(traced)) if traced else True


def _modules_of(part: Any) -> Iterator[eqx.Module]:
    if isinstance(part, eqx.Module):
        yield part
        part = tuple(vars(part).values())
    if isinstance(part, tuple | list):
        for each in part:
            yield from _modules_of(each)


def warn_if_implausible(name: str, value: Number) -> None:
    """Warn of a known number (not 0) that lies where another unit would put it, with the likely mistake."""
    if not is_concrete(value) or _HELD.get() is not None:
        return
    low, high, hint = PLAUSIBLE[name]
    array = np.abs(np.asarray(value))
    odd = (array > 0) & ((array < low) | (array > high))
    if odd.any():
        found = np.asarray(value)[odd].flat[0] if array.ndim else float(np.asarray(value))
        warnings.warn(f"{name} = {found:g} is unusual: {hint}", stacklevel=4)


def require_batch(what: str, batch: Any) -> None:
    """Raise `ValueError` for a list where a batch is meant."""
    if isinstance(batch, list | tuple):
        raise ValueError(
            f"{what} is a {type(batch).__name__}: a batch is one model whose arrays have a leading axis. Make it by "
            "jax.vmap of what builds one, or from a list by jax.tree.map(lambda *x: jax.numpy.stack(x), *models)."
        )


def require_memory(what: str, needed: float, remedy: str) -> None:
    """Raise `ValueError` if something that needs so many bytes does not fit this machine's memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return
    if needed > memory:
        raise ValueError(
            f"{what} would need about {needed / 2**30:.3g} GiB, and this machine has {memory / 2**30:.3g} GiB. {remedy}"
        )


def require_positive(name: str, value: Number, remedy: str = "") -> None:
    """Raise `ValueError` unless every entry is finite and greater than zero."""
    require(name, value, lambda x: x > 0, "greater than 0", remedy)


def require_nonnegative(name: str, value: Number, remedy: str = "") -> None:
    """Raise `ValueError` unless every entry is finite and zero or greater."""
    require(name, value, lambda x: x >= 0, "0 or greater", remedy)


def require_range(name: str, value: Any) -> tuple[float, float]:
    """The bounds (low, high) of a parameter as numbers. **Raises** `ValueError` unless low < high, both finite."""
    try:
        low, high = (float(x) for x in value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"bounds of {name!r} = {value!r}: give two numbers (low, high).") from error
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"bounds of {name!r} = ({low:g}, {high:g}): both must be finite numbers.")
    if not low < high:
        what = "reversed" if low > high else "empty: a parameter that stays fixed belongs into build()"
        raise ValueError(
            f"bounds of {name!r} = ({low:g}, {high:g}) are {what}. Give (low, high), the lower one first: low < high."
        )
    return low, high
