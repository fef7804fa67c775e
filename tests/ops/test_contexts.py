"""no_grad, override and use_kernels hold for the thread that opened them, and for its helpers."""

import inspect
import threading
from contextlib import ExitStack

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, parallel
from minseg.ops.op import get_op, list_ops


def elsewhere(function):
    """What another thread of the user's gives meanwhile."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def relu():
    return F.relu(Tensor(np.full(2, 3.0), requires_grad=True))


def sevens(x, *_):
    return np.full_like(x, 7)


def eights(x, *_):
    return np.full_like(x, 8)


@pytest.mark.parametrize("name", list_ops())
def test_a_part_shows_the_arguments_that_override_is_to_take(name):
    for part in get_op(name).numpy.values():
        first = next(iter(inspect.signature(part).parameters.values()))
        assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD  # not *arguments


@pytest.mark.filterwarnings("ignore:override relu")
def test_another_thread_notices_nothing(monkeypatch):
    launched = []
    monkeypatch.setattr("minseg.kernels.launch", lambda name, *_: launched.append(name))
    with minseg.no_grad(), minseg.override("relu", forward=sevens):
        assert relu().numpy().tolist() == [7, 7]
        there = elsewhere(relu)
    assert there.numpy().tolist() == [3, 3]
    assert there.requires_grad
    with minseg.use_kernels("emulator"):
        elsewhere(lambda: F.max_pool2d(Tensor(np.ones((1, 1, 4, 4))), 2))
        assert launched == []
        F.max_pool2d(Tensor(np.ones((1, 1, 4, 4))), 2)
        assert launched != []


@pytest.mark.filterwarnings("ignore:override relu")
def test_two_threads_override_in_turns_and_nothing_is_left():
    """The first to come is the first to go."""
    both_have, first_has_left = threading.Barrier(2, timeout=60), threading.Event()
    seen = {}

    def first():
        with minseg.override("relu", forward=sevens):
            both_have.wait()
            seen["first"] = relu().numpy().tolist()
        first_has_left.set()

    thread = threading.Thread(target=first)
    thread.start()
    with minseg.override("relu", forward=eights):
        both_have.wait()
        assert first_has_left.wait(60)
        seen["second"] = relu().numpy().tolist()
    thread.join()
    assert seen == {"first": [7, 7], "second": [8, 8]}
    assert relu().numpy().tolist() == [3, 3]


@pytest.mark.filterwarnings("ignore:override relu")
def test_overrides_of_several_ops_and_parts_add_up():
    op = get_op("relu")
    with ExitStack() as stack:
        stack.enter_context(minseg.override("relu", forward=sevens))
        stack.enter_context(minseg.override("relu", grad_input=eights))
        stack.enter_context(minseg.override("sigmoid", forward=eights, grad_input=sevens))
        assert op.overrides == {"forward": sevens, "grad_input": eights}
        assert get_op("sigmoid").overrides == {"forward": eights, "grad_input": sevens}
        with minseg.override("relu", forward=eights):
            assert op.overrides == {"forward": eights, "grad_input": eights}
        assert op.overrides == {"forward": sevens, "grad_input": eights}
    assert op.overrides == get_op("sigmoid").overrides == {}


@pytest.mark.filterwarnings("ignore:override relu")
def test_the_threads_that_help_do_as_their_caller(monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", 2)
    barrier, seen = threading.Barrier(2, timeout=60), {}

    def body(index):
        barrier.wait()  # each block is another thread's
        seen[threading.get_ident()] = relu().numpy().tolist()

    with minseg.override("relu", forward=sevens):
        parallel.parallel_for(body, 2)
    assert list(seen.values()) == [[7, 7], [7, 7]]


# Large enough for the quicker ways of ops/fast, which serve the library's own NumPy functions only.
X = np.random.default_rng(0).standard_normal((9, 8, 64, 64)).astype(np.float32)
GRID, W, B = X[:, :2].transpose(0, 2, 3, 1), X[0, 0], X[0, 0, 0]
LARGE = {
    "batch_norm": lambda x: F.batch_norm(x, training=True),
    "instance_norm": F.instance_norm,
    "group_norm": lambda x: F.group_norm(x, 4),
    "layer_norm": lambda x: F.layer_norm(x, 64),
    "grid_sample": lambda x: F.grid_sample(x, Tensor(GRID)),
    "matmul": lambda x: F.linear(x, Tensor(W), Tensor(B)),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "cross_entropy": lambda x: F.cross_entropy(x, Tensor(np.zeros((len(X), 64, 64), int))),
    "mse_loss": lambda x: F.mse_loss(Tensor(X, requires_grad=True), x),
}


@pytest.mark.filterwarnings("ignore:override")
@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_go_where_they_are_sent(name, monkeypatch):
    launched, called = [], []
    monkeypatch.setattr("minseg.kernels.launch", lambda kernel, *_: launched.append(kernel))
    own = get_op(name).numpy

    def mine(*arguments):
        called.append("forward")
        return own["forward"](*arguments)

    with minseg.no_grad():
        with minseg.override(name, forward=mine):
            LARGE[name](Tensor(X))
        assert (called, launched) == (["forward"], [])
        with minseg.use_kernels("emulator"):
            LARGE[name](Tensor(X))
        assert launched or not get_op(name).cuda
