"""Single spins with thermal noise beside Spirit and cmtj: spin steps and picoseconds per second at an equal error.

Two averages in equilibrium, each known without any dynamics:

- a cube of 32^3 spins, six neighbours, in a field: its moment, by a heat bath that draws spin after spin from what its
  neighbours let it have. Against Spirit's stochastic solvers.
- an open chain: <S_i . S_i+1> = coth(J/T) - T/J of every bond. Against cmtj, whose layers can be such a chain.

All follow dS/dt of the same gyromagnetic ratio and damping 0.15, with the noise of the temperature. A step makes the
average too large or too small; each scheme takes the longest step that was tried whose error is within the bound.
Spirit's wheel and cmtj use one core: they run one process on each, and their speeds add up.

python benchmarks/spin_peers.py        writes benchmarks/results/spin_peers-DEVICE.json (about nine minutes)
"""

import importlib
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numba  # pyright: ignore[reportMissingImports]
import numpy as np
import record

import nrjax
from nrjax.magnets.neighbours import Shells

ALPHA: Final = 0.15
# Landau and Lifshitz's gyromagnetic ratio and mobility of a moment of one Bohr magneton.
GYRO: Final = 2.0 / (1.0 + ALPHA**2)
MOBILITY: Final = ALPHA * GYRO
SIDE, EXCHANGE, FIELD, TEMPERATURE = 32, 10.0, 1.0, 2.0
SPINS, BOND, WARMTH = 32768, 6.0, 3.0
LAYERS: Final = 64
# ps: seen (longer in cmtj, whose chain is shorter), of which the first share is not counted; and between looks.
CUBE_PS, CHAIN_PS, CMTJ_PS, RELAXED, LOOK = 40.0, 100.0, 6400.0, 0.2, 0.1
# The errors that are allowed, of the moment and of the bonds.
WITHIN: Final = {"cube": 2.5e-3, "chain": 4e-3}
SPIRIT: Final = {"SIB": (0.014, 0.012, 0.01), "DEPONDT": (0.01, 0.007, 0.005), "HEUN": (0.005, 0.0035, 0.0025)}
CMTJ: Final = {"Heun": (0.007, 0.005, 0.0035, 0.0025), "EulerHeun": (0.00125,)}
OURS: Final = {"cube": (0.02, 0.014, 0.012, 0.01), "chain": (0.028, 0.024, 0.02, 0.014)}
BOHR_MAGNETON, BOLTZMANN = 0.05788381806, 0.08617333262  # meV/T, meV/K
MEV, VACUUM = 1.602176634e-22, 4e-7 * math.pi  # J, T m/A


@numba.njit(fastmath=True)
def heat_bath(s: Any, j: float, field: float, temperature: float, seed: int, seen: Any) -> None:
    """Sweeps over a periodic cube of spins s (3, n, n, n), each drawn anew in its field; `seen`: moments along z."""
    np.random.seed(seed)
    n, f = s.shape[1], np.zeros(3)
    for sweep in range(seen.size):
        for i in range(n):
            for h in range(n):
                for m in range(n):
                    for c in range(3):
                        f[c] = s[c, (i + 1) % n, h, m] + s[c, (i - 1) % n, h, m] + s[c, i, (h + 1) % n, m]
                        f[c] = j * (f[c] + s[c, i, (h - 1) % n, m] + s[c, i, h, (m + 1) % n] + s[c, i, h, (m - 1) % n])
                    f[2] += field
                    size = math.sqrt(f[0] ** 2 + f[1] ** 2 + f[2] ** 2)
                    kappa, u, angle = size / temperature, np.random.random(), 2 * math.pi * np.random.random()
                    along = 1.0 + math.log(u + (1.0 - u) * math.exp(-2.0 * kappa)) / kappa
                    across = math.sqrt(max(0.0, 1.0 - along * along))
                    x, y, z = f[0] / size, f[1] / size, f[2] / size
                    # Two unit vectors across the field.
                    sign = 1.0 if z >= 0 else -1.0
                    a = -1.0 / (sign + z)
                    b = x * y * a
                    first, second = across * math.cos(angle), across * math.sin(angle)
                    s[0, i, h, m] = along * x + first * (1.0 + sign * x * x * a) + second * b
                    s[1, i, h, m] = along * y + first * sign * b + second * (sign + y * y * a)
                    s[2, i, h, m] = along * z - first * sign * x - second * y
                    seen[sweep] += s[2, i, h, m] / n**3


def moment_of_the_cube() -> tuple[float, float]:
    """The exact average and its standard error."""
    s, seen = np.zeros((3, SIDE, SIDE, SIDE)), np.zeros(4000)
    s[2] = 1.0
    heat_bath(s, EXCHANGE / 6.0, FIELD, TEMPERATURE, 0, seen)
    return average(seen[100:])


def average(series: np.ndarray) -> tuple[float, float]:
    """The mean along the last axis and over the others, and its standard error from ten stretches of time."""
    long = series.shape[-1] // 10 * 10
    blocks = series[..., -long:].reshape(*series.shape[:-1], 10, -1).mean(axis=-1).reshape(-1, 10).mean(axis=0)
    return float(blocks.mean()), float(blocks.std(ddof=1) / math.sqrt(10.0))


def row(name: str, dt: float, series: np.ndarray, exact: float, spin_steps: float, seconds: float) -> dict[str, Any]:
    """One measurement."""
    mean, error = average(series[..., int(RELAXED * series.shape[-1]) :])
    found = {"scheme": name, "dt_ps": dt, "error": mean - exact, "standard_error": error}
    print(found := found | {"spin_steps_per_s": round(spin_steps / seconds)}, flush=True)
    return found


def ours(job: str, dtype: Any, dt: float, exact: float) -> dict[str, Any]:
    """nrjax on both cores."""
    exchange, field, warmth = (EXCHANGE, FIELD, TEMPERATURE) if job == "cube" else (2.0 * BOND, 0.0, WARMTH)
    magnet = nrjax.LayeredMagnet(
        jnp.asarray([[exchange]], dtype),
        # Dark; the mobility is twice the damping and c = 3/2.
        *(MOBILITY / 3.0, -10.0, 0.0, 1.0, warmth),
        gyro=GYRO,
        bath=nrjax.ClassicalBath(),
        field=jnp.asarray([0.0, 0.0, field], dtype),
    )
    if job == "cube":
        lattice, duration = nrjax.SpinLattice(magnet, (SIDE, SIDE, SIDE), Shells(1)), CUBE_PS
    else:
        lattice, duration = nrjax.SpinLattice(magnet, (SPINS, 1, 1), Shells(1, periodic=(False, True, True))), CHAIN_PS
    every = round(LOOK / dt) * dt
    looks = every * np.arange(1, round(duration / every) + 1)

    def bonds(spins: jax.Array) -> jax.Array:
        chain = spins[0, :, 0, 0]
        return jnp.mean(jnp.sum(chain[1:] * chain[:-1], axis=-1))

    def run(key: int) -> Any:
        return nrjax.simulate_spins(
            lattice,
            jax.random.key(key),
            looks[-1],
            dt=dt * (1.0 + 1e-6),
            saveat=looks,
            start=jnp.asarray([[0.0, 0.0, 0.9]], dtype),
            observe={"bonds": bonds} if job == "chain" else None,
            progress=False,
        )

    run(0)
    start = time.perf_counter()
    found = jax.block_until_ready(run(1))
    seconds = time.perf_counter() - start
    series = np.asarray(found.observed["bonds"] if job == "chain" else found.moments[:, 0, 2], float)
    steps = lattice.spins * looks[-1] / dt
    return row(f"nrjax, {np.dtype(dtype).name}", dt, series, exact, steps, seconds) | {"peer": False}


def by_spirit(arguments: tuple[str, float, int]) -> tuple[np.ndarray, float]:
    """The cube's moments along z, and seconds."""
    scheme, dt, seed = arguments
    names = ("state", "configuration", "simulation", "hamiltonian", "geometry", "quantities", "parameters.llg")
    state, configuration, simulation, hamiltonian, geometry, quantities, llg = (
        importlib.import_module(f"spirit.{name}") for name in names
    )
    every = round(LOOK / dt)
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "seed.cfg"
        settings.write_text(f"llg_seed {seed}\n")
        with state.State(str(settings), quiet=True) as p:
            geometry.set_n_cells(p, [SIDE, SIDE, SIDE])
            geometry.set_mu_s(p, 1.0)
            hamiltonian.set_boundary_conditions(p, [1, 1, 1])
            hamiltonian.set_exchange(p, 1, [EXCHANGE / 6.0])
            hamiltonian.set_dmi(p, 0, [])
            hamiltonian.set_anisotropy(p, 0.0, [0, 0, 1])
            hamiltonian.set_field(p, FIELD / BOHR_MAGNETON, [0, 0, 1])
            llg.set_damping(p, ALPHA)
            llg.set_temperature(p, TEMPERATURE / BOLTZMANN)
            llg.set_timestep(p, dt)
            llg.set_convergence(p, 0.0)
            llg.set_iterations(p, 10**9, 10**9)
            configuration.plus_z(p)
            solver = getattr(simulation, f"SOLVER_{scheme}")
            simulation.start(p, simulation.METHOD_LLG, solver, single_shot=True)
            seen, start = [], time.perf_counter()
            for _ in range(round(CUBE_PS / dt / every)):
                simulation.n_shot(p, every)
                seen.append(quantities.get_magnetization(p)[2])
            seconds = time.perf_counter() - start
            simulation.stop(p)
    return np.array(seen), seconds


def by_cmtj(arguments: tuple[str, float, int]) -> tuple[np.ndarray, float]:
    """S_i . S_i+1 averaged over a chain of layers, and seconds."""
    scheme, dt, seed = arguments
    c: Any = importlib.import_module("cmtj")
    # One Bohr magneton in a layer magnetized to 1 T.
    thickness, volume = 1e-9, BOHR_MAGNETON * MEV * VACUUM
    surface = volume / thickness
    nothing = [c.CVector(0, 0, 0)] * 3
    names = [f"l{i}" for i in range(LAYERS)]
    layers = [
        c.Layer(name, c.CVector(0, 0, 1), c.CVector(0, 0, 1), 1.0, thickness, surface, nothing, ALPHA) for name in names
    ]
    for number, layer in enumerate(layers):
        layer.setSeed(seed * LAYERS + number)
    junction = c.Junction(layers)
    junction.setLayerTemperatureDriver("all", c.constantDriver(WARMTH / BOLTZMANN))
    for one, other in zip(names[:-1], names[1:], strict=True):
        junction.setIECDriver(one, other, c.constantDriver(BOND * MEV / surface))
    start = time.perf_counter()
    junction.runSimulation(CMTJ_PS * 1e-12, dt * 1e-12, LOOK * 1e-12, solverMode=getattr(c.SolverMode, scheme))
    seconds = time.perf_counter() - start
    log = junction.getLog()
    m = np.array([[log[f"{name}_m{axis}"] for axis in "xyz"] for name in names])
    return np.sum(m[1:] * m[:-1], axis=1).mean(axis=0), seconds


def peers(run: Callable[..., Any], schemes: dict[str, Any], name: str, exact: float) -> list[dict[str, Any]]:
    """One process on each core."""
    duration, size = (CUBE_PS, SIDE**3) if run is by_spirit else (CMTJ_PS, LAYERS)
    rows = []
    with record.all_cores() as pool:
        for scheme, steps in schemes.items():
            for dt in steps:
                found = list(pool.map(run, [(scheme, dt, seed) for seed in (1, 2)]))
                series, seconds = np.stack([one for one, _ in found]), max(s for _, s in found)
                work = len(found) * size * duration / dt
                rows.append(row(f"{name}, {scheme}", dt, series, exact, work, seconds) | {"peer": True})
    return rows


def best(rows: list[dict[str, Any]], within: float) -> list[dict[str, Any]]:
    """Of each scheme the longest step within the bound, with picoseconds of a million spins per second of time."""
    found = {}
    for one in sorted(rows, key=lambda one: one["dt_ps"]):
        if abs(one["error"]) <= within:
            found[one["scheme"]] = one | {"megaspin_ps_per_s": one["dt_ps"] * one["spin_steps_per_s"] / 1e6}
    return list(found.values())


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    exact, error = moment_of_the_cube()
    print("heat bath", exact, error, flush=True)
    bond = 1.0 / math.tanh(BOND / WARMTH) - WARMTH / BOND
    jobs = {"cube": (exact, by_spirit, SPIRIT, "Spirit"), "chain": (bond, by_cmtj, CMTJ, "cmtj")}
    result: dict[str, Any] = {"exact": {"cube": exact, "cube_standard_error": error, "chain": bond}, "within": WITHIN}
    for job, (value, run, schemes, name) in jobs.items():
        rows = [ours(job, dtype, dt, value) for dtype in (np.float32, np.float64) for dt in OURS[job]]
        rows += peers(run, schemes, name, value)
        result[job] = {"rows": rows, "at_equal_error": best(rows, WITHIN[job])}
    record.write("spin_peers", result)


if __name__ == "__main__":
    main()
