"""The machine's memory: how much there is, a limit to its use, and keeping what is freed.

A training step allocates the same arrays as the step before. By default the C library maps each
large array anew, and the kernel then fills in its pages one by one, 4 KiB at a time, as they are
first touched: for a 20 MB feature map that takes several times as long as adding 1 to it. Told to
keep what is freed, the library gives the next step the last step's memory, already filled in. The
price is that the process holds on to its peak memory until it ends.
"""

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from functools import cache

from minseg import cgroups

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# Of control groups, version 1 and 2: the files of a limit and of what is used, and what of the
# latter is a cache that can be dropped
_GROUP_FILES = (
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ("memory.max", "memory.current", "inactive_file"),
)


def keep_freed_memory() -> bool:
    """Ask the C library to recycle large arrays; False where it is not the GNU one (macOS)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 2**30) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def limit_memory() -> bool:
    """Let what needs more memory than is free raise MemoryError; False where that cannot be done.

    Linux promises more memory than there is, and kills the process that then uses it, or another.
    So it does where a container is to use no more than a part of the machine's memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    import resource

    try:
        free = _listed("/proc/meminfo", "MemAvailable", "SwapFree")
        free = min([free, *_free_in_groups()])
        held = _listed("/proc/self/status", "VmData")  # the limit counts it, too
    except (OSError, KeyError, ValueError):  # a sandbox that does not say
        return False
    soft, hard = _first_limits()
    given = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([held + free, *given]), hard))
    return True


def _free_in_groups() -> Iterator[int]:
    """Of each control group of this process that has a limit: what is left, in bytes."""
    for folder in cgroups.folders("memory"):
        for limit, used, idle in _GROUP_FILES:
            most = (folder / limit).read_text().strip() if (folder / limit).exists() else "max"
            if most != "max":
                counts = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                yield int(most) - int((folder / used).read_text()) + int(counts[idle])


@cache
def _first_limits() -> tuple[int, int]:
    """What this process was given: of a program that runs several commands, none binds the next."""
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)


def _listed(file: str, *names: str) -> int:
    """These lines of a list in KiB, added up, in bytes."""
    with open(file) as lines:
        values = dict(line.split(":", 1) for line in lines)
    return 1024 * sum(int(values[name].split()[0]) for name in names)


def total_memory() -> float:
    """The machine's memory in bytes; infinite where the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return math.inf
