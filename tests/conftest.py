import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
# Commands that are tested leave the user's compiled programs alone; writing them costs tests more than it saves.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "programs"))
# NaN is no number to agree on: a comparison of two of them has to ask for it.
np.testing.assert_allclose = functools.partial(np.testing.assert_allclose, equal_nan=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--random-seed", type=int, default=0, help="seed of the random comparison of solvers")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # This process only hands out tests to those that run them.
    import jax
    from jaxtyping import install_import_hook

    jax.config.update("jax_enable_x64", True)
    # XLA reads its flags now, whatever a command that is tested sets later.
    jax.block_until_ready(jax.numpy.zeros(2) + 1.0)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    # Every annotation is checked at run time. Modules are loaded when they are first asked for: the hook stays.
    install_import_hook("nrjax", "beartype.beartype")
    import nrjax  # noqa: F401

    # As in a command: nearly a tenth of a test that traces much is spent looking for cycles of unused objects.
    gc.set_threshold(50_000, 10, 10)


MAPS, MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


@pytest.fixture(autouse=True)
def room_for_programs() -> Iterator[None]:
    """A compiled program takes some dozen mappings of memory, of which Linux gives a process so many: one more, and the
    compiler crashes. Half way there all programs are let go."""
    yield
    if MAPS.exists() and MOST_MAPS.exists():
        with MAPS.open("rb") as maps:
            used = sum(1 for _ in maps)
        if used > int(MOST_MAPS.read_text()) // 2:
            import jax

            jax.clear_caches()


@pytest.fixture
def random_seed(request: pytest.FixtureRequest) -> int:
    return int(str(request.config.getoption("--random-seed")))
