"""Work on all cores where NumPy itself uses one.

NumPy threads its matrix products only; copies, sums and comparisons run on one core. Most of them
release the interpreter's lock, so an op that cuts its work into independent blocks can run these in
plain threads: `parallel_for` waits for them all; `later` starts what is not needed at once.

BLAS's own threads would be in the way of ours. OpenBLAS's stay awake for 25 ms after each product,
waiting for another, and take turns with ours on the cores meanwhile: a third of a U-Net's training
step was seen to go there. So an op holds BLAS to the thread that calls it, and large products are
cut into blocks as everything else is. Between ops BLAS has its threads, for whoever else uses it.

Blocks never share an output element. Where a sum is cut into parts, the cuts do not depend on the
number of threads, and the parts are added up in a fixed order: so the result does not depend on the
number of threads either, to the last bit.
"""

import os
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import cache, wraps
from queue import SimpleQueue
from typing import Any

import numpy as np

from minseg.affinity import keep_off_this_core
from minseg.array import Array
from minseg.cores import cores_to_use

# Elements of a block: 1 MiB of float32. Smaller ones spend their time on calling NumPy and on
# handing the interpreter's lock to and fro; of larger ones, a few do not fit the last cache.
BLOCK = 1 << 18
SMALL = 1 << 17  # elements: not worth a second thread, which takes 0.1 ms to wake up
WORTH_A_THREAD = 1 << 24  # multiplications of matrix products: of fewer, the same holds
PASS = 32  # multiplications in the time of reading an element, along whole rows, and writing it

# NumPy collects rows that do not lie end to end in a buffer, as many as it holds, and computes
# there: with its usual 8192 elements, two to three times as slow as on the rows where they lie.
# Rows longer than the buffer stay where they are. Casts, which need it, are as fast with this one.
UFUNC_BUFFER = 512

_num_threads = cores_to_use()
_inside = threading.local()  # a block that calls parallel_for again runs its blocks in place
_one_at_a_time = threading.Lock()  # there is one set of helpers
_blas_limit = threading.Lock()  # the limit belongs to the process, whichever threads want it


def get_num_threads() -> int:
    """The number of threads that ops use; at first the number of cores that this process may use.

    In a container that is given a share of the cores' time, these are that many cores, rounded up.
    """
    return _num_threads


def set_num_threads(number: int) -> None:
    """Let ops use `number` threads. Raises ValueError below 1.

    Their results do not depend on it. NumPy's own products, outside of ops, stay as they are.
    """
    global _num_threads
    if not isinstance(number, int | np.integer):
        raise TypeError(f"set_num_threads: number is {number!r}, needs an int")
    if number < 1:
        raise ValueError(f"set_num_threads: number is {number}, needs at least 1")
    _num_threads = number


def parallel_for(
    body: Callable[[int], None], count: int, multiplications: int = WORTH_A_THREAD
) -> None:
    """Call body(0), ..., body(count - 1), in any order, on all threads; return when all are done.

    multiplications: how long all of it takes, in multiplications of a matrix product (PASS for each
    element that is read and written). Little work stays on this thread, as does a single block, and
    a parallel_for within a block. BLAS is held to one thread. An exception in a block is raised
    here, after the others have ended. What holds here (np.errstate, no_grad) holds in all blocks.
    """
    if getattr(_inside, "block", False):
        for i in range(count):
            body(i)
        return
    threads = min(get_num_threads(), count) if multiplications >= WORTH_A_THREAD else 1
    if threads <= 1:
        with blas_on_one_thread(), np.errstate():  # which ends the small buffer, too
            np.setbufsize(UFUNC_BUFFER)
            for i in range(count):
                body(i)
        return

    # pop() is atomic, also in a Python without the interpreter's lock, unlike next():
    blocks = list(reversed(range(count)))  # here it hands each block to one thread,
    unfinished = list(range(count))  # and here it tells the last block that it is the last
    all_done = threading.Lock()  # a semaphore of 0; threading's own is Python code, and slower
    all_done.acquire()
    errors: list[BaseException] = []

    def work() -> None:
        _inside.block = True
        try:
            while True:
                try:
                    i = blocks.pop()
                except IndexError:  # none is left
                    return
                try:
                    body(i)
                except BaseException as error:  # raised by the caller, below
                    errors.append(error)
                if unfinished.pop() == 0:
                    all_done.release()
        finally:
            _inside.block = False

    with _one_at_a_time, blas_on_one_thread(), np.errstate():
        np.setbufsize(UFUNC_BUFFER)
        helpers = [_helper(number) for number in range(threads - 1)]
        keep_off_this_core([thread for thread, _ in helpers])
        for _, queue in helpers:
            queue.put((copy_context(), work))
        work()  # the caller works too, and a helper that wakes up late finds nothing left to do
        all_done.acquire()
    if errors:
        raise errors[0]


class Later:
    """A computation that a helper runs while its caller goes on. Calling it gives the result.

    If the helper has not begun by then, being busy with others, the caller computes it itself.
    """

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = compute
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._ended.acquire()
        self._error: BaseException | None = None
        self._result: Any = None

    def begin(self) -> None:
        """Compute it, if nobody has begun to."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._result = self._compute()
        except BaseException as error:  # raised where the result is wanted
            self._error = error
        finally:
            del self._compute  # free what it refers to now, not when the result is fetched
            self._ended.release()

    def on_helper(self) -> None:
        """`begin`, in a helper's thread, under the same conditions as a block of parallel_for."""
        _inside.block = True
        try:
            with blas_on_one_thread(), np.errstate():
                np.setbufsize(UFUNC_BUFFER)
                self.begin()
        finally:
            _inside.block = False

    def __call__(self) -> Any:
        self.begin()
        with self._ended:
            if self._error is not None:
                raise self._error
            return self._result


def later(compute: Callable[[], Any]) -> Any:
    """Let a helper run compute(); returns a function that gives its result.

    Where there is no helper, returns the result itself.
    """
    if get_num_threads() == 1 or getattr(_inside, "block", False):
        return compute()
    promise = Later(compute)
    thread, queue = _helper(0)
    keep_off_this_core([thread])
    queue.put((copy_context(), promise.on_helper))
    return promise


def in_blocks(
    formula: Callable[..., Array],
    fast: Callable[..., None] | None = None,
    light: bool = False,
) -> Callable[..., Array]:
    """An elementwise formula, made to run block by block, on all cores.

    formula(a, b, ..., *constants) of arrays of one shape gives an array of that shape and dtype,
    each element of it from those in its place. NumPy computes a formula operation by operation,
    each one reading and writing whole arrays; on blocks, these reads and writes stay in the cache.

    fast(out, a, b, ..., *constants), if there is one, writes the same result, of flat float32
    arrays, into `out` in fewer passes. light: it has few passes and no exponential, so that more
    elements are needed before a second thread is worth its while.
    """
    # On one and on two threads, a ReLU of 2^18 elements takes 50 and 80 us, of 2^20 150 on either;
    # a sigmoid of 2^18 145 and 190, of 2^20 530 and 350: the second also has to wait for the lock.
    small = 8 * SMALL if light else 2 * SMALL

    @wraps(formula)
    def blockwise(*arguments: Any) -> Array:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        constants = arguments[len(arrays) :]
        shortcut = fast if arrays and arrays[0].dtype == np.float32 else None
        if not arrays or (shortcut is None and arrays[0].size <= SMALL):
            return formula(*arguments)  # CuPy's arrays, or small ones
        flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
        result = np.empty_like(flat[0])
        pieces = cut(result.size, small)
        if shortcut is not None and len(pieces) == 1:
            shortcut(result, *flat, *constants)
            return result.reshape(arrays[0].shape)

        def one_block(index: int) -> None:
            piece = pieces[index]
            blocks = (a[piece] for a in flat)
            if shortcut is None:
                result[piece] = formula(*blocks, *constants)
            else:
                shortcut(result[piece], *blocks, *constants)

        parallel_for(one_block, len(pieces), WORTH_A_THREAD if result.size > small else 0)
        return result.reshape(arrays[0].shape)

    return blockwise


def cut(size: int, small: int = SMALL) -> list[slice]:
    """`size` elements in slices of one length, as many for each thread, for an elementwise formula.

    Up to `small` elements are for one thread. The slices depend on the number of threads, so they
    are not for sums, whose bits must not.
    """
    threads = 1 if size <= small else get_num_threads()
    pieces = threads * -(-size // (threads * BLOCK))
    step = max(1, -(-size // max(pieces, 1)))
    return [slice(start, start + step) for start in range(0, size, step)]


def _helper(number: int) -> tuple[threading.Thread, SimpleQueue]:
    """A thread, and the queue at whose other end it waits for what to run."""
    while len(_helpers) <= number:
        queue: SimpleQueue = SimpleQueue()
        thread = threading.Thread(target=_serve, args=(queue,), name="minseg", daemon=True)
        thread.start()
        _helpers.append((thread, queue))
    return _helpers[number]


def _serve(queue: SimpleQueue) -> None:
    while True:
        context, work = queue.get()
        context.run(work)
        del context, work  # free what they refer to now, not when the next work comes


def _start_afresh() -> None:
    """In a child process, which lacks its parent's other threads: nobody would free their locks."""
    global _one_at_a_time, _blas_limit, _blas_on_one_thread
    _one_at_a_time, _blas_limit = threading.Lock(), threading.Lock()
    _helpers.clear()
    if _blas_on_one_thread.holders:
        _blas_on_one_thread.let_go()
    _blas_on_one_thread = _BlasOnOneThread()


_helpers: list[tuple[threading.Thread, SimpleQueue]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


class _BlasOnOneThread:
    """A context manager. Written by hand, as @contextmanager is slow for ops of microseconds."""

    holders = 0  # how many are inside, in all threads
    before: Sequence[tuple[Callable[[int], Any], int]] = ()  # setters, and the numbers to restore

    def __enter__(self) -> None:
        with _blas_limit:
            if self.holders == 0:
                self.before = [(switch, read()) for read, switch in _blas_switches()]
                for switch, _ in self.before:
                    switch(1)
            self.holders += 1

    def __exit__(self, *error: object) -> None:
        with _blas_limit:
            self.holders -= 1
            if self.holders == 0:
                self.let_go()

    def let_go(self) -> None:
        for switch, number in self.before:
            switch(number)


_blas_on_one_thread = _BlasOnOneThread()


def blas_on_one_thread() -> _BlasOnOneThread:
    """Inside, a product is computed by the thread that calls it, and always by the same sums."""
    return _blas_on_one_thread


@cache
def _blas_switches() -> list[tuple[Callable[[], int], Callable[[int], Any]]]:
    """For each BLAS library of this process, the getter and setter of its number of threads.

    OpenBLAS's own functions where they can be found: threadpoolctl's take ten times as long.
    """
    switches = []
    for library in _blas():
        # threadpoolctl's public setter has an effect only in the first thread that calls it
        switch = getattr(library, "_real_set_num_threads", library.set_num_threads)
        found = [None, None]
        if hasattr(library, "_get_symbol") and library.threading_layer == "pthreads":
            found = [library._get_symbol(f"openblas_{verb}_num_threads") for verb in ("get", "set")]
        switches.append((found[0] or library.get_num_threads, found[1] or switch))
    return switches


@cache
def _blas() -> Any:
    """The BLAS libraries of this process."""
    from threadpoolctl import ThreadpoolController  # here: `import minseg` stays quick

    return ThreadpoolController().select(user_api="blas").lib_controllers
