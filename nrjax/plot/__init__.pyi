from .courses import switching as switching, trajectory as trajectory
from .designs import design as design
from .phase_maps import characteristic as characteristic, phase_diagram as phase_diagram
from .samples import experiment as experiment, snapshot as snapshot, survival as survival
from .spacers import exchange as exchange
from .style import COLOURS as COLOURS
