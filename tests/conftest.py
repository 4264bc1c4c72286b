import os

os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

with install_import_hook("nrjax", "beartype.beartype"):
    import nrjax  # noqa: F401  (every annotation is checked at run time)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--random-seed", type=int, default=0, help="seed of the random comparison of solvers")


@pytest.fixture
def random_seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--random-seed")
