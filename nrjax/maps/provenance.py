"""Where numbers come from: the commit of the source, and the parameters that go into them."""

import functools
import subprocess
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np


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
