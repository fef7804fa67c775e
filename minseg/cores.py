"""How many cores this process may use: those that it may run on, or its container's share."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress

from minseg import cgroups


def cores_to_use() -> int:
    """The number of this process's cores; or of its container's share of their time, rounded up.

    From Python 3.13 on, PYTHON_CPU_COUNT stands in for the number of cores.
    """
    count = getattr(os, "process_cpu_count", _cores_allowed)() or 1
    with suppress(OSError, ValueError):  # a sandbox that does not say
        count = min([count, *_shares_of_groups()])
    return count


def _cores_allowed() -> int | None:
    """What os.process_cpu_count gives, which comes with Python 3.13."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


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
