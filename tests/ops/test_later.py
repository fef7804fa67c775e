"""Gradients that are computed while the caller goes on: the same ones, when they are asked for."""

import threading
import weakref

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, parallel, tape
from minseg.ops import op as op_module
from minseg.ops.op import LITTLE_WORK, Op, override
from minseg.parallel import WORTH_A_THREAD, Later, later
from minseg.tensor import record


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", 2)


@pytest.fixture
def op():
    names = dict(op_module._registry)
    yield Op("twice", numpy={"forward": np.copy, "grad": lambda g: (2 * g, threading.get_ident())})
    op_module._registry.clear()
    op_module._registry.update(names)


def test_a_helper_computes_while_the_caller_goes_on():
    barrier = threading.Barrier(2)

    def compute():
        barrier.wait(timeout=10)
        return threading.get_ident()

    promise = later(compute)
    barrier.wait(timeout=10)  # is reached, though nobody has asked for the result
    assert promise() not in (None, threading.get_ident())
    assert promise() == promise()


def test_what_no_helper_has_begun_the_caller_computes():
    busy = threading.Event()
    first = later(lambda: busy.wait(10))
    second = later(threading.get_ident)  # behind the first
    assert second() == threading.get_ident()
    busy.set()
    assert first() is True
    third = threading.Event()
    later(third.set)
    assert third.wait(10)  # the helper has passed over the second


def test_an_error_is_raised_where_the_result_is_wanted():
    def compute():
        raise FloatingPointError("no gradient")

    promise = later(compute)
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="no gradient"):
            promise()


def test_it_holds_on_to_nothing_once_it_is_done():
    class Large:
        pass

    large, gone = Large(), threading.Event()
    weakref.finalize(large, gone.set)
    promise = Later(lambda large=large: 5)
    del large
    assert promise() == 5
    assert gone.wait(5)


def test_one_thread_and_blocks_of_parallel_for_compute_at_once(monkeypatch):
    found = []
    parallel.parallel_for(lambda i: found.append(later(lambda: i)), 2)
    assert sorted(found) == [0, 1]
    monkeypatch.setattr(parallel, "_num_threads", 1)
    assert later(lambda: 5) == 5


def on_the_helper(compute):
    """What later(compute) gives when the helper has computed it."""
    begun = threading.Event()
    promise = later(lambda: (begun.set(), threading.get_ident(), compute()))
    assert begun.wait(10)
    _, thread, result = promise()
    assert thread != threading.get_ident()
    return result


def test_what_holds_here_holds_there():
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        on_the_helper(lambda: np.float32(1) / np.zeros(1, np.float32))
    with tape.no_grad():
        assert on_the_helper(tape.is_grad_enabled) is False


def test_a_helper_keeps_to_its_own_thread():
    threads = set()
    on_the_helper(lambda: parallel.parallel_for(lambda _: threads.add(threading.get_ident()), 50))
    assert len(threads) == 1
    assert on_the_helper(lambda: later(lambda: 5)) == 5  # there is no helper's helper


def test_an_op_puts_off_what_is_little_work_but_worth_a_thread(op):
    promise = op.later("grad", WORTH_A_THREAD, np.ones(3))
    assert callable(promise)
    np.testing.assert_array_equal(promise()[0], [2, 2, 2])
    for work in (WORTH_A_THREAD - 1, LITTLE_WORK + 1):
        grad, thread = op.later("grad", work, np.ones(3))
        assert thread == threading.get_ident()
        np.testing.assert_array_equal(grad, [2, 2, 2])


def test_an_override_runs_at_once_on_the_thread_that_called(op):
    mine = lambda g: (3 * g, threading.get_ident())  # noqa: E731
    with override("twice", forward=np.copy, grad=mine):
        grad, thread = op.later("grad", WORTH_A_THREAD, np.ones(3))
    assert thread == threading.get_ident()
    np.testing.assert_array_equal(grad, [3, 3, 3])


# -- on the tape -----------------------------------------------------------------------------------
def square_later(x, asked):
    """x^2; its gradient comes when asked for, which is noted."""

    def backward(grad):
        def gradient():
            asked.append(len(asked))
            return 2 * x.data * grad

        return (gradient,)

    return record("square", x.data**2, (x,), backward)


def test_a_leaf_gets_what_was_put_off_at_the_end():
    asked, x = [], Tensor(np.array([3.0, 4.0]), requires_grad=True)
    y = Tensor(np.ones(2), requires_grad=True)
    seen = []
    z = record("note", y.data * 1, (y,), lambda g: (seen.append(list(asked)), g)[1:])
    (square_later(x, asked) + z).backward(np.ones(2))
    assert seen == [[]]  # not asked before the other branch had its turn
    assert asked == [0]
    np.testing.assert_array_equal(x.grad.data, [6, 8])
    np.testing.assert_array_equal(y.grad.data, [1, 1])


def test_it_is_added_up_where_there_are_several_uses():
    x = Tensor(np.array([3.0, 4.0]), requires_grad=True)
    (square_later(x, []) + square_later(x, []) + x).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad.data, [13, 17])
    square_later(x, []).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad.data, [19, 25])
    x.grad = None
    (square_later(x, []) + square_later(x, [])).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad.data, [12, 16])


def test_what_is_no_leaf_passes_it_on_at_once():
    x = Tensor(np.array([3.0, 4.0]), requires_grad=True)
    square_later(square_later(x, []), []).backward(np.ones(2))
    np.testing.assert_allclose(x.grad.data, 4 * x.data**3)


def test_a_leaf_keeps_an_array_whose_elements_lie_in_order():
    x = Tensor(np.ones((3, 2)), requires_grad=True)
    turned = np.arange(6.0).reshape(2, 3).T
    record("turned", x.data, (x,), lambda grad: (lambda: turned,)).backward(np.ones((3, 2)))
    assert x.grad.data.flags.c_contiguous
    np.testing.assert_array_equal(x.grad.data, turned)


def test_a_gradient_that_does_not_fit_is_found_late_too():
    x = Tensor(np.ones(3), requires_grad=True)
    y = record("bad", x.data, (x,), lambda grad: (lambda: np.ones(2),))
    with pytest.raises(ValueError, match=r"bad: its backward gave a gradient of shape \(2,\)"):
        y.backward(np.ones(3))


def test_a_convolution_puts_off_the_gradient_of_its_weights(monkeypatch):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 32, 32, 40)), rng.standard_normal((32, 32, 3, 3))
    gradients, promises = [], []
    monkeypatch.setattr(op_module, "later", lambda f: (promises.append(later(f)), promises[-1])[1])
    for threads in (1, 2):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        inputs = [Tensor(a.astype(np.float32), requires_grad=True) for a in (x, w)]
        F.conv2d(*inputs, padding=1).backward(np.ones((2, 32, 32, 40), np.float32))
        gradients.append([t.grad.data for t in inputs])
    assert [isinstance(promise, Later) for promise in promises] == [False, True]
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_array_equal(one, two)
