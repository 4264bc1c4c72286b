"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def require_writable(path: str | os.PathLike[str]) -> Path:
    """The path, after checking that a file can be created there.

    **Raises** `ValueError` naming the path and the remedy.
    """
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder. Give the name of a file.")
    if not folder.is_dir():
        raise ValueError(f"cannot write {target}: the folder {folder} does not exist. Create it, or choose another.")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".nrjax-"):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}. Choose a folder that you may write to.") from error
    return target


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
    finally:
        temporary.unlink(missing_ok=True)
