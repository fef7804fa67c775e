"""Windows' means as a matrix product against the definition; values that are not finite."""

import numpy as np
import pytest

from minseg import parallel
from minseg.ops import adaptive_pool
from minseg.ops.adaptive_pool import _windows, adaptive_avg_pool2d_definition
from minseg.ops.fast import window_means
from tests.witness import assert_adjoint, assert_agree

op = adaptive_pool.avg_op
CASES = [
    ((3, 4, 7, 5), (3, 2)),
    ((2, 3, 4, 6), (1, 1)),
    ((2, 5, 3, 4), (5, 4)),
    ((0, 2, 4, 4), (2, 2)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), CASES)
def test_means_equal_the_definition_and_the_gradient_is_adjoint(shape, size, dtype):
    x = np.random.default_rng(0).standard_normal(shape)
    windows = _windows(shape, size)
    assert window_means.fits(*windows, shape)
    got = op.forward(x.astype(dtype), size)
    assert_agree(got, adaptive_avg_pool2d_definition(x, size), dtype, length=shape[2] * shape[3])
    turned = x.astype(dtype).transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(op.forward(turned, size), got)
    assert_adjoint(lambda x: op.forward(x, size), lambda g: op.grad_input(g, shape), x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_window(value):
    x = np.ones((1, 2, 6, 6), np.float32)
    x[0, 0, 0, :2] = value
    expected = np.ones((1, 2, 2, 2), np.float32)
    expected[0, 0, 0, 0] = value
    np.testing.assert_array_equal(op.forward(x, (2, 2)), expected)
    grad = np.ones((1, 2, 2, 2), np.float32)
    grad[0, 0, 0, 0] = value
    dx = op.grad_input(grad, x.shape)
    np.testing.assert_array_equal(dx[0, 0, :3, :3], value)
    dx[0, 0, :3, :3] = 1 / 9
    np.testing.assert_allclose(dx, 1 / 9, rtol=1e-6)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    x = np.random.default_rng(0).standard_normal((3, 101, 15, 20), np.float32)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        y = op.forward(x, (6, 6))
        results.append((y, op.grad_input(y, x.shape)))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)
