"""Failures told from outside of compiled programs, where that is possible."""

from typing import Any, TypeVar

import equinox as eqx
from jaxtyping import Array

from .validation import is_concrete

Values = TypeVar("Values")


def raise_if(failed: Array, results: type[eqx.Enumeration], result: Any, values: Values) -> Values:
    """`values`; or, where `failed`, a runtime error with the text that `result` has in `results`.

    Known numbers are looked at here. Under a trace the check goes into the program: a call back on the host, with which
    JAX keeps no program on disk.
    """
    if not is_concrete(failed):
        return result.error_if(values, failed)
    if bool(failed):
        raise eqx.EquinoxRuntimeError(results[result])
    return values
