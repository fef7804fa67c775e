"""Dot products in pieces: the sums, and that the interpreter's lock is let go of."""

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


def test_another_thread_runs_meanwhile():
    """NumPy itself does not let it, for so few products: else this file has lost its reason."""

    def longest_gap(function):
        """Seconds in which this thread could not run while another computed."""
        done, gaps = threading.Event(), []

        def work():
            function(a, a)
            done.set()

        thread = threading.Thread(target=work)
        last = time.perf_counter()
        thread.start()
        while not done.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
        thread.join()
        return max([*gaps, time.perf_counter() - last])

    a = np.ones((MOST_WITH_LOCK // 50, 1 << 22), np.float32)
    assert len(a) * a.shape[1] > SHORT
    assert min(longest_gap(dots) for _ in range(5)) < min(longest_gap(np.vecdot) for _ in range(5))
