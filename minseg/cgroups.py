"""Linux's control groups, of which containers are made: where their limits stand."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = "/proc/self/cgroup"


def folders(controller: str) -> Iterator[Path]:
    """Where the files of "memory" or "cpu" may be, of this process's group and those above it.

    From within a container, its own group may be the only one to be seen, in the topmost place.
    """
    if not os.path.exists(OWN):
        return
    with open(OWN) as lines:
        groups = lines.read().splitlines()  # such as 4:memory:/a/b, or, in version 2, 0::/a/b
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue  # in version 1, it may be in another group for each resource
        top = ROOT / controller if controllers else ROOT
        names = path.strip("/").split("/")
        yield from {top.joinpath(*names[:depth]) for depth in range(len(names) + 1)}
