"""Where numbers come from: a digest of the computation that makes them, and the parameters that go into it."""

import functools
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core
from jaxtyping import PyTree

PACKAGES = ("nrjax", "jax", "diffrax", "optimistix", "equinox")


def versions() -> dict[str, str]:
    """The versions of everything that decides a result."""
    return {f"{package}_version": version(package) for package in PACKAGES}


@functools.lru_cache(maxsize=1)
def revision() -> dict[str, str]:
    """The commit of nrjax's source, where it runs from a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return {}
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {} if found.returncode else {"nrjax_revision": found.stdout.strip()}


def computation_digest(function: Callable[..., Any], *arguments: PyTree) -> str:
    """A digest of what `function` computes of arrays like `arguments`: its operations and every constant in them.

    Two functions of one name, or one whose surroundings have changed, differ; the same one is the same in another
    process. The source of nrjax and the versions of its libraries count as well.
    """
    digest = hashlib.sha256(_source_digest() + json.dumps(versions(), sort_keys=True).encode())
    _feed(digest, jax.make_jaxpr(function)(*arguments))
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _source_digest() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


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


def parameters(models: list[Any]) -> tuple[dict[str, Any], list[str]]:
    """Every number and every kind that models are made of, by the path to it, and the names of those that differ.

    **Arguments** `models`: of one structure.

    **Returns** name -> value of the first model (nested lists for arrays), and the names whose values are not the same
    in all models.
    """
    first, *others = ({jax.tree_util.keystr(p).lstrip("."): x for p, x in _leaves(model)} for model in models)
    differing = [name for name in first if any(not _same(first[name], other.get(name)) for other in others)]
    values = {name: np.asarray(x).tolist() if eqx.is_array_like(x) else str(x) for name, x in first.items()}
    return values | _kinds(models[0]), differing


def _leaves(model: Any) -> list[Any]:
    return jax.tree_util.tree_flatten_with_path(model)[0]


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b)) if eqx.is_array_like(a) and eqx.is_array_like(b) else a == b


def _kinds(model: Any) -> dict[str, str]:
    """The classes of a model and its parts: a bath has no numbers, yet decides."""
    parts = {"model": model} | {
        name: part for name, part in getattr(model, "__dict__", {}).items() if isinstance(part, eqx.Module)
    }
    return {f"kind of {name}": type(part).__name__ for name, part in parts.items()}
