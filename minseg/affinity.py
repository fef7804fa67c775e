"""Which cores the helper threads of `parallel_for` may run on: any but the caller's.

Linux tends to wake a thread on the core of the thread that wakes it. On a machine with a few cores
it hardly looks for an idle one, and moves the thread away only after milliseconds. An op is over by
then: two threads have computed it in turns on one core, while the other was idle. So a helper is
barred from the core that its caller runs on, each time that the caller has moved.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

_cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_barred: dict[int, int] = {}  # thread -> the core that it is kept off


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
