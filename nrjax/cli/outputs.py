"""What commands write and print."""

from typing import Any

import xarray as xr
from jaxtyping import Array, Float

from .._numerics.files import atomic
from .._numerics.validation import Number
from ..magnets import LayeredMagnet
from ..magnets.absorption import exposure
from ..maps.store import save_dataset
from ..rotation.turns_before_melting import price_of_light


def save(figure: Any, dataset: xr.Dataset, run: dict[str, Any]) -> None:
    """Write the numbers and the picture, each whole or not at all, and then say so: nothing is lost if nobody reads."""
    save_dataset(dataset, run["data"])
    _write_picture(figure, run["output"])
    print(f"wrote {run['data']}\nwrote {run['output']}")


def save_picture(figure: Any, path: str) -> None:
    """Write a picture, whole or not at all, and say so."""
    _write_picture(figure, path)
    print(f"wrote {path}")


def _write_picture(figure: Any, path: str) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=160)


def print_exposure(magnet: LayeredMagnet, m: Float[Array, "L 3"], chase_frequency: Number) -> None:
    """What the light does to a sample of moments m that chase at so many GHz, if there is a laser."""
    if magnet.has_laser:
        print(exposure(magnet, m))
        print(price_of_light(magnet, m, chase_frequency))
