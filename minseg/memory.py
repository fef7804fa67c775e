"""The machine's memory: how much it has, an end to it, and how what is freed is kept.

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
from functools import cache

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


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
    """
    if not sys.platform.startswith("linux"):
        return False
    import resource

    try:
        free = _listed("/proc/meminfo", "MemAvailable", "SwapFree")
        held = _listed("/proc/self/status", "VmData")  # the limit counts it, too
    except (OSError, KeyError, ValueError):  # a sandbox that does not say
        return False
    soft, hard = _first_limits()
    given = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([held + free, *given]), hard))
    return True


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
