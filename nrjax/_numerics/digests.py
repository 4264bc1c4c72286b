"""Digests of computations and of numbers: whether what was kept is what would be computed now."""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core
from jaxtyping import PyTree

PACKAGES = ("nrjax", "jax", "diffrax", "optimistix", "equinox")


def versions() -> dict[str, str]:
    """The versions of everything that decides a result; "not installed" for nrjax run from its source."""

    def told(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    return {f"{package}_version": told(package) for package in PACKAGES}


def computation_digest(function: Callable[..., Any], *arguments: PyTree) -> str:
    """A digest of what `function` computes of arrays like `arguments`: its operations and every constant in them.

    Two functions of one name, or one whose surroundings have changed, differ; the same one is the same in another
    process. The source of nrjax and the versions of its libraries count as well.
    """
    digest = hashlib.sha256(code_digest())
    _feed(digest, jax.make_jaxpr(function)(*arguments))
    return digest.hexdigest()


def value_digest(*values: PyTree) -> str:
    """A digest of every array in `values`, random keys too."""
    digest = hashlib.sha256()
    _feed(digest, jax.tree.leaves(values))
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def code_digest() -> bytes:
    """What tells one state of nrjax and its libraries from another: a digest of the source, and the versions."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest() + json.dumps(versions() | {"jaxlib": version("jaxlib")}, sort_keys=True).encode()


def _feed(digest: Any, value: Any) -> None:
    """Everything about a value that does not depend on where it lies in memory."""
    if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
        # Two classes before JAX 0.11, one since.
        _feed(digest, list(getattr(value, "consts", ())))
        _feed_jaxpr(digest, getattr(value, "jaxpr", value))
    elif isinstance(value, Tracer):
        # A value of the computation around it, whose equations are fed there.
        digest.update(str(value.aval).encode())
    elif isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        _feed(digest, jax.random.key_data(value))
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"({len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif callable(value) and not isinstance(value, type):
        # What it does stands in the equations beside it.
        digest.update(getattr(value, "__qualname__", type(value).__qualname__).encode())
    else:
        digest.update(re.sub(r"0x[0-9a-f]+", "", repr(value)).encode())


def _feed_jaxpr(digest: Any, jaxpr: Any) -> None:
    numbers: dict[Any, int] = {}

    def feed_atom(atom: Any) -> None:
        if isinstance(atom, core.Literal):
            _feed(digest, np.asarray(atom.val))
        else:
            digest.update(f"v{numbers.setdefault(atom, len(numbers))}:{atom.aval}".encode())

    for variable in (*jaxpr.constvars, *jaxpr.invars):
        feed_atom(variable)
    for equation in jaxpr.eqns:
        digest.update(equation.primitive.name.encode())
        for atom in (*equation.invars, *equation.outvars):
            feed_atom(atom)
        _feed(digest, equation.params)
    for atom in jaxpr.outvars:
        feed_atom(atom)
