import numpy as np

from tests.systems.roots import root


def ordered_length(exchange: float, temperature: float) -> float:
    """The positive solution of m = tanh(j m / T), T < j."""
    return root(lambda m: m - np.tanh(exchange * m / temperature), 1e-3, 1.0)


def relaxation_rate(exchange: float, temperature: float, damping: float) -> float:
    x = exchange * ordered_length(exchange, temperature) / temperature
    return -2.0 * damping * exchange * (1.0 - exchange / temperature / np.cosh(x) ** 2)


def classical_length(exchange: float, temperature: float) -> float:
    """The positive solution of m = coth(x) - 1/x with x = j m / T, T < j/3."""

    def condition(m: float) -> float:
        x = exchange * m / temperature
        return m - (1.0 / np.tanh(x) - 1.0 / x)

    return root(condition, 1e-2, 1.0)
