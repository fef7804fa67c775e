"""Arrays joined in parts, by all threads, against NumPy's own."""

import numpy as np
import pytest

from minseg.ops.fast import concatenate as fast
from minseg.ops.fast.concatenate import concatenate
from tests.witness import on_threads

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(8, 3, 7), (1, 3, 5), (1, 4, 1), (2, 0, 3), (6,)])
def test_equals_numpys(shape, axis, threads, monkeypatch):
    monkeypatch.setattr(fast, "WORTH_A_THREAD", -1)
    axis = axis if -len(shape) <= axis < len(shape) else 0
    longer = [n + 2 * (i == axis % len(shape)) for i, n in enumerate(shape)]
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in (shape, longer, shape)]
    with on_threads(threads):
        np.testing.assert_array_equal(concatenate(arrays, axis), np.concatenate(arrays, axis))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, bool])
def test_views_and_other_dtypes(dtype, monkeypatch):
    monkeypatch.setattr(fast, "WORTH_A_THREAD", -1)
    whole = RNG.integers(0, 2, (4, 6, 8, 5)).astype(dtype)
    arrays = [whole[:, :, 1:6], whole[:, ::2, :5], whole.swapaxes(2, 3)[..., ::-1][..., :5]]
    joined = concatenate(arrays, 1)
    assert joined.dtype == dtype
    np.testing.assert_array_equal(joined, np.concatenate(arrays, 1))


def test_large_arrays_take_all_threads(monkeypatch):
    calls = []
    run = fast.parallel_for
    monkeypatch.setattr(fast, "parallel_for", lambda body, n: (calls.append(n), run(body, n)))
    with on_threads(2):
        concatenate([np.zeros((2, 3, 8), np.float32)] * 2, 1)
        assert calls == []
        concatenate([np.zeros((2, 3, 1 << 16), np.float32)] * 2, 1)
        assert calls == [2]
