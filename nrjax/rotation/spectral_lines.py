"""What a probe of the moments sees: lines, their amplitudes, polarization and widths."""

import warnings
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..motion.frequencies import instantaneous_frequency, visible
from ..motion.phases import Phase
from ..motion.solution import Solution
from .phase_noise import Linewidth
from .rigid_states import SteadyState

if TYPE_CHECKING:
    import xarray as xr


def spectrum(state_or_solution: SteadyState | Solution, linewidth: Linewidth | None = None) -> "xr.Dataset":
    """The lines of a rigid rotation, or the Fourier components of a trajectory, for the sum of all moments (its
    radiation), each layer (Kerr effect, XMCD) and the sum with alternating signs:

        M(t) = M_0 + Re[M_1 exp(-i |Omega| t)],   |M_0| = |M . Omega|/|Omega|,   |M_1| = |M x Omega|/|Omega|.

    **Arguments**

    - `state_or_solution`: a steady state; or a `Solution` saved at equal times, for motions that are not rigid: under
      an easy axis or in an easy plane, MODULATED, under a pulse. Its resolution is 2 over the time that was saved; a
      line between two of its frequencies shows up to 15 % less than its amplitude.
    - `linewidth`: of the steady state, from `linewidth`, for the widths.

    **Returns** an xarray Dataset over `signal` ("total", "layer 0", ..., "staggered") and `frequency` (GHz; of a state
    0 and, if it rotates, the rotation frequency), with `amplitude`: how far the moment swings along its longest axis,
    in units of one saturated moment; `polarization`: 1 where it turns in a circle, 0 where it swings along a line, NaN
    at frequency 0; and `fwhm` (GHz) where a linewidth was given. All NaN for a state that is not valid.

    **Raises** `ValueError` for batches, and for a trajectory that is not saved at four equally spaced times or more.
    Warns of one that turns faster than its times can show.

    The chase frequency omega_c, the part of Omega across the plane of the moments, is no line: where exchange makes the
    moments precess (gyro other than 0), |Omega| is many times larger.

    **Source** docs/physics.md, "The width of the line".
    """
    if isinstance(state_or_solution, SteadyState):
        return _of_state(state_or_solution, linewidth)
    return _of_trajectory(state_or_solution)


def _of_state(state: SteadyState, linewidth: Linewidth | None) -> "xr.Dataset":
    if np.ndim(state.phase):
        raise ValueError(f"spectrum takes one state, got a batch of shape {np.shape(state.phase)}. Pick one of them.")
    state = jax.tree.map(np.asarray, state)
    signals, names = _signals(np.asarray(state.m)[None])
    moments = signals[0]
    turns = bool(state.is_rigid) and int(state.phase) == Phase.CHIRAL
    if turns:
        axis = state.angular_velocity / np.linalg.norm(state.angular_velocity)
        along = moments @ axis
        amplitudes = np.stack([np.abs(along), np.linalg.norm(moments - np.outer(along, axis), axis=1)], axis=1)
    else:
        amplitudes = np.linalg.norm(moments, axis=1)[:, None] if state.is_rigid else np.full((len(names), 1), np.nan)
    frequencies = np.asarray([0.0, float(state.rotation_frequency)] if turns else [0.0])
    polarization = np.broadcast_to([np.nan, 1.0] if turns else [np.nan], amplitudes.shape)
    widths = None
    if linewidth is not None:
        widths = np.asarray([linewidth.fwhm_at_zero, linewidth.fwhm] if turns else [np.nan], float)
    return _dataset(names, frequencies, amplitudes, polarization, widths)


def _of_trajectory(solution: Solution) -> "xr.Dataset":
    times, moments = np.asarray(solution.ts, float), np.asarray(solution.ms, float)
    if moments.ndim != 3:
        raise ValueError(f"spectrum takes one trajectory, got a batch of shape {moments.shape[:-3]}. Pick one of them.")
    steps = np.diff(times)
    if len(times) < 4 or np.ptp(steps) > 1e-6 * np.mean(steps):
        raise ValueError(
            f"the solution is saved at {len(times)} times, not at four or more equally spaced ones. Pass "
            "saveat=numpy.linspace(start, end, samples) to simulate."
        )
    if solution.velocities is not None and solution.velocities.shape == moments.shape:
        motion, step = instantaneous_frequency(solution), float(np.mean(steps))
        fastest, shown = np.nanmax(visible(motion, motion.rotation), initial=0.0), 500.0 / step
        if fastest > shown:
            warnings.warn(
                f"the moments turn at up to {fastest:.4g} GHz; saved every {step:.3g} ps they show lines up to "
                f"{shown:.4g} GHz, and faster ones in wrong places. Save them at least every {400.0 / fastest:.2g} ps.",
                stacklevel=3,
            )
    signals, names = _signals(moments)
    count = len(times)
    # Hann's window: lines next to each other do not hide each other. Scaled so that a line shows its amplitude.
    window = np.hanning(count + 1)[:-1]
    still = np.tensordot(window, signals, axes=1) / window.sum()
    # What stands still is kept out of its neighbours.
    harmonics = np.fft.rfft((signals - still) * window[:, None, None], axis=0) * (2.0 / window.sum())
    harmonics[0] = still
    if count % 2 == 0:
        harmonics[-1] *= 0.5
    # Of the ellipse that Re[c exp(-iwt)] draws, |c|^2 is the sum of the squared half axes, |c x c*| twice the product.
    size = np.sum(np.abs(harmonics) ** 2, axis=-1)
    product = np.linalg.norm(np.cross(harmonics, harmonics.conj()), axis=-1)
    longest = np.sqrt(0.5 * (size + np.sqrt(np.maximum(size**2 - product**2, 0.0))))
    with np.errstate(invalid="ignore", divide="ignore"):
        polarization = np.where(size > 0, product / size, np.nan)
    polarization[0] = np.nan
    frequencies = 1e3 * np.fft.rfftfreq(count, float(np.mean(steps)))
    return _dataset(names, frequencies, longest.T, polarization.T, None)


def _signals(moments: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Of moments (times, L, n): total, layers and staggered in space, shape (times, L + 2, 3), and their names."""
    layers = moments.shape[1]
    space = np.pad(moments, ((0, 0), (0, 0), (0, 3 - moments.shape[2])))
    signs = np.where(np.arange(layers) % 2 == 0, 1.0, -1.0)
    total, staggered = space.sum(axis=1), np.einsum("l,tlx->tx", signs, space)
    names = ["total", *(f"layer {layer}" for layer in range(layers)), "staggered"]
    return np.concatenate([total[:, None], space, staggered[:, None]], axis=1), names


def _dataset(
    names: list[str], frequencies: np.ndarray, amplitudes: Any, polarization: Any, widths: np.ndarray | None
) -> "xr.Dataset":
    import xarray as xr

    variables: dict[str, Any] = {
        "amplitude": (
            ("signal", "frequency"),
            amplitudes,
            {"long_name": "amplitude of the moment's swing (1: one layer, saturated)", "units": "1"},
        ),
        "polarization": (
            ("signal", "frequency"),
            polarization,
            {"long_name": "degree of circular polarization", "units": "1"},
        ),
    }
    if widths is not None:
        variables["fwhm"] = ("frequency", widths, {"long_name": "full width at half maximum", "units": "GHz"})
    dataset = xr.Dataset(variables, coords={"signal": names, "frequency": frequencies})
    dataset["frequency"].attrs |= {"long_name": "frequency", "units": "GHz"}
    return dataset
