"""What is kept from one run to the next, in ~/.cache/minseg: compiled kernels, published weights.

$XDG_CACHE_HOME moves it, if it is an absolute path: the XDG Base Directory Specification lets no
other count.
"""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path


def cache_folder(part: str) -> Path:
    """Where `part` is kept; the folder need not be there yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "minseg", part)


def writable(folder: Path) -> Path:
    """`folder`, which is made if need be, or where it cannot be, one as long-lived as this process.

    A container's user has no home, or one of somebody else's; kernels are to run there, too.
    """
    try:
        if not folder.is_absolute():  # this user has no home at all
            raise PermissionError
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError:
        return _for_this_process(folder)
    return folder


@cache
def _for_this_process(instead: Path) -> Path:
    print(f"minseg: {instead} cannot be written: what is compiled is kept for this run only; "
          "XDG_CACHE_HOME=FOLDER chooses another place", file=sys.stderr)  # fmt: skip
    folder = tempfile.mkdtemp(prefix="minseg-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
