"""Moments and result in one go against the plain parts."""

import numpy as np
import pytest

from minseg import parallel
from minseg.ops.fast.normalize import normalize
from minseg.ops.normalization import PARTS
from minseg.parallel import SMALL
from tests.witness import assert_agree

EPS = 1e-5
PLAIN = PARTS["numpy"]


def numbers(shape, mean, dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) + mean).astype(dtype)
    weight, bias = rng.standard_normal((2, *shape[1:3])).astype(dtype)
    return x, weight, bias


@pytest.mark.parametrize(("dtype", "mean"), [(np.float32, 0), (np.float32, 1000), (np.float64, 0)])
@pytest.mark.parametrize("shape", [(1, 6, 3, 20), (2, 4, 1, 7), (1, 64, 2, 1300)])
@pytest.mark.parametrize("affine", [True, False])
def test_equals_the_plain_parts(shape, mean, dtype, affine):
    x, weight, bias = numbers(shape, mean, dtype)
    if not affine:
        weight = bias = None
    y, (m, v) = normalize(x, weight, bias, EPS)
    exact = x.astype(np.float64)
    moments = PLAIN["moments"](exact)
    length = x[:, 0].size
    eps = np.finfo(dtype).eps  # of the deviations, which are of about 1, whatever the mean
    np.testing.assert_allclose(m, moments[0], rtol=1e-15, atol=8 * eps)
    np.testing.assert_allclose(v, moments[1], rtol=8 * eps)
    assert_agree(y, PLAIN["forward"](exact, *moments, weight, bias, EPS), dtype, length)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    arguments = numbers((1, 64, 2, 1300), 0, np.float32)
    assert arguments[0].size > SMALL
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        results.append(normalize(*arguments, EPS)[0])
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


def test_a_mean_that_float32_does_not_hold():
    """2^24 and 2^24 + 2 in turns: the mean, 2^24 + 1, is no float32; the variance is 1."""
    x = np.float32(2**24) + np.tile(np.float32([0, 2]), 64).reshape(1, 1, 1, 128)
    y, (mean, var) = normalize(x, None, None, 0.0)
    assert (mean[0], var[0]) == (2**24 + 1, 1)
    np.testing.assert_array_equal(y.ravel(), np.tile([-1, 1], 64))
