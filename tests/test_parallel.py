import os
import signal
import threading

import numpy as np
import pytest

from minseg import Tensor, no_grad, parallel
from minseg.parallel import BLOCK, SMALL, cut, in_blocks, parallel_for


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", request.param)


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, BLOCK + 1, 5 * BLOCK - 7])
@pytest.mark.usefixtures("threads")
def test_a_formula_in_blocks_is_the_formula(size):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size)).astype(np.float32)
    got = in_blocks(lambda a, b, c: a * b + c)(a, b, 2.0)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, a * b + np.float32(2))


@pytest.mark.usefixtures("threads")
def test_blocks_of_views():
    x = np.random.default_rng(0).standard_normal((300, 200, 3))
    turned = x.transpose(2, 0, 1)[:, ::-1]
    np.testing.assert_array_equal(in_blocks(np.exp)(turned), np.exp(turned))


@pytest.mark.usefixtures("threads")
def test_what_numpy_is_told_to_ignore_is_ignored_in_all_threads():
    large = np.full(4 * BLOCK, 1000.0)
    with np.errstate(over="ignore"):
        assert np.isinf(in_blocks(np.exp)(large)).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        in_blocks(np.exp)(large)


@pytest.mark.usefixtures("threads")
def test_numpy_buffers_little_within_blocks_and_as_before_after_them():
    before, sizes = np.getbufsize(), []
    parallel_for(lambda i: sizes.append(np.getbufsize()), 4)
    assert sizes == 4 * [parallel.UFUNC_BUFFER]
    assert np.getbufsize() == before != parallel.UFUNC_BUFFER
    with pytest.raises(ZeroDivisionError):
        parallel_for(lambda i: 1 // 0, 4)
    assert np.getbufsize() == before


@pytest.mark.usefixtures("threads")
def test_each_block_runs_once_and_its_error_is_raised():
    seen = []
    parallel_for(seen.append, 5000)  # so many that threads meet, where no lock keeps them apart
    assert sorted(seen) == list(range(5000))
    with pytest.raises(ZeroDivisionError):
        parallel_for(lambda i: 1 // (i - 3), 20)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 2 * BLOCK, 2 * BLOCK + 1, 7 * BLOCK - 3])
def test_pieces_cover_all_and_keep_every_thread_busy(size):
    numbers, pieces = np.arange(size), cut(size)
    lengths = [len(numbers[piece]) for piece in pieces]
    np.testing.assert_array_equal(
        np.concatenate([numbers[:0], *(numbers[p] for p in pieces)]), numbers
    )
    assert max(lengths, default=0) <= BLOCK
    if size > SMALL:
        assert len(pieces) % parallel.get_num_threads() == 0


@pytest.mark.usefixtures("threads")
def test_a_fast_formula_writes_where_it_is_told():
    x = np.random.default_rng(0).standard_normal((3, BLOCK)).astype(np.float32)
    doubled = in_blocks(lambda a, b: a * b, lambda out, a, b: np.multiply(a, b, out=out))
    np.testing.assert_array_equal(doubled(x.T, 2.0), (x * 2).T)
    assert doubled(x[:0], 2.0).shape == (0, BLOCK)


@pytest.mark.parametrize(("light", "worth"), [(False, 2 * SMALL), (True, 8 * SMALL)])
def test_of_few_elements_a_formula_keeps_to_its_thread(light, worth, monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", 2)
    for size, number in ((worth, 1), (worth + 2, 2)):
        threads, meeting = set(), threading.Barrier(number, timeout=60)

        def negative(out, x, threads=threads, meeting=meeting):
            threads.add(threading.get_ident())
            meeting.wait()  # until the other thread has a block, too
            np.negative(x, out=out)

        x = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(in_blocks(np.negative, negative, light)(x), -x)
        assert len(threads) == number


def test_what_holds_outside_holds_in_the_blocks(monkeypatch):
    """Both threads run a block: each waits until the other has begun."""
    monkeypatch.setattr(parallel, "_num_threads", 2)
    both = threading.Barrier(2, timeout=60)
    recorded = []

    def body(index):
        both.wait()
        recorded.append((Tensor([1.0], requires_grad=True) * 2).requires_grad)

    with no_grad():
        parallel_for(body, 2)
    parallel_for(body, 2)
    assert recorded == [False, False, True, True]


def blas_threads():
    return [library.get_num_threads() for library in parallel._blas()]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.usefixtures("threads")
def test_blocks_inside_of_blocks_and_blas_afterwards(count):
    before, inside, seen = blas_threads(), [], []

    def body(index):
        inside.extend(blas_threads())
        parallel_for(lambda i: seen.append((index, i)), 3)

    parallel_for(body, count)
    with pytest.raises(ZeroDivisionError):
        parallel_for(lambda i: 1 // 0, count)
    assert sorted(seen) == [(index, i) for index in range(count) for i in range(3)]
    assert set(inside) == {1}
    assert blas_threads() == before


def test_blas_is_let_go_when_the_last_of_several_threads_is_done():
    """The first to come is the first to go: what it found is not what it leaves, but the last."""
    before, second_holds, first_is_done = blas_threads(), threading.Event(), threading.Event()
    inside = []

    def second():
        with parallel.blas_on_one_thread():
            second_holds.set()
            first_is_done.wait(60)
            inside.extend(blas_threads())

    thread = threading.Thread(target=second)
    with parallel.blas_on_one_thread():
        thread.start()
        assert second_holds.wait(60)
    first_is_done.set()
    thread.join()
    assert set(inside) == {1}
    assert blas_threads() == before


def test_the_number_of_threads_is_not_blas_s():
    before, threads = blas_threads(), parallel.get_num_threads()
    try:
        parallel.set_num_threads(3)
        assert parallel.get_num_threads() == 3
        assert blas_threads() == before
    finally:
        parallel.set_num_threads(threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_child_process_has_threads_of_its_own(busy, monkeypatch):
    """Even if another thread is in the midst of its blocks, which the child will never see end."""
    monkeypatch.setattr(parallel, "_num_threads", 2)
    begun, end = threading.Barrier(3, timeout=30), threading.Event()
    parallel_for(lambda i: None, 2)
    before = blas_threads()
    other = threading.Thread(target=parallel_for, args=(lambda i: (begun.wait(), end.wait()), 2))
    if busy:
        other.start()
        begun.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        both = threading.Barrier(2, timeout=30)
        try:
            inside = []
            parallel_for(lambda i: (both.wait(), inside.append(blas_threads())), 2)
            assert inside == [[1] * len(before)] * 2
            assert blas_threads() == before
        except BaseException:
            os._exit(1)
        os._exit(0)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        end.set()
        if busy:
            other.join()


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_a_wrong_number_of_threads_is_refused(number, error):
    with pytest.raises(error, match="set_num_threads: number is"):
        parallel.set_num_threads(number)
