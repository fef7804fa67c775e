"""Softmax block by block against the plain formulas in float64."""

import numpy as np
import pytest

from minseg import parallel
from minseg.ops import softmax as plain
from minseg.ops.op import get_op
from minseg.parallel import SMALL
from tests.witness import assert_agree

PLAIN = {
    "softmax": (plain._softmax, plain._softmax_grad),
    "log_softmax": (plain._log_softmax, plain._log_softmax_grad),
}
# Several images a block, several blocks an image, lines along the last and along the first axis.
SHAPES = [((40, 5, 30, 31), 1), ((1, 7, 301, 303), 1), ((9001, 75), 1), ((3, 200_001), 0)]


def numbers(shape, dtype):
    x, grad = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    x *= 9
    assert x.size > SMALL
    return x, grad


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_formula(name, shape, axis, dtype):
    x, grad = numbers(shape, dtype)
    forward, grad_input = PLAIN[name]
    y = get_op(name).forward(x, axis)
    exact = forward(x.astype(np.float64), axis)
    assert_agree(y, exact, dtype, length=shape[axis])
    dx = get_op(name).grad_input(grad, y, axis)
    exact = grad_input(grad.astype(np.float64), y.astype(np.float64), axis)
    assert_agree(dx, exact, dtype, length=shape[axis])


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("name", PLAIN)
def test_the_number_of_threads_changes_no_bit(name, shape, axis, monkeypatch):
    x, grad = numbers(shape, np.float32)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        y = get_op(name).forward(x, axis)
        results.append((y, get_op(name).grad_input(grad, y, axis)))
    for y, dx in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(dx, results[0][1])


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_not_finite_stays_in_its_line(name):
    x, _ = numbers((2, 4, 200, 200), np.float32)
    clean = get_op(name).forward(x, 1)
    x[0, :, 3, 5], x[1, 2, 7, 8], x[1, 1, 9, 9] = -np.inf, np.nan, np.inf
    y = get_op(name).forward(x, 1)
    touched = np.zeros((2, 200, 200), bool)
    touched[[0, 1, 1], [3, 7, 9], [5, 8, 9]] = True
    assert np.isnan(y.swapaxes(0, 1)[:, touched]).all()
    np.testing.assert_array_equal(y.swapaxes(0, 1)[:, ~touched], clean.swapaxes(0, 1)[:, ~touched])
    x[0, 0, 3, 5] = 0  # the others stay at -inf: it has all
    expected = [1, 0, 0, 0] if name == "softmax" else [0, -np.inf, -np.inf, -np.inf]
    np.testing.assert_array_equal(get_op(name).forward(x, 1)[0, :, 3, 5], expected)
