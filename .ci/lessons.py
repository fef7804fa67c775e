"""Run every lesson with --fast, and three in full: which ones, the commit decides.

Usage: python .ci/lessons.py OUT    (figures go there; the exit code is 1 if a lesson failed, or if
something in its figure is cut off at the edge)

A lesson a core, each with a single thread: a lesson is many small steps, which two threads hardly
speed up. What measures times runs at the end, alone, and may use all cores.
"""

import hashlib
import os
import queue
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from minseg.lessons import Entry, lessons

IN_FULL = 3
PINNED = """import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.execv(sys.argv[2], sys.argv[2:])"""
SINGLE = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def chosen(names: list[str], commit: str, count: int = IN_FULL) -> list[str]:
    """`count` of the names, as a commit's hash has it: each is chosen in some commit."""
    order = {name: hashlib.sha256(f"{commit} {name}".encode()).digest() for name in names}
    return sorted(names, key=order.__getitem__)[:count]


def is_timed(entry: Entry) -> bool:
    """Does it measure how long something takes?"""
    return re.search(r"^import time(it)?$", entry.path.read_text("utf-8"), re.M) is not None


def run(entry: Entry, fast: bool, out: str, core: int | None) -> bool:
    """One lesson, on one core or on all; what it printed is shown when it is done."""
    words = [sys.executable, str(entry.path), "--out", f"{out}/{'fast' if fast else 'full'}"]
    words += ["--fast"] if fast else []
    environment = {**os.environ, **(SINGLE if core is not None else {})}
    if core is not None and hasattr(os, "sched_setaffinity"):
        words = [sys.executable, "-c", PINNED, str(core), *words]
    start = time.monotonic()
    done = subprocess.run(words, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    how = "fast" if fast else "in full"
    verdict = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
    figures = [Path(name) for name in re.findall(r"^figure: (.+)$", done.stdout, re.M)]
    if any(map(is_cut_off, figures)):
        verdict = "FAILED (its figure is cut off)"
    print(f"-- {entry.name}, {how}: {verdict}, {time.monotonic() - start:.0f} s\n{done.stdout}",
          flush=True)  # fmt: skip
    return verdict == "ok"


def is_cut_off(figure: Path) -> bool:
    """Does something reach the figure's edge, as a title that is cut off does?"""
    with Image.open(figure) as image:
        pixels = np.asarray(image.convert("L"))
    return any((edge < 255).any() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def main(out: str) -> int:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    full = chosen([entry.name for entry in lessons()], commit.strip())
    print(f"in full at {commit[:12] or 'no commit'}: {', '.join(sorted(full))}")
    jobs = [(entry, entry.name not in full) for entry in lessons()]
    jobs += [(entry, True) for entry in lessons() if entry.name in full]
    jobs.sort(key=lambda job: job[1])  # the long ones first, so that no core waits at the end

    cores = list(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    free: queue.Queue[int] = queue.Queue()
    for core in cores:
        free.put(core)

    def on_a_free_core(job: tuple[Entry, bool]) -> bool:
        core = free.get()
        try:
            return run(*job, out, core)
        finally:
            free.put(core)

    with ThreadPoolExecutor(len(cores)) as pool:
        passed = list(pool.map(on_a_free_core, [job for job in jobs if not is_timed(job[0])]))
    passed += [run(*job, out, None) for job in jobs if is_timed(job[0])]
    print(f"{sum(passed)} of {len(passed)} runs passed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
