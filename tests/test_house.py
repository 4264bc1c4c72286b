"""The house stands as it is drawn: imports run down the road from light to rotation, and no name hides another."""

import ast
import builtins
import dis
import re
import subprocess
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

import nrjax

PACKAGE = Path(nrjax.__file__).parent
# From the ground up. A part may import from those before it, and from itself.
FLOORS = ["units", "_numerics", "light", "bands", "magnets", "presets", "motion", "rotation", "lindblad", "maps"] + [
    "inverse",
    "plot",
    "cli",
]


def imports(path: Path) -> set[str]:
    """The parts of the package that a file imports."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level], *(node.module or "").split(".")]
            base = [name for name in base if name]
            found |= {base[0]} if base else {alias.name for alias in node.names}
    return found


def test_imports_run_down():
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if here in ("__init__", "_version"):
            continue
        for there in imports(path):
            assert FLOORS.index(there) <= FLOORS.index(here), f"{path.relative_to(PACKAGE)} imports {there}, above it"


def test_no_module_is_called_like_a_public_function():
    """Else one of them would hide the other."""
    modules = {path.stem for path in PACKAGE.rglob("*.py")} | {path.parent.name for path in PACKAGE.rglob("*.py")}
    functions = {n for space in (nrjax, nrjax.lindblad) for n in dir(space) if callable(getattr(space, n))}
    assert not modules & functions


def test_every_module_is_checked_at_run_time():
    """The hook that checks annotations stands before modules are loaded: a wrong dtype is refused by name."""
    with pytest.raises(TypeCheckError):
        nrjax.LayeredMagnet([[1.0]], 0.1, -1.0, 0.0, 1.0, 1.0).effective_field(jnp.zeros((2, 2, 2)))


def test_nothing_heavy_is_loaded_before_it_is_needed():
    """The list of commands, and what is installed, without JAX and its friends."""
    program = "import sys, nrjax.cli; {} ; print(sorted({{'jax', 'numpy', 'xarray', 'matplotlib'}} & set(sys.modules)))"
    for use in ("nrjax.cli._parser()", "nrjax.cli.main(['info'])", "dir(nrjax)", "nrjax.__version__"):
        done = subprocess.run([sys.executable, "-c", program.format(use)], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", use


def test_files_are_small():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 450, f"{path.relative_to(PACKAGE)} holds more than one idea"


def names_of(code: types.CodeType, known: set[str]) -> set[str]:
    """The names that compiled code looks up and nobody has defined."""
    steps = list(dis.get_instructions(code))
    known = known | {step.argval for step in steps if step.opname in ("STORE_NAME", "STORE_GLOBAL")}
    asked = {step.argval for step in steps if step.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    asked = {name for name in asked if not name.startswith("__")}
    inner = [x for x in code.co_consts if isinstance(x, types.CodeType)]
    return (asked - known).union(*(names_of(x, known) for x in inner))


def test_every_name_is_defined():
    """Linters take the shapes of annotations for names, so that none of them looks."""
    source = "def f():\n    return a, b, g(len)\ndef g(x: 'c'):\n    return [a for a in x]\nb = 1"
    assert names_of(compile(source, "", "exec"), set(dir(builtins))) == {"a"}
    for folder in ("nrjax", "tests", "benchmarks", "docs"):
        for path in (PACKAGE.parent / folder).rglob("*.py"):
            assert not names_of(compile(path.read_text(), str(path), "exec"), set(dir(builtins))), path


def test_only_public_names_are_shown():
    shown = set(dir(nrjax))
    modules = {name for name in shown if isinstance(getattr(nrjax, name), types.ModuleType)}
    assert modules == {"lindblad", "plot", "presets", "units"}
    assert not {name for name in shown - {"__version__"} if name.startswith("_")}
    documented = set(re.findall(r"^        - (\w+)$", (PACKAGE.parent / "docs" / "api.md").read_text(), re.M))
    assert shown - documented == {"__version__", *modules}
    with pytest.raises(AttributeError, match="attribute design_laser"):
        _ = getattr(nrjax, "design" + "_laser")
