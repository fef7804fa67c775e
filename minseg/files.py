"""Files that are never half written, and folders that one process has to itself.

A file is written beside its place under another name, forced to the disk, and only then renamed,
which is one step for the file system. Whatever happens before that (a kill, a full disk, a power
cut) leaves the earlier file as it was.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PathLike = str | os.PathLike[str]


def write_atomically(path: PathLike, data: bytes) -> None:
    """Put `data` into the file: all of it, or, with an OSError that names the file, nothing.

    A link to a file stays one. What is no file, such as a pipe or /dev/stdout, is written to.
    """
    path = Path(path)
    if is_stream(path):
        path.write_bytes(data)
        return
    path = path.resolve() if os.path.islink(path) else path
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # where the folder itself is none, for example
            temporary.unlink()
        kept = "; the earlier file is intact" if os.path.exists(path) else ""
        raise OSError(f"{path}: not saved: {error.strerror or error}{kept}") from error
    if os.name == "posix":  # the new name itself lies in the folder, which is on the disk as well
        with suppress(OSError):  # some network drives know no such thing of a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def is_stream(path: Path) -> bool:
    """Is this a pipe, /dev/stdout or the like, which is written to and never replaced?"""
    with suppress(OSError):  # no such place: that is for the one who writes there to say
        return path.is_relative_to("/dev") or path.is_fifo()
    return False


@contextmanager
def alone_in(folder: PathLike) -> Iterator[None]:
    """Inside, no other process gets in: two trainings of one run would overwrite each other.

    The system lets go of it however the process ends. Not on Windows, which cannot lock a folder.
    Raises RuntimeError if another process is in.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{folder}: another process is training this run") from None
        yield
    finally:
        os.close(held)
