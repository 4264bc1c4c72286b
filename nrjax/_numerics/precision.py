"""What each floating-point type can resolve: every decision that depends on it."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .validation import is_concrete

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Value = TypeVar("Value", float, str)


def in_full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`function` with matrices multiplied in the precision that they have.

    By default an accelerator takes ten bits of single precision there (TF32), which no tolerance here allows for.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **options)

    return wrapped


def _by_type(dtype: Any, double: Value, single: Value) -> Value:
    return double if jnp.dtype(dtype) == jnp.float64 else single


def integration_tolerance(dtype: Any) -> float:
    """Relative error of one step in time: 1e-8 in double, 1e-5 in single precision."""
    return _by_type(dtype, 1e-8, 1e-5)


def newton_tolerance(dtype: Any) -> float:
    """Relative change of the root, and relative residual, at which Newton's method has converged."""
    return _by_type(dtype, 1e-9, 3e-5)


def singular_value(dtype: Any) -> float:
    """Relative singular value below which a direction is a symmetry and not a stiffness."""
    return _by_type(dtype, 1e-9, 1e-5)


def residual_tolerance(dtype: Any) -> float:
    """The relative residual that a valid state does not exceed: 1e-9 in double, 1e-4 in single precision."""
    return _by_type(dtype, 1e-9, 1e-4)


def rigid_tolerance(dtype: Any) -> float:
    """Relative residual at which a trajectory counts as close to a rigid rotation."""
    return _by_type(dtype, 1e-6, 1e-3)


def collinear_tolerance(dtype: Any) -> float:
    """sin^2 of the largest angle that counts as collinear; what rounding leaves of a vanishing one."""
    return _by_type(dtype, 1e-10, 1e-5)


def rotating_tolerance(dtype: Any) -> float:
    """|Omega|, relative to the terms of dm/dt over |m|, above which a state rotates; below is rounding."""
    return _by_type(dtype, 1e-9, 1e-5)


def design_tolerance(dtype: Any) -> float:
    """Relative distance from the target at which a design has reached it."""
    return _by_type(dtype, 1e-8, 1e-4)


def smallest_tolerance(dtype: Any) -> float:
    """The smallest relative tolerance that a floating-point type can reach: ten units in the last place."""
    return 10.0 * float(jnp.finfo(dtype).eps)


def require_reachable(name: str, tolerance: float | Array, dtype: Any) -> None:
    """Raise `ValueError` if a relative tolerance is below what the type can represent."""
    if is_concrete(tolerance) and not float(tolerance) >= smallest_tolerance(dtype):
        doubled = (
            "Enable double precision with jax.config.update('jax_enable_x64', True) before building the model, or ask"
        )
        raise ValueError(
            f"{name} = {float(tolerance):g} cannot be reached in {jnp.dtype(dtype).name}, whose limit is "
            f"{smallest_tolerance(dtype):.1e}. {_by_type(dtype, 'Ask', doubled)} for a larger tolerance."
        )
