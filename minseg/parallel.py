"""Work on all cores where NumPy itself uses one.

NumPy threads its matrix products only; copies, sums and comparisons run on one core. Most of them
release the interpreter's lock, so an op that cuts its work into independent blocks can run these in
plain threads. While it does, BLAS is held to one thread: two layers of threads fight for the cores.

Blocks never share an output element and no sum is split between threads, so the result does not
depend on the number of threads.
"""

import os
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np

from minseg.array import Array

BLOCK = 1 << 14  # elements: 64 KiB of float32, so that a formula's few intermediates stay in cache

_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
_inside = threading.local()  # a block that calls parallel_for again runs its blocks in place
_one_at_a_time = threading.Lock()  # the BLAS limit belongs to the process


def get_num_threads() -> int:
    """The number of threads that ops use; at first the number of cores of this process."""
    return _num_threads or 1


def set_num_threads(number: int) -> None:
    """Let ops use `number` threads, BLAS included. Raises ValueError below 1."""
    global _num_threads
    if number < 1:
        raise ValueError(f"set_num_threads: number is {number}, needs at least 1")
    _num_threads = number
    _blas().limit(limits=number)


def parallel_for(body: Callable[[int], None], count: int) -> None:
    """Call body(0), ..., body(count - 1), in any order, on all threads; return when all are done.

    A single block runs in place and leaves BLAS its threads. An exception in a block is raised
    here, after the others have ended. What NumPy is told to ignore (np.errstate) holds in all.
    """
    threads = min(get_num_threads(), count)
    if threads <= 1 or getattr(_inside, "block", False):
        for i in range(count):
            body(i)
        return

    counter = iter(range(count))  # next() on it is atomic: it hands each block to one thread
    errors = np.geterr()  # a thread's own otherwise

    def work(_: int) -> None:
        _inside.block = True
        try:
            with np.errstate(**errors):
                for i in counter:
                    body(i)
        finally:
            _inside.block = False

    with _one_at_a_time, _blas().limit(limits=1):
        list(_pool(threads).map(work, range(threads)))


def in_blocks(formula: Callable[..., Array]) -> Callable[..., Array]:
    """A formula of elements, made to run block by block, on all cores.

    formula(a, b, ..., *constants) of arrays of one shape gives an array of that shape and dtype,
    each element of it from those in its place. NumPy computes a formula operation by operation,
    each one reading and writing whole arrays; on blocks, these reads and writes stay in the cache.
    """

    @wraps(formula)
    def blockwise(*arguments: Any) -> Array:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        constants = arguments[len(arrays) :]
        if not arrays or arrays[0].size <= BLOCK:  # small, or not NumPy's
            return formula(*arguments)
        flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
        result = np.empty_like(flat[0])

        def one_block(index: int) -> None:
            piece = slice(index * BLOCK, (index + 1) * BLOCK)
            result[piece] = formula(*(a[piece] for a in flat), *constants)

        parallel_for(one_block, -(-result.size // BLOCK))
        return result.reshape(arrays[0].shape)

    return blockwise


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController  # here, so that `import minseg` stays quick

    return ThreadpoolController().select(user_api="blas")


@cache
def _pool(threads: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads, thread_name_prefix="minseg")
