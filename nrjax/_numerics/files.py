"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock


def require_writable(path: str | os.PathLike[str]) -> Path:
    """The path, after checking that a file can be created there.

    **Raises** `ValueError` naming the path and the remedy.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder. Give the name of a file.")
    return require_place(target)


def require_place(path: str | os.PathLike[str]) -> Path:
    """The path, after checking that something can be created in the folder that it lies in.

    **Raises** `ValueError` naming the path and the remedy.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(f"cannot write {target}: the folder {folder} does not exist. Create it, or choose another.")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".nrjax-"):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}. Choose a folder that you may write to.") from error
    return target


def lock_of(target: Path) -> filelock.BaseFileLock:
    """The lock that the process holds which computes for a file or folder; it is not waited for."""
    return filelock.FileLock(target.with_name(target.name + ".lock"), timeout=0)


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name if the block ends without an error, and vanishes if not."""
    target = require_writable(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".nrjax-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)
