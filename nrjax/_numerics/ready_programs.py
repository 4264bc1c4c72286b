"""Compiled programs kept whole, so that another process calls them without tracing what they compute.

JAX's own cache spares a process the compiler, but not Python: what a program computes is traced and lowered before its
name in the cache is known. Here the name is a digest of what decides a program: the function and everything that it
refers to, as long as that is of nrjax and its libraries (by their source and versions), and the shapes of its arrays.
Of what is not (a user's function) nothing is kept.
"""

import dataclasses
import enum
import functools
import hashlib
import os
import pickle
import re
import threading
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # where JAX is older
    from jax.core import get_opaque_trace_state

from .cpu_options import brief_options
from .devices import chosen_device
from .digests import code_digest, value_digest
from .files import atomic

# Whose functions and classes are known by source and version.
KNOWN: Final = frozenset(
    "nrjax jax jaxlib jaxtyping equinox diffrax optax optimistix lineax numpy functools builtins operator math "
    "collections".split()
)
DEEPEST: Final = 100
SUFFIX: Final = ".program"
# Settings of JAX that decide what is traced.
SETTINGS: Final = (
    "enable_x64",
    "default_matmul_precision",
    "numpy_dtype_promotion",
    "debug_nans",
    "default_prng_impl",
    "threefry_partitionable",
)
# Told to `jax.monitoring`, with the seconds that it took.
LOADED: Final = "/nrjax/ready_program_loaded"
# What the names of LAPACK's routines begin with.
LAPACK: Final = "lapack_"
# Numbers of which a program may be compiled to be ready soon, and not to be fast: of one that works long on each; of
# one that finds steady states, for a few hundred points of a line; and of one that goes over its numbers a few times.
FEW: Final = 1 << 12
A_LINE: Final = 1 << 15
PASSED_OVER: Final = 1 << 18

# What returns options of XLA.
Options = Callable[[], dict[str, Any]]

# Tracing is Python: threads that trace at once all take as long as one after the other, and the first waits as well.
# Whoever is done goes on to the compiler, which needs no lock.
tracing = threading.RLock()

_directory: Path | None = None
# That of a thread in which nothing is being traced.
_nothing_traced: Any = None


class UnknownOrigin(Exception):
    """A program depends on something of which another process cannot tell whether it is the same."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an array belongs in what a program takes or returns."""

    shape: tuple[int, ...]
    dtype: Any


class ReadyProgram:
    """A compiled program of arrays, and the structure of what it returns."""

    def __init__(self, compiled: Any, returned: Any):
        self.compiled, self.returned = compiled, returned
        leaves, self._structure = jax.tree.flatten(returned, is_leaf=_is_place)
        self._leaves, self._places = leaves, [i for i, x in enumerate(leaves) if _is_place(x)]

    def __call__(self, arguments: tuple[Any, ...], options: dict[str, Any] | None = None) -> Any:
        """What the function returns. Of the arguments and options only the arrays count."""
        arrays = [x for x in jax.tree.leaves((arguments, options or {})) if _is_array(x)]
        leaves = list(self._leaves)
        for i, result in zip(self._places, self.compiled(arrays), strict=True):
            leaves[i] = result
        return jax.tree.unflatten(self._structure, leaves)


def keep_in(directory: Path | None) -> None:
    """Keep programs in a directory from now on; None: no more."""
    global _directory, _nothing_traced
    _directory, _nothing_traced = directory, get_opaque_trace_state()
    # Read while no other thread runs: each of many small files would wait for one that imports.
    code_digest()


def folder() -> Path | None:
    """Where programs are kept, if they are: on a CPU (seen on no accelerator yet), the only device, while nothing is
    being traced."""
    if _directory is None or jax.default_backend() != "cpu" or len(jax.local_devices()) > 1:
        return None
    if chosen_device() is not None:
        return None
    return _directory if get_opaque_trace_state() == _nothing_traced else None


def kept(
    function: Callable[..., Any], jitted: Any = None, *, brief: int = 0, options: Options = dict
) -> Callable[..., Any]:
    """`equinox.filter_jit(function)`, or what is `jitted` already, whose programs are kept where programs are.

    **Arguments** `brief`: of at most so many numbers it computes for less time than it takes to compile. `options`: of
    more, those of XLA on a CPU.
    """
    programs = Programs(function, brief, options)
    jitted = eqx.filter_jit(function) if jitted is None else jitted

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        ready = programs.find(arguments, options)
        return jitted(*arguments, **options) if ready is None else ready(arguments, options)

    vars(call)["programs"] = programs
    return call


def prepare(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Compile the program of a `kept` function for these arguments, or load it, where programs are kept; compute
    nothing."""
    vars(call)["programs"].find(arguments, options)


class Programs:
    """The programs of one function of arguments and options, by everything that decides them. `brief`, `options`: as in
    `kept`."""

    def __init__(self, function: Callable[..., Any], brief: int = 0, options: Options = dict):
        self._function, self._brief, self._others = function, brief, options
        self._loaded: dict[Any, ReadyProgram | None] = {}

    def find(
        self,
        arguments: tuple[Any, ...],
        options: dict[str, Any] | None = None,
        begun: Callable[[], Any] = lambda: None,
    ) -> ReadyProgram | None:
        """The program for arguments and options, arrays among them or their shapes; None where none can be kept.

        `begun` is called when it is being traced, which holds all others up, or once that is not needed.
        """
        directory = folder()
        if directory is None:
            return None
        dynamic, static = eqx.partition((arguments, options or {}), _is_array)
        arrays, structure = jax.tree.flatten(dynamic)
        others, rest = jax.tree.flatten(static)
        key = (structure, rest, *map(_described, arrays), *_settings(), *((type(x), x) for x in others))
        if not _are_here(arrays) or not _is_hashable(key):
            return None
        if key not in self._loaded:
            try:
                path = directory / self._name(structure, arrays, static)
                if path.exists():
                    begun()
                program = _load(path)
                self._loaded[key] = program or self._made(structure, arrays, static, path, begun)
            except UnknownOrigin:
                # Not tried again.
                self._loaded[key] = None
        return self._loaded[key]

    def is_brief(self, arguments: tuple[Any, ...]) -> bool:
        """Whether a program for arguments would be kept, and compiled to be ready soon."""
        return folder() is not None and self._takes_few(filter(_is_array, jax.tree.leaves(arguments)))

    def _takes_few(self, arrays: Iterable[Any]) -> bool:
        return sum(x.size for x in arrays) <= self._brief

    def _name(self, structure: Any, arrays: list[Any], static: Any) -> str:
        """That of its file: a digest of everything that decides the program."""
        digest, where = hashlib.sha256(code_digest()), jax.devices()[0]
        told = (where.platform, where.device_kind, os.environ.get("XLA_FLAGS", ""))
        _feed(digest, (*told, *_settings()))
        _feed(digest, (self._function, jax.tree.unflatten(structure, [Place((), "")] * len(arrays)), static))
        _feed(digest, tuple(map(_described, arrays)))
        return f"{digest.hexdigest()}{SUFFIX}"

    def _made(
        self, structure: Any, arrays: list[Any], static: Any, path: Path, begun: Callable[[], Any]
    ) -> ReadyProgram:
        returned = []

        def flat(arrays: list[Any]) -> list[Any]:
            arguments, options = eqx.combine(jax.tree.unflatten(structure, arrays), static)
            results, others = eqx.partition(self._function(*arguments, **options), eqx.is_array)
            returned[:] = [eqx.combine(jax.tree.map(lambda x: Place(x.shape, x.dtype), results), others)]
            return jax.tree.leaves(results)

        # Under a name of its own: what JAX's cache has loaded cannot be written out again; it crashes its reader.
        flat.__name__ = f"{getattr(self._function, '__name__', 'flat')}_{os.urandom(8).hex()}"
        with tracing:
            begun()
            lowered = jax.jit(flat).lower(arrays)
        for target in re.findall(r"custom_call @(\w+)", lowered.as_text()):
            if not _is_linked(target):
                raise UnknownOrigin(f"calls {target}")
        _strip_names(lowered)
        options = brief_options() if self._takes_few(arrays) else self._others()
        program = ReadyProgram(lowered.compile(options), returned[0])
        _save(program, path)
        return program


def _strip_names(lowered: Any) -> None:
    """Without the names of operations and their places in the source a program is a third smaller, and loads in three
    quarters of the time."""
    try:
        from jaxlib.mlir.passmanager import PassManager

        module = lowered.compiler_ir("stablehlo")
        with module.context:
            PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
    except Exception:
        # Of another version of JAX, in whatever way: it keeps its names.
        return


def _is_linked(target: str) -> bool:
    """Whether what a program calls is there in every process: routines of LAPACK. Callbacks call into this one."""
    return target.startswith(LAPACK)


@functools.lru_cache(maxsize=1)
def _link_lapack() -> None:
    """JAX finds LAPACK's routines when it lowers the first call to one; a loaded program would call address 0."""
    jax.jit(jax.numpy.linalg.inv).lower(jax.ShapeDtypeStruct((1, 1), np.float32))


def known_digest(*values: Any) -> str | None:
    """A digest of everything that decides what is computed with these values; None where some of it is not of nrjax and
    its libraries. Of arrays in a `Place` only shape and type count."""
    digest = hashlib.sha256(code_digest())
    try:
        _feed(digest, values)
    except UnknownOrigin:
        return None
    return digest.hexdigest()


def _save(program: ReadyProgram, path: Path) -> None:
    """Keep a program; where that fails, it is compiled again another time."""
    from jax.experimental import serialize_executable

    try:
        packed = pickle.dumps((serialize_executable.serialize(program.compiled), program.returned))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(hashlib.sha256(packed).digest() + packed)
    except (OSError, ValueError, NotImplementedError, AttributeError, TypeError, pickle.PicklingError):
        return


def _load(path: Path) -> ReadyProgram | None:
    """A program that was kept, or None; one that cannot be read counts as none, and is replaced."""
    from jax.experimental import serialize_executable

    begin = time.perf_counter()
    try:
        kept = path.read_bytes()
        digest, packed = kept[: hashlib.sha256().digest_size], kept[hashlib.sha256().digest_size :]
        # A damaged program is not loaded: it may end the process.
        if hashlib.sha256(packed).digest() != digest:
            return None
        if LAPACK.encode() in packed:
            _link_lapack()
        executable, returned = pickle.loads(packed)
        program = ReadyProgram(serialize_executable.deserialize_and_load(*executable), returned)
        path.touch()
        jax.monitoring.record_event_duration_secs(LOADED, time.perf_counter() - begin)
    except Exception:
        # Of whatever kind: it is compiled, and replaced.
        return None
    return program


def _are_here(arrays: list[Any]) -> bool:
    """Whether arrays are numbers where programs compute, or shapes of such."""
    here = {jax.devices()[0]}
    return all(not isinstance(x, Tracer) and (not isinstance(x, jax.Array) or x.devices() == here) for x in arrays)


def _is_hashable(key: tuple[Any, ...]) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _is_place(x: Any) -> bool:
    return isinstance(x, Place)


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _described(x: Any) -> tuple[Any, ...]:
    """What of an array decides a program."""
    return tuple(np.shape(x)), str(x.dtype), bool(getattr(x, "weak_type", False))


def _settings() -> tuple[Any, ...]:
    """The values of `SETTINGS`."""
    return tuple(getattr(jax.config, f"jax_{name}", None) for name in SETTINGS)


def _feed(digest: Any, value: Any, depth: int = 0) -> None:
    """Everything about a value that decides what is computed with it.

    **Raises** `UnknownOrigin` for what is not of nrjax and its libraries.
    """

    def feed(*parts: Any) -> None:
        for part in parts:
            _feed(digest, part, depth + 1)

    kind = type(value)
    digest.update(f"{kind.__module__}.{kind.__qualname__}(".encode())
    if depth > DEEPEST:
        raise UnknownOrigin("nested without end")
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.dtype):
        digest.update(repr(value).encode())
    elif isinstance(value, enum.Enum):
        feed(_known(kind), value.name)
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        digest.update(value_digest(value).encode())
    elif isinstance(value, type):
        digest.update(_known(value).encode())
    elif isinstance(value, tuple | list):
        feed(_known(kind), len(value), *value)
    elif isinstance(value, dict):
        feed(len(value), *(part for item in value.items() for part in item))
    elif isinstance(value, functools.partial):
        feed(value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        feed(value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        code = value.__code__
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        constants = [x for x in code.co_consts if not isinstance(x, types.CodeType)]
        # Where its code stands, whatever module it claims (functools.wraps).
        feed(_known(value, value.__globals__.get("__name__")), code.co_firstlineno, code.co_code, *map(repr, constants))
        feed(value.__defaults__, value.__kwdefaults__, *cells)
    elif hasattr(value, "__wrapped__"):
        # Rules of derivatives as well.
        feed(_known(kind), value.__wrapped__, *(getattr(value, name, None) for name in ("jvp", "fwd", "bwd")))
    elif isinstance(value, types.BuiltinFunctionType):
        digest.update(_known(value).encode())
    elif dataclasses.is_dataclass(value):
        feed(_known(kind), *(getattr(value, field.name, None) for field in dataclasses.fields(value)))
    else:
        raise UnknownOrigin(f"{kind.__module__}.{kind.__qualname__}")
    digest.update(b")")


def _known(value: Any, module: str | None = None) -> str:
    """The name of a class or function of a known package."""
    name = f"{module or value.__module__}.{value.__qualname__}"
    if name.split(".")[0] not in KNOWN:
        raise UnknownOrigin(name)
    return name
