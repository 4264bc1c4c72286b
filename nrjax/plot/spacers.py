"""Exchange through a spacer."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..motion.phases import Phase
from .style import COLOURS


def exchange(dataset: xr.Dataset) -> Figure:
    """Interlayer exchange against the number of spacer layers, as the `nrjax exchange` command computes it.

    **Arguments** `dataset`: with the variable `interlayer_exchange` (meV) over `spacer`; values within its attribute
    `uncertainty_mev` lie in a grey band.

    **Returns** a matplotlib Figure.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.plot(dataset["spacer"], dataset["interlayer_exchange"], "o-", color=COLOURS[Phase.ALIGNED], markersize=4)
    axes.set_yscale("symlog", linthresh=float(np.abs(dataset["interlayer_exchange"]).max()) * 1e-3)
    uncertain = dataset["interlayer_exchange"].attrs.get("uncertainty_mev", 0.0)
    if uncertain:
        axes.axhspan(-uncertain, uncertain, color="0.88", zorder=0, label="within the uncertainty of this lattice")
        axes.legend(loc="upper right")
    axes.set_xlabel("spacer layers")
    axes.set_ylabel(r"interlayer exchange $j_{AB}$ (meV)")
    axes.set_title("positive aligns, negative antialigns")
    return figure
