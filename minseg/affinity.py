"""How many cores there are for us, and which the helping threads of `parallel_for` may run on.

These may run on any core but the caller's. Linux tends to wake a thread on the core of the thread
that wakes it. On a machine with a few cores it hardly looks for an idle one, and moves a thread
away only after milliseconds: an op is over by then, computed by two threads in turns on one core,
the other idle. So a helper is barred from the core that its caller runs on, each time that this has
changed.
"""

import ctypes
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from minseg import cgroups

_cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_barred: dict[int, int] = {}  # thread -> the core that it is kept off


def cores_to_use() -> int:
    """The cores of this process, or of their time what a container is to have, rounded up.

    From Python 3.13 on, PYTHON_CPU_COUNT stands in for the number of cores.
    """
    count = getattr(os, "process_cpu_count", lambda: len(_cores) or os.cpu_count())() or 1
    with suppress(OSError, ValueError):  # a sandbox that does not say
        count = min([count, *_shares_of_groups()])
    return count


def _shares_of_groups() -> Iterator[int]:
    """Of each control group with a limit: how many cores' time it may have, rounded up."""
    for folder in cgroups.folders("cpu"):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        elif (folder / "cpu.cfs_quota_us").exists():  # version 1
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        else:
            continue
        if quota != "max" and int(quota) > 0:  # in version 1, -1 is no limit
            yield math.ceil(int(quota) / int(period))


def keep_off_this_core(threads: Sequence[threading.Thread]) -> None:
    """Let these threads run on all cores of this process but the current one (Linux only)."""
    if len(_cores) < 2 or _current_core is None:
        return
    core = _current_core()
    for thread in threads:
        if thread.native_id is not None and _barred.get(thread.native_id) != core:
            with suppress(OSError):  # not allowed in this container: it runs where it is put
                os.sched_setaffinity(thread.native_id, _cores - {core})
            _barred[thread.native_id] = core


def _find_current_core() -> Callable[[], int] | None:
    try:
        return ctypes.PyDLL(None).sched_getcpu  # PyDLL: too short a call to give up the lock for
    except (AttributeError, OSError, TypeError):  # not the GNU C library
        return None


_current_core = _find_current_core()
