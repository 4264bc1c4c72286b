"""Every number with a unit in the running text of README and docs: computed here, or named as what it is.

Numbers in tables and pictures made from benchmark results, and in printed outputs, are held by test_documents.py.
"""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants

import nrjax
from nrjax.lindblad import chebyshev
from nrjax.maps.sweeps import CPU_TILE
from nrjax.motion.trajectory_batches import LARGEST_TILE
from nrjax.rotation.bilayer_relaxation import STEP_TOLERANCE

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HBAR_MEV_PS = constants.hbar / constants.e * 1e15
IMPEDANCE = constants.value("characteristic impedance of vacuum")


def slowest_width(detuning: float, linewidth: float, rabi: float) -> float:
    """Twice the decay rate of the lower level of the exact two-level problem [[0, rabi/2], [rabi/2, ...]]."""
    h = np.array([[0.0, 0.5 * rabi], [0.5 * rabi, -detuning - 0.5j * linewidth]])
    values = np.linalg.eigvals(h)
    return float(-2.0 * values[np.argmax(values.imag)].imag)


def published_frequencies() -> tuple[float, float]:
    """|Omega| and omega_c at the published working point, in GHz."""
    state = nrjax.steady_state(nrjax.illuminated_bilayer(2.65e10, 1550.0))
    return float(state.rotation_frequency), float(state.chase_frequency)


def melting() -> float:
    """gamma_B in meV above which the reference bilayer melts: trace W(0) = 0 by hand."""
    exchange, damping, coupling, temperature = (10.0, 5.0), (0.1, 0.002), 10.0, 9.0
    a = 2.0 * damping[0] * (exchange[0] - temperature)
    # trace W(0) = a + 2 alpha_B (j_BB - T) - gamma_B (2 j_BB/|g| + n)
    return (a + 2.0 * damping[1] * (exchange[1] - temperature)) / (2.0 * exchange[1] / coupling + 1.0)


def in_space() -> tuple[float, ...]:
    """What physics.md says of the chase in space: where, the band, the fastest deviation and how fast, long waves."""
    magnet = nrjax.hanai2025_bilayer(0.066, 6.0)
    found = nrjax.spatial_stability(magnet, np.linspace(0.001, 1.0, 1000))
    low, rate = float(found.band[0]), float(found.fastest_growth_rate)
    period = 1e3 / float(nrjax.steady_state(magnet).chase_frequency)
    return 0.066, 6, low, 1, float(found.fastest), rate, HBAR_MEV_PS / rate, period, float(found.slope), 1


def line() -> tuple[float, ...]:
    """What physics.md says of the line: where, its width, its frequency, and the width without precession."""
    widths = [float(nrjax.linewidth(nrjax.hanai2025_bilayer(0.05, 6.0, gyro=gyro)).fwhm) for gyro in (2.0, 0.0)]
    state = nrjax.steady_state(nrjax.hanai2025_bilayer(0.05, 6.0))
    return 0.05, 6, widths[0], float(state.rotation_frequency), 0, widths[1]


# Page, what it says, and the numbers in it.
COMPUTED = [
    ("README.md", "(924 GHz at the published point, where the chase has 41.5)", published_frequencies),
    ("docs/conventions.md", "hbar/meV = 0.658212 ps", lambda: HBAR_MEV_PS),
    ("docs/conventions.md", "1 meV = 241.799 GHz", lambda: (1, 1e-12 * constants.e / constants.h)),
    ("docs/physics.md", "alpha_B |g_B| = 0.02 meV", lambda: 0.002 * 10.0),
    (
        "docs/physics.md",
        "loss rate 0.066 meV and exchange 6 meV, deviations with 0.32 < f < 1 grow, fastest f = 0.78 at 0.157 meV "
        "(an e-fold in 4.2 ps, while a turn of the chase takes 20 ps), long waves at 5.6 meV (1 - f)",
        in_space,
    ),
    (
        "docs/physics.md",
        "loss rate 0.05 meV and exchange 6 meV, a million spins in each layer leave a line of 15.5 GHz at 947 GHz; "
        "with gyro = 0 it would be 0.023 GHz",
        line,
    ),
    ("docs/physics.md", "= 376.73 ohm", lambda: IMPEDANCE),
    ("docs/physics.md", "27.4 V/cm for 1 W/cm", lambda: ((2.0 * IMPEDANCE) ** 0.5, 1)),
    (
        "docs/physics.md",
        "38 % more than kappa at kappa/Gamma = 0.2",
        lambda: (100.0 * (slowest_width(0.0, 100.0, 20.0**0.5 * 10.0) / 20.0 - 1.0), 0.2),
    ),
    (
        "docs/physics.md",
        "Gamma = 100 and Delta_2 = 2000 meV the loss from the moment is 1600",
        lambda: (100, 2000, slowest_width(0.0, 100.0, 1e-2) / slowest_width(-2000.0, 100.0, 1e-2)),
    ),
    ("docs/physics.md", "at 1 % local error", lambda: 100.0 * STEP_TOLERANCE),
    ("docs/physics.md", "50 products for each 16 radians", lambda: (chebyshev.TERMS, chebyshev.PHASE)),
    ("docs/physics.md", "vanishes at gamma_B = 0.092 meV", melting),
    ("docs/physics.md", "Near gamma_B = 0.092 meV", melting),
    ("docs/sharp_bits.md", "16,384 points at a time on a CPU", lambda: CPU_TILE),
    ("docs/sharp_bits.md", "takes up to 64 lanes at a time", lambda: LARGEST_TILE),
]
NUMBER = r"(?<![\w.^])\d[\d.,]*\d(?:e-?\d+)?|(?<![\w.^])\d"
UNITS = r"(?:meV|GHz|ps\b|%|W/cm|V/cm|eV|ohm|GiB|nW|s\b|ms\b|times\b|points\b|lanes\b|states\b|hbar)"


def on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def running_text(page: Path) -> str:
    """A page without code, commands and what is generated, on one line."""
    pattern = r"```.*?```|<!-- (\w+): begin -->.*?<!-- \1: end -->|`[^`\n]*`|^    .*?$"
    return on_one_line(re.sub(pattern, " ", page.read_text(), flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page, says, compute", COMPUTED, ids=[says for _, says, _ in COMPUTED])
def test_a_number_in_the_text_is_what_it_should_be(page, says, compute):
    assert says in on_one_line((ROOT / page).read_text())
    told = [text.replace(",", "") for text in re.findall(NUMBER, says)]
    for text, value in zip(told, np.atleast_1d(np.asarray(compute(), float)), strict=True):
        digits = len(text.replace(".", "").strip("0") or "0")
        assert float(f"{value:.{digits}g}") == float(text), f"{text} should be {value}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_number_with_a_unit_goes_unchecked(page):
    text, name = running_text(page), page.relative_to(ROOT).as_posix()
    known = [says for where, says, _ in COMPUTED if where == name]
    for says in known:
        text = text.replace(says, re.sub(r"\d", "_", says))
    loose = [text[max(0, m.start() - 40) : m.end()] for m in re.finditer(f"(?:{NUMBER})\\s?{UNITS}", text)]
    assert not loose, loose


def test_the_reference_bilayer_melts_where_the_text_says():
    magnet = nrjax.hanai2025_bilayer(jnp.asarray(melting()), 6.0)
    assert abs(float(jnp.trace(magnet.linear_rates(jnp.zeros((2, 3)))))) < 1e-12
