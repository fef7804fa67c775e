"""Norm, ReLU and gradients in few passes against the plain parts."""

import numpy as np
import pytest

from minseg import parallel
from minseg.ops.activation import relu_op
from minseg.ops.fast import norm as fast
from minseg.ops.norm_formulas import PARTS
from tests.witness import assert_agree

EPS = 1e-5
PLAIN = PARTS["numpy"]
# Means of which x - mean is not computed (within two deviations), and of which it is.
KINDS = [(np.float32, 0), (np.float32, 1.8), (np.float32, 1000), (np.float64, 0)]
SHAPES = [
    (1, 6, 3, 20),
    (2, 4, 1, 7),
    (3, 5, 2, 513),
    (1, 64, 2, 1300),
]  # from 513 on, rows are long


def numbers(shape, mean, dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) + mean).astype(dtype)
    weight, bias = rng.standard_normal((2, *shape[1:3])).astype(dtype)
    return x, weight, bias


@pytest.mark.parametrize(("dtype", "mean"), KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_equals_the_plain_parts(shape, mean, dtype, affine):
    x, weight, bias = numbers(shape, mean, dtype)
    if not affine:
        weight = bias = None
    y, (m, v) = fast.forward(x, weight, bias, EPS)
    exact = x.astype(np.float64)
    moments = PLAIN["moments"](exact)
    length = x[:, 0].size
    eps = np.finfo(dtype).eps  # of the deviations, which are of about 1, whatever the mean
    np.testing.assert_allclose(m, moments[0], rtol=1e-15, atol=8 * eps)
    # mean(x^2) - mean(x)^2 is a difference of numbers that are so many times as large
    larger = 1 + mean**2 if mean < 2 else 1
    np.testing.assert_allclose(v, moments[1], rtol=8 * eps * larger)
    assert_agree(y, PLAIN["forward"](exact, *moments, weight, bias, EPS), dtype, length)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "mean"), KINDS)
def test_gradients_equal_the_plain_parts(dtype, mean, shape, affine, relu, monkeypatch):
    monkeypatch.setattr(fast, "ALONE", 0)  # two blocks
    x, weight, bias = numbers(shape, mean, dtype)
    if not affine:
        weight = bias = None
    grad = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    y, moments = fast.forward(x, weight, bias, EPS, relu=relu)
    got = fast.grad(grad, x, y if relu else None, *moments, weight, EPS)

    exact, upstream = x.astype(np.float64), grad.astype(np.float64)
    if relu:  # where y is 0 is as this dtype has it
        upstream = upstream * (y > 0)
    moments = PLAIN["moments"](exact)
    expected = PLAIN["grad"](upstream, exact, *moments, weight, EPS, False)
    # dx, and what a weight gets of each element, are of about 1; sums run over B and L
    assert_agree(got[0], expected[0], dtype, length=x[:, 0].size)
    for one, other in zip(got[1:], expected[1:], strict=True):
        assert_agree(one, other, dtype, length=x[:, 0, 0].size)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "mean"), KINDS)
def test_given_moments_are_constants(dtype, mean, shape, affine, monkeypatch):
    """The running statistics of batch norm, say, which are near those of x."""
    monkeypatch.setattr(fast, "ALONE", 0)  # two blocks
    x, weight, bias = numbers(shape, mean, dtype)
    if not affine:
        weight = bias = None
    rng = np.random.default_rng(1)
    given = rng.normal(mean, 0.1, shape[1]), rng.uniform(0.5, 2, shape[1])
    kept = [a.copy() for a in given]
    grad = rng.standard_normal(shape).astype(dtype)
    y, moments = fast.forward(x, weight, bias, EPS, given)
    got = fast.grad(grad, x, None, *moments, weight, EPS, constant=True)
    np.testing.assert_array_equal(moments, kept)
    np.testing.assert_array_equal(given, kept)

    exact, upstream = x.astype(np.float64), grad.astype(np.float64)
    # x - mean and xhat are of about 4 at the most, with a rounding of the weights' sums
    assert_agree(y, PLAIN["forward"](exact, *given, weight, bias, EPS), dtype, length=4)
    expected = PLAIN["grad"](upstream, exact, *given, weight, EPS, True)
    assert_agree(got[0], expected[0], dtype, length=1)
    for one, other in zip(got[1:], expected[1:], strict=True):
        assert_agree(one, other, dtype, length=x[:, 0, 0].size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_relu_in_the_same_go_changes_no_bit(shape, dtype):
    x, weight, bias = numbers(shape, 0, dtype)
    weight[0, 0], bias[0, 0] = 0, 0  # y is 0 throughout: at the kink
    x[0, 1, 0, 2], bias[2, 0] = np.nan, np.nan
    grad = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    with np.errstate(invalid="ignore"):
        y, moments = fast.forward(x, weight, bias, EPS)
        after = relu_op.forward(y)
        masked = relu_op.grad_input(grad, after)
        expected = [after, *fast.grad(masked, x, None, *moments, weight, EPS)]
        at_once, moments = fast.forward(x, weight, bias, EPS, relu=True)
        got = [at_once, *fast.grad(grad, x, at_once, *moments, weight, EPS)]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isnan(at_once[:, 1:3]).all(axis=(0, 3)).any(axis=1).all()
    assert not at_once[:, 0, 0].any()


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(fast, "ALONE", 0)
    x, weight, bias = numbers((1, 64, 2, 1300), 0, np.float32)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        y, moments = fast.forward(x, weight, bias, EPS, relu=True)
        results.append([y, *fast.grad(np.cos(x), x, y, *moments, weight, EPS)])
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_squares_that_overflow_are_not_those_of_the_deviations():
    """A mean of 1e20, whose square no float32 holds, and deviations of 1e15, whose squares it does.

    float32 keeps numbers of 1e20 to 2^43 = 8.8e12: the deviations to one part in 100.
    """
    x = (1e20 + 1e15 * np.random.default_rng(0).standard_normal((2, 3, 1, 40))).astype(np.float32)
    exact = x.astype(np.float64)
    y, (mean, var) = fast.forward(x, None, None, EPS)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=1e-6)
    expected = (exact - mean[:, None, None]) / np.sqrt(var)[:, None, None]
    assert_agree(y, expected, np.float32, length=80)


def test_a_mean_that_float32_does_not_hold():
    """2^24 and 2^24 + 2 in turns: the mean, 2^24 + 1, is no float32; the variance is 1."""
    x = np.float32(2**24) + np.tile(np.float32([0, 2]), 64).reshape(1, 1, 1, 128)
    y, (mean, var) = fast.forward(x, None, None, 0.0)
    assert (mean[0], var[0]) == (2**24 + 1, 1)
    np.testing.assert_array_equal(y.ravel(), np.tile([-1, 1], 64))


def test_a_mean_is_large_or_small_beside_the_deviations():
    """Of deviations of 1/1000 beside a mean of 1, the squares are lost in those of x."""
    x, _, _ = numbers((2, 3, 2, 40), 0, np.float32)
    x = 1 + x / 1000
    exact = x.astype(np.float64)
    moments = PLAIN["moments"](exact)
    expected = PLAIN["forward"](exact, *moments, None, None, EPS)
    assert_agree(fast.forward(x, None, None, EPS)[0], expected, np.float32)
