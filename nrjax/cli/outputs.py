"""What commands write and print."""

from typing import Any

import xarray as xr
from jaxtyping import Array, Float

from .._numerics.files import atomic
from ..magnets import LayeredMagnet
from ..magnets.absorption import exposure
from ..maps.store import save_dataset


def save(figure: Any, dataset: xr.Dataset, run: dict[str, Any]) -> None:
    """Write the numbers and the picture, each whole or not at all, and say so."""
    save_dataset(dataset, run["data"])
    print(f"wrote {run['data']}")
    save_picture(figure, run["output"])


def save_picture(figure: Any, path: str) -> None:
    """Write a picture, whole or not at all, and say so."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=160)
    print(f"wrote {path}")


def print_exposure(magnet: LayeredMagnet, m: Float[Array, "L 3"]) -> None:
    """What the light does to a sample of moments m, if there is a laser."""
    if magnet.has_laser:
        print(exposure(magnet, m))
