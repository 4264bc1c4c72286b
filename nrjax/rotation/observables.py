"""What is seen of a steady state: one table of names, units and functions, for sweeps, designs, plots and tables."""

import abc
from collections.abc import Callable
from typing import Any, Final

import equinox as eqx
from jaxtyping import Array, Float

from ..magnets.absorption import exposure
from .rigid_states import SteadyState


class AbstractObservable(eqx.Module):
    """O(model, state): a number that a model in a steady state shows, or one for each layer.

    Wherever a name of the table is taken (`sweep`, `sensitivity`, `design`), an observable is taken as well.

    - `name`: an identifier, of the variable in a Dataset. `unit`: "1" if dimensionless. `long_name`: in words.
    - `symbol`: in LaTeX, for plots; may be empty.
    - `each`: the name of one layer's number, for an observable of shape (L,); empty for a scalar.
    """

    name: eqx.AbstractVar[str]
    unit: eqx.AbstractVar[str]
    long_name: eqx.AbstractVar[str]
    symbol: str = eqx.field(default="", static=True, kw_only=True)
    each: str = eqx.field(default="", static=True, kw_only=True)

    @abc.abstractmethod
    def __call__(self, model: Any, state: SteadyState) -> Float[Array, "..."]:
        """The observable, in its unit; differentiable. Of a state that is not valid it may be anything."""

    def exists_for(self, model: Any) -> bool:
        """Whether the model has such an observable."""
        return True

    @property
    def label(self) -> str:
        """Of an axis: "chase frequency $\\\\omega_c$ (GHz)"."""
        words = f"{self.name.replace('_', ' ')} {self.symbol}".rstrip()
        return words if self.unit in ("", "1") else f"{words} ({self.unit})"


class OfState(AbstractObservable):
    """A field of `SteadyState`."""

    name: str = eqx.field(static=True)
    unit: str = eqx.field(static=True)
    long_name: str = eqx.field(static=True)

    def __call__(self, model: Any, state: SteadyState) -> Float[Array, "..."]:
        """The field called `name`."""
        return getattr(state, self.name)


class AbsorbedPower(AbstractObservable):
    """P_a = hnu gamma_a (singlets of a site), in nW for each site of a layer; see `exposure`."""

    name: str = eqx.field(default="absorbed_power", static=True)
    unit: str = eqx.field(default="nW", static=True)
    long_name: str = eqx.field(default="power absorbed by one site of each layer", static=True)

    def __call__(self, model: Any, state: SteadyState) -> Float[Array, " L"]:
        """By the moments of the state."""
        return exposure(model, state.m).absorbed_power

    def exists_for(self, model: Any) -> bool:
        """Whether there is a laser."""
        return getattr(model, "has_laser", False)


class FunctionOfState(AbstractObservable):
    """Any function of the steady state."""

    function: Callable[[SteadyState], Any] = eqx.field(static=True, kw_only=True)
    name: str = eqx.field(default="observable", static=True)
    unit: str = eqx.field(default="", static=True)
    long_name: str = eqx.field(default="observable", static=True)

    def __call__(self, model: Any, state: SteadyState) -> Any:
        """function(state)."""
        return self.function(state)


OBSERVABLES: Final = {
    observable.name: observable
    for observable in (
        OfState("phase", "1", "phase"),
        OfState("lengths", "1", "length of each moment (1: saturated)", symbol="$|m|$", each="length"),
        OfState("angle", "rad", "angle between layers 0 and 1", symbol=r"$\theta$"),
        OfState(
            "chase_frequency",
            "GHz",
            "chase frequency omega_c / 2 pi hbar",
            symbol=r"$\omega_c/2\pi\hbar$",
        ),
        OfState(
            "rotation_frequency",
            "GHz",
            "rotation frequency |Omega| / 2 pi hbar",
            symbol=r"$|\Omega|/2\pi\hbar$",
        ),
        OfState("growth_rate", "meV", "largest real part of the linearization without zero modes"),
        OfState("residual", "1", "relative residual of the steady state"),
        OfState("period", "ps", "period of the shape (infinite: rigid)", symbol="$T$"),
        OfState("valid", "1", "finite, stable, consistent with the model's own vector field"),
        OfState("result", "1", "result code"),
        AbsorbedPower(symbol="$P$", each="absorbed_power"),
    )
}
# What is seen of a steady state unless told otherwise. The period is infinite nearly everywhere.
OF_EVERY_STATE: Final = tuple(
    name for name, observable in OBSERVABLES.items() if isinstance(observable, OfState) and name != "period"
)
# Those of a rotation: 0 where nothing rotates, and rising like a square root from the onset of the chase.
FREQUENCIES: Final = ("chase_frequency", "rotation_frequency")


def is_frequency(observable: AbstractObservable) -> bool:
    """Whether it is one of the frequencies of the table."""
    return any(observable is OBSERVABLES[name] for name in FREQUENCIES)


def require_frequency(name: str) -> None:
    """Raise `ValueError` unless `name` is that of a frequency."""
    if name not in FREQUENCIES:
        raise ValueError(f"observable = {name!r} is unknown: take {' or '.join(map(repr, FREQUENCIES))}.")


def observable_of(asked: Any) -> AbstractObservable:
    """An observable from its name in the table, or from a function of the steady state; or itself.

    **Raises** `ValueError` for a name that is not in the table, or anything else.
    """
    if isinstance(asked, AbstractObservable):
        return asked
    if isinstance(asked, str) and asked in OBSERVABLES:
        return OBSERVABLES[asked]
    if callable(asked):
        return FunctionOfState(function=asked)
    raise ValueError(
        f"observable = {asked!r} is unknown: take {', '.join(OBSERVABLES)}, or pass an AbstractObservable or a "
        "function of the steady state, for example lambda state: state.angle."
    )
