"""Several gradients of one op: side by side or in turn, the same."""

import threading

import numpy as np
import pytest

from minseg import parallel
from minseg.ops import op as op_module
from minseg.ops.op import Op, override
from minseg.parallel import WORTH_A_THREAD


@pytest.fixture
def op(monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", 2)
    names = dict(op_module._registry)
    yield Op("twins", numpy={"forward": np.copy, "left": _met, "right": _met, "fails": _fails})
    op_module._registry.clear()
    op_module._registry.update(names)


def _met(grad, other, barrier):
    """Returns only once the other part has begun, if there is a barrier."""
    if barrier is not None:
        barrier.wait(timeout=10)
    return grad + other, threading.get_ident()


def _fails(grad, *_):
    raise FloatingPointError("no gradient")


def _unwanted(*_):
    pytest.fail("side by side")


def test_parts_of_little_work_run_side_by_side(op):
    barrier = threading.Barrier(2)
    (left, one), (right, other) = op.gradients(
        np.ones(3), WORTH_A_THREAD, left=(1, barrier), right=(2, barrier)
    )
    assert one != other
    np.testing.assert_array_equal(left, [2, 2, 2])
    np.testing.assert_array_equal(right, [3, 3, 3])


def test_hardly_any_work_is_left_to_parallel_for_to_run_in_place(op, monkeypatch):
    asked = []
    monkeypatch.setattr(op_module, "parallel_for", lambda body, *how: asked.append(how))
    op.gradients(np.ones(3), 5, left=(1, None), right=(2, None))
    assert asked == [(2, 5)]


def test_much_work_runs_in_turn_for_each_part_has_enough_for_all_threads(op, monkeypatch):
    monkeypatch.setattr(op_module, "parallel_for", _unwanted)
    work = op_module.LITTLE_WORK + 1
    (_, one), (_, other) = op.gradients(np.ones(3), work, left=(1, None), right=(2, None))
    assert one == other == threading.get_ident()


def test_an_override_runs_on_the_thread_that_called(op, monkeypatch):
    monkeypatch.setattr(op_module, "parallel_for", _unwanted)
    with override("twins", forward=np.copy, left=_met, right=_met, fails=_fails):
        (_, one), (_, other) = op.gradients(
            np.ones(3), WORTH_A_THREAD, left=(1, None), right=(2, None)
        )
    assert one == other == threading.get_ident()


def test_a_part_that_is_not_wanted_is_none_in_its_place(op):
    left, (right, thread) = op.gradients(np.ones(3), WORTH_A_THREAD, left=None, right=(2, None))
    assert left is None
    assert thread == threading.get_ident()
    np.testing.assert_array_equal(right, [3, 3, 3])
    assert op.gradients(np.ones(3), WORTH_A_THREAD, left=None) == [None]


def test_an_error_of_one_part_is_raised(op):
    with pytest.raises(FloatingPointError, match="no gradient"):
        op.gradients(np.ones(3), WORTH_A_THREAD, left=(1, None), fails=())
