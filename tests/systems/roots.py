"""Where a function of one number vanishes."""

from collections.abc import Callable
from typing import Any

from scipy.optimize import brentq


def root(function: Callable[[float], Any], low: float, high: float) -> float:
    """The zero between two ends of opposite sign, to rounding."""
    found: Any = brentq(function, low, high, xtol=1e-15)
    return float(found)
