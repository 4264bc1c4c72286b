"""`nrjax exchange`: the exchange across a spacer."""

import argparse
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import xarray as xr

from .._numerics.validation import require_memory
from ..bands.lattices import Lattice
from ..bands.mediated_exchange import layer_susceptibility
from . import configuration
from .outputs import save

# Share of the sites with which the exchange is computed once more, for its uncertainty.
FEWER: Final = 0.75
FEWEST: Final = 4
# At the peak: energies, and what two Fourier transforms take and give.
BYTES_PER_SITE: Final = 64.0


def add_exchange(spacer: argparse.ArgumentParser) -> None:
    """The arguments of `nrjax exchange`."""
    spacer.description = (
        "The exchange between two magnetic layers, carried by the conduction electrons of a layered "
        "lattice, against the number of spacer layers between them."
    )
    spacer.add_argument("--hopping", type=float, default=1000.0, metavar="MEV", help="in the layers (default 1000)")
    spacer.add_argument("--hopping-across", type=float, metavar="MEV", help="between layers (default: as --hopping)")
    spacer.add_argument("--filling", type=float, default=0.3, help="electrons per site, 0 to 2 (default 0.3)")
    spacer.add_argument("--temperature", type=float, default=30.0, metavar="MEV", help="k_B T (default 30)")
    spacer.add_argument("--sd-coupling", type=float, default=-100.0, metavar="MEV", help="g of both (default -100)")
    spacer.add_argument("--sites", type=int, default=160, help="along both axes of a layer (default 160)")
    spacer.add_argument("--layers", type=int, default=128, help="of the periodic lattice (default 128)")
    configuration.add_outputs(spacer, "exchange.png", "exchange.nc")
    spacer.set_defaults(run=_exchange)


def _exchange(options: argparse.Namespace) -> int:
    from .. import plot

    run: dict[str, Any] = {}
    configuration.outputs(options, run)
    if options.layers < 8:
        raise ValueError(f"layers = {options.layers} is out of range: take 8 or more, four for each step of thickness.")
    if options.sites < FEWEST:
        raise ValueError(f"sites = {options.sites} is out of range: take {FEWEST} or more along both axes of a layer.")
    across = options.hopping if options.hopping_across is None else options.hopping_across
    for name, value in {"hopping_across": across, "sd_coupling": options.sd_coupling}.items():
        if value == 0:
            raise ValueError(f"{name} = 0: nothing is exchanged. Give another --{name.replace('_', '-')} in meV.")
    needed = BYTES_PER_SITE * options.sites**2 * options.layers
    require_memory(f"{options.sites} x {options.sites} x {options.layers} sites", needed, "Take fewer --sites.")
    # Farther apart than a quarter, the periodic image of the other layer is felt.
    thickness = np.arange(options.layers // 4)

    def exchange_of(sites: int) -> np.ndarray:
        lattice = Lattice.layered(sites, options.layers, options.hopping, across)
        chi = layer_susceptibility(lattice, options.temperature, filling=options.filling)
        return options.sd_coupling**2 * np.asarray(chi)[1 : len(thickness) + 1]

    exchange = exchange_of(options.sites)
    fewer = round(FEWER * options.sites)
    uncertain = float(np.abs(exchange - exchange_of(fewer)).max())
    dataset = xr.Dataset(
        {
            "interlayer_exchange": (
                "spacer",
                exchange,
                {"units": "meV", "long_name": "exchange j_AB per moment", "uncertainty_mev": uncertain},
            )
        },
        coords={"spacer": ("spacer", thickness, {"long_name": "nonmagnetic layers between the magnetic ones"})},
        attrs={
            "title": "nrjax exchange",
            "dtype": str(exchange.dtype),
            "nrjax_version": version("nrjax"),
            "filling": options.filling,
            "hopping_mev": options.hopping,
            "hopping_across_mev": across,
            "temperature_mev": options.temperature,
            "sd_coupling_mev": options.sd_coupling,
        },
    )
    save(plot.exchange(dataset), dataset, run)
    print(f"exchange across 0 to {len(thickness) - 1} spacer layers: {exchange.min():.4g} to {exchange.max():.4g} meV")
    told = exchange[np.abs(exchange) > uncertain]
    print(f"it changes sign {int((np.diff(np.sign(told)) != 0).sum())} times among {told.size} values that can be told")
    print(
        f"{fewer} sites instead of {options.sites} move it by up to {uncertain:.2g} meV: smaller values are not told "
        "(more --sites, or a higher --temperature)"
    )
    return 0
