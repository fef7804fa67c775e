"""Dot products in pieces: the sums, and that the interpreter's lock is let go of."""

import sys
import threading
import time

import numpy as np
import pytest

from minseg.ops.fast.dots import MOST_WITH_LOCK, SHORT, dots


@pytest.mark.parametrize("lines", [0, 1, 3, 499, 500, 501])
@pytest.mark.parametrize("length", [0, 1, 7, 4096, 4099])
def test_the_sums(lines, length):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, lines, length))
    np.testing.assert_allclose(dots(a, b), (a * b).sum(axis=1), rtol=1e-12, atol=1e-12)


def test_others_broadcast_and_need_not_lie_end_to_end():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4, 2, 5000))[:, ::2], rng.standard_normal((3, 1, 2, 5000))
    np.testing.assert_allclose(dots(a, b), (a * b).sum(axis=-1), rtol=1e-12, atol=1e-12)


def test_the_same_number_of_lines_adds_up_in_the_same_order():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 64, 5000)).astype(np.float32)
    together = dots(a, b)
    apart = [dots(a[i : i + 8], b[i : i + 8], lines=64) for i in range(0, 64, 8)]
    np.testing.assert_array_equal(np.concatenate(apart), together)
    others = [dots(a[i : i + 8], b[i : i + 8]) for i in range(0, 64, 8)]
    assert (np.concatenate(others) != together).any()  # the test would see another order


def shut_out(function, *arguments):
    """How long this thread could not run while another computed: the longest time, of the whole."""
    span, turns = [], []

    def work():
        begin = time.perf_counter()
        function(*arguments)
        span.extend([begin, time.perf_counter()])

    thread = threading.Thread(target=work)
    thread.start()
    while not span:
        turns.append(time.perf_counter())
    thread.join()
    begin, end = span
    return np.diff([begin, *(t for t in turns if begin < t < end), end]).max() / (end - begin)


def test_another_thread_runs_meanwhile():
    """NumPy itself does not let it, for so few products: else this file has lost its reason."""
    line = np.ones(1 << 22, np.float32)
    a = np.broadcast_to(line, (MOST_WITH_LOCK // 5, len(line)))  # a tenth of a second
    assert a.size > SHORT
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that one waits for the lock only while it is kept
    try:
        assert np.median([shut_out(np.vecdot, a, a) for _ in range(5)]) > 0.8
        # Where other programs have all cores, this takes a few attempts.
        assert any(shut_out(dots, a, a) < 0.5 for _ in range(100))
    finally:
        sys.setswitchinterval(interval)
