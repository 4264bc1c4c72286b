"""Colours and labels of all pictures."""

from typing import Final

from ..motion.phases import Phase

# Okabe and Ito's palette, told apart with any colour vision.
COLOURS: Final = {
    Phase.PARAMAGNETIC: "#dddddd",
    Phase.ALIGNED: "#0072b2",
    Phase.ANTIALIGNED: "#e69f00",
    Phase.CHIRAL: "#009e73",
    Phase.MODULATED: "#cc79a7",
    Phase.UNRESOLVED: "#000000",
}
CHOSEN: Final = "#d55e00"
LAYER_COLOURS: Final = [COLOURS[phase] for phase in (Phase.ALIGNED, Phase.ANTIALIGNED, Phase.CHIRAL, Phase.MODULATED)]
AXIS_LABELS: Final = {
    "loss_rate": r"loss rate $\gamma_B$ (meV)",
    "interlayer_exchange": r"interlayer exchange $j_{AB}$ (meV)",
    "temperature": r"temperature $k_B T$ (meV)",
    "intensity": r"laser intensity (W/cm$^2$)",
    "photon_energy": r"photon energy $h\nu$ (meV)",
}
