"""The least possible time, from how fast a device copies and multiplies matrices.

A part of an op takes at least as long as it takes to move the bytes that it reads and writes, or to
do its operations at the rate of a large matrix product; both rates are measured once per run.
(Arrays that are still in the cache move faster: then the fraction may come out above 1.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minseg.parallel import get_num_threads, parallel_for

Timed = Callable[[Callable[[], Any]], tuple[Any, float]]

COPY_BYTES = {"cpu": 2**27, "cuda": 2**30}
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Floor:
    """A device's bandwidth, bytes (read + written) per second, and each dtype's operations."""

    bandwidth: float
    operations: dict[str, float]

    def seconds(self, moved: int, operations: int, dtype: str) -> tuple[float, str, int]:
        """The least time, and which limit sets it: ("GB/s", bytes) or ("GFLOP/s", operations)."""
        to_move, to_compute = moved / self.bandwidth, operations / self.operations[dtype]
        if to_compute > to_move:
            return to_compute, "GFLOP/s", operations
        return to_move, "GB/s", moved


def on_cpu(action: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


def on_gpu(action: Callable[[], Any]) -> tuple[Any, float]:
    """Time on the device's own clock, between two events of its stream."""
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    result = action()
    end.record()
    end.synchronize()
    return result, cupy.cuda.get_elapsed_time(start, end) / 1000


def measure(device: str) -> Floor:
    """The floor of "cpu" or "cuda"; takes about a second."""
    xp: Any = np
    timed: Timed = on_cpu
    if device == "cuda":
        import cupy

        xp, timed = cupy, on_gpu
    source = xp.ones(COPY_BYTES[device] // 4, np.float32)
    target = xp.empty_like(source)
    copy = best(timed, lambda: _copy(source, target))
    rates = {}
    for dtype in ("float32", "float64"):
        a = xp.ones((MATMUL_SIDE[device],) * 2, dtype)
        rates[dtype] = 2 * MATMUL_SIDE[device] ** 3 / best(timed, partial(xp.matmul, a, a))
    return Floor(2 * source.nbytes / copy, rates)


def _copy(source: Any, target: Any) -> None:
    """On a CPU, with all threads, as the ops do it."""
    if not isinstance(source, np.ndarray):
        target[...] = source
        return
    threads = get_num_threads()
    step = -(-source.size // threads)

    def one_block(i: int) -> None:
        target[i * step : (i + 1) * step] = source[i * step : (i + 1) * step]

    parallel_for(one_block, threads)


def best(timed: Timed, action: Callable[[], Any], seconds: float = 0.1) -> float:
    """The shortest time of at least two runs, and of more until they took `seconds` in all."""
    fastest, spent = timed(action)[1], 0.0
    while spent < seconds:
        one = timed(action)[1]
        fastest, spent = min(fastest, one), spent + max(one, 1e-4)
    return fastest
