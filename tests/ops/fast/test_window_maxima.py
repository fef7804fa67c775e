"""Maxima without their places: against those that come with them."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, no_grad, parallel
from minseg.ops import max_pool
from minseg.ops.max_pool import op
from tests.ops.test_pool import MAX_CASES


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", MAX_CASES)
def test_predictions_see_the_definitions_maxima(case, dtype, threads, monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", threads)
    shape, *how = case
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x.ravel()[::7], x.ravel()[3::11] = np.nan, -np.inf
    pairs = [(v, v) if isinstance(v, int) else v for v in how[:-1]]
    expected, _ = op.definition(x, *pairs, how[-1])
    with no_grad():
        got = F.max_pool2d(Tensor(x), *how)
    np.testing.assert_array_equal(got.data, expected)
    assert got.dtype == dtype


def test_only_predictions_take_this_way(monkeypatch):
    monkeypatch.setattr(max_pool, "window_maxima", lambda *_: pytest.fail("places were wanted"))
    x = Tensor(np.zeros((1, 1, 4, 4)))
    F.max_pool2d(x, 2)
    with no_grad():
        F.max_pool2d(x, 2, return_indices=True)
