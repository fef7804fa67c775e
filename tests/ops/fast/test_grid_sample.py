"""The three parts with the taps given, against the plain ones, which find their own."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor
from minseg.ops.fast import grid_sample as fast
from minseg.ops.grid_sample import op
from tests.witness import assert_agree, assert_threads_change_no_bit

HOWS = [("bilinear", "zeros", False), ("nearest", "border", True), ("bicubic", "reflection", False)]


def gradients(x, grid, grad, how):
    inputs = Tensor(x, requires_grad=True), Tensor(grid, requires_grad=True)
    y = F.grid_sample(*inputs, *how)
    y.backward(grad)
    return y.data, *(each.grad.data for each in inputs)


@pytest.fixture(autouse=True)
def this_way(monkeypatch):
    monkeypatch.setattr(fast, "FEW", -1)


def arguments(channels, dtype, out=(9, 11)):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, channels, 7, 8))
    grid, grad = rng.uniform(-1.5, 1.5, (2, *out, 2)), rng.standard_normal((2, channels, *out))
    return [a.astype(dtype) for a in (x, grid, grad)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 4, 5])  # they are scattered two at a time
@pytest.mark.parametrize("how", HOWS)
def test_equals_the_plain_parts(how, channels, dtype):
    x, grid, grad = arguments(channels, dtype)
    y, dx, d_grid = gradients(x, grid, grad, how)
    taps = 16
    assert_agree(y, op.forward(x, grid, *how), dtype, length=taps)
    # Each input hears of few outputs, in float32 where the plain part sums in float64.
    assert_agree(dx, op.grad_input(grad, grid, x.shape, *how), dtype, length=taps * 9 * 11)
    assert_agree(d_grid, op.grad_grid(grad, x, grid, *how), dtype, length=taps * channels)


def test_blocks_and_threads_change_no_bit():
    x, grid, grad = arguments(64, np.float32, out=(60, 80))  # 256 x 4800 elements: three blocks
    y, *_ = assert_threads_change_no_bit(lambda: gradients(x, grid, grad, HOWS[0]))
    assert_agree(y, op.forward(x, grid, *HOWS[0]), np.float32, length=4)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_is_felt_where_it_is_read(value):
    x, grid, grad = arguments(3, np.float32)
    grid *= 0.5  # inside
    x[1, 2, 3, 4] = grad[0, 1, 5, 5] = value
    with np.errstate(invalid="ignore"):
        y, dx, d_grid = gradients(x, grid, grad, HOWS[0])
        plain = (
            op.forward(x, grid, *HOWS[0]),
            op.grad_input(grad, grid, x.shape, *HOWS[0]),
            op.grad_grid(grad, x, grid, *HOWS[0]),
        )
    for got, expected in zip((y, dx, d_grid), plain, strict=True):
        assert not np.isfinite(expected).all()
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        assert_agree(got, expected, np.float32, length=4 * 99)
