"""Layer norm of rows against the plain parts, which run on all shapes."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, parallel
from minseg.ops.fast import layer_norm as module
from minseg.ops.fast.layer_norm import layer_norm
from minseg.ops.norm_formulas import PARTS
from tests.witness import assert_agree

EPS = 1e-5


@pytest.fixture(autouse=True, params=["few rows", "many rows"])
def way(request, monkeypatch):
    """Each of the two ways, whatever the number of rows."""
    monkeypatch.setattr(module, "FEW_ROWS", 10**9 if request.param == "few rows" else 0)


def plain(x, weight, bias, grad):
    """y, dx, dw, db in float64."""
    x, grad = (a.astype(np.float64)[None, :, :, None] for a in (x, grad))
    w, b = (np.broadcast_to(a.astype(np.float64), x.shape[1:3]) for a in (weight, bias))
    moments = PARTS["numpy"]["moments"](x)
    y = PARTS["numpy"]["forward"](x, *moments, w, b, EPS)
    dx, dw, db = PARTS["numpy"]["grad"](grad, x, *moments, w, EPS, False)
    return y[0, :, :, 0], dx[0, :, :, 0], dw.sum(axis=0), db.sum(axis=0)


@pytest.mark.parametrize(("dtype", "mean"), [(np.float32, 0), (np.float32, 1000), (np.float64, 0)])
@pytest.mark.parametrize("shape", [(7, 10), (2500, 64)])  # the last: several blocks
def test_equals_the_plain_parts(shape, mean, dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) + mean).astype(dtype)
    grad = rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    y, gradients = layer_norm(x, weight, bias, EPS)
    dx, dw, db = gradients(grad)
    expected = plain(x, weight, bias, grad)
    # Results of about 1, from sums along rows, and over the rows. A deviation of 1 beside a mean
    # of 1000 is exact but for a rounding of what is left.
    assert_agree(y, expected[0], dtype, length=shape[1])
    assert_agree(dx, expected[1], dtype, length=shape[1])
    assert_agree(dw, expected[2], dtype, length=shape[0])
    assert_agree(db, expected[3], dtype, length=shape[0])


def test_a_row_of_one_is_its_own_mean():
    x, grad = np.random.default_rng(0).standard_normal((2, 6, 1), np.float32)
    y, gradients = layer_norm(x, np.full(1, 3, np.float32), np.full(1, 2, np.float32), EPS)
    np.testing.assert_array_equal(y, np.full((6, 1), 2))
    np.testing.assert_array_equal(gradients(grad)[0], np.zeros((6, 1)))


@pytest.mark.parametrize("mean", [1.5, 2.5, 30])
def test_rows_of_all_means_beside_each_other(mean):
    """A mean of `mean` deviations in some row: below 2, rows are used as they are; else centred."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 40, 64), np.float32)
    x[7] += mean
    x[8] = 0.1  # no deviation: y is the bias
    x[9] = 0
    weight, bias = rng.standard_normal((2, 64), np.float32)
    y, gradients = layer_norm(x, weight, bias, EPS)
    got, expected = (y, *gradients(grad)), plain(x, weight, bias, grad)
    constant = np.isin(np.arange(40), (8, 9))  # whose gradients are 1 / sqrt(EPS) times as large
    for rows in (constant, ~constant):
        assert_agree(got[0][rows], expected[0][rows], np.float32, length=64)
        assert_agree(got[1][rows], expected[1][rows], np.float32, length=64)
    assert_agree(got[2], expected[2], np.float32, length=40)
    assert_agree(got[3], expected[3], np.float32, length=40)


@pytest.mark.parametrize("mean", [0, 1.5, 3, 10, 50, 300])
def test_a_mean_takes_no_digits(mean):
    """Centred or not, y has those of x - mean but for two bits and the rounding of its scale."""
    x = (np.random.default_rng(0).standard_normal((50, 64)) + mean).astype(np.float32)
    y, exact = layer_norm(x, None, None, EPS)[0], x.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    assert_agree(y, expected, np.float32, factor=4)


def test_squares_that_overflow_are_not_those_of_the_deviations():
    """A mean of 1e20, whose square no float32 holds, and deviations of 1e15, whose squares it does.

    float32 keeps numbers of 1e20 to 2^43 = 8.8e12: the deviations to one part in 100.
    """
    x = (1e20 + 1e15 * np.random.default_rng(0).standard_normal((3, 40))).astype(np.float32)
    y = layer_norm(x, None, None, EPS)[0]
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(axis=1, keepdims=True)) / exact.std(axis=1, keepdims=True)
    assert_agree(y, expected, np.float32, length=40)


@pytest.mark.parametrize(("mean", "deviation"), [(1e19, 1e15), (2e18, 1e18)])
def test_sums_of_squares_that_overflow_are_not_those_of_the_deviations(mean, deviation):
    """A float32 holds squares of 1e38 or 5e36, but not the sum of 64; it does the deviations'."""
    x = (mean + deviation * np.random.default_rng(0).standard_normal((3, 64))).astype(np.float32)
    y = layer_norm(x, None, None, EPS)[0]
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(axis=1, keepdims=True)) / exact.std(axis=1, keepdims=True)
    assert_agree(y, expected, np.float32, length=64)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 9600, 64), np.float32)
    x[9000] += 10  # in the second block: centred
    weight, bias = rng.standard_normal((2, 64), np.float32)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        y, gradients = layer_norm(x, weight, bias, EPS)
        results.append([y, *gradients(grad)])
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_row(value):
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    clean = layer_norm(x, None, None, EPS)[0]
    x[2, 3] = value
    with np.errstate(invalid="ignore"):
        y, gradients = layer_norm(x, None, None, EPS)
        dx, _, _ = gradients(np.ones_like(x))
    others = np.arange(5) != 2
    assert np.isnan(y[2]).all()
    assert np.isnan(dx[2]).all()
    assert_agree(y[others], clean[others], np.float32, length=8)
    assert np.isfinite(dx[others]).all()


def test_an_infinite_weight_or_bias_stays_in_its_column():
    """The mean of 1000, centred away, takes no digits of the other columns."""
    x = Tensor(np.array([[1001.0, 1002, 1004], [1003, 1001, 1000]], np.float32))
    weight = Tensor(np.array([1, np.inf, 1], np.float32))
    bias = Tensor(np.array([0, 0, -np.inf], np.float32))
    y = F.layer_norm(x, (3,), weight, bias).data
    exact = np.array([[1.0, 2, 4], [3, 1, 0]])
    centred = exact - exact.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    assert_agree(y[:, 0], expected[:, 0], np.float32, length=3)
    np.testing.assert_array_equal(y[:, 1:], np.full((2, 2), -np.inf))


def test_rows_lie_side_by_side_however_they_came():
    x = np.random.default_rng(0).standard_normal((8, 30), np.float32).T
    y, gradients = layer_norm(x, None, None, EPS)
    assert y.flags.c_contiguous
    assert gradients(np.ones_like(y))[0].flags.c_contiguous
