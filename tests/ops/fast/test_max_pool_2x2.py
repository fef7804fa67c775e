"""The 2 x 2 max-pooling against the definition: equal values, NaN, windows over the edge."""

import numpy as np
import pytest

from minseg import parallel
from minseg.ops import max_pool
from minseg.ops.fast import max_pool as fast
from minseg.ops.fast import max_pool_2x2
from minseg.ops.window import Window

HOW = ((2, 2), (2, 2), (0, 0), (1, 1))


def image(shape, dtype):
    """Few different values, so that most windows hold equal ones; NaN and infinities too."""
    rng = np.random.default_rng(0)
    values = np.array([-np.inf, -1, 0, 1, 1, 2, np.inf, np.nan], dtype)
    return values[rng.choice(len(values), shape, p=[0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1])]


@pytest.fixture(autouse=True)
def small_images_too(monkeypatch):
    monkeypatch.setattr(fast, "FEW", -1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("shape", [(3, 4, 8, 6), (2, 3, 9, 7), (2, 2, 8, 7), (1, 2, 3, 2)])
def test_values_and_indices_equal_the_definition(shape, ceil_mode, dtype):
    assert max_pool_2x2.fits(Window(*HOW))
    x = image(shape, dtype)
    got = max_pool.op.forward(x, *HOW, ceil_mode)
    for a, b in zip(got, max_pool.op.definition(x, *HOW, ceil_mode), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_every_order_of_three_values():
    """All windows of values 0, 1, 2: every tie there is."""
    windows = np.stack(np.meshgrid(*[np.arange(3.0)] * 4), axis=-1).reshape(-1, 1, 2, 2)
    _, indices = max_pool.op.forward(windows, *HOW, False)
    np.testing.assert_array_equal(indices.ravel(), windows.reshape(-1, 4).argmax(axis=1))


def test_strides_and_threads_change_nothing(monkeypatch):
    x = image((4, 70, 41, 60), np.float32)
    results = []
    for threads, view in ((1, x), (3, x), (2, x[:, :, ::-1].copy()[:, :, ::-1])):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        y, indices = max_pool.op.forward(view, *HOW, True)
        dx = max_pool.op.grad_input(np.ones_like(y), indices, x.shape, *HOW)
        results.append((y, indices, dx))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "case", [((3, 2), (3, 2), (0, 0), (1, 1)), ((2, 1), (4, 2), (1, 0), (2, 3))]
)
def test_a_gradient_goes_to_its_index_alone(case):
    """Windows that do not overlap: assigned instead of added, and a NaN stays where it is."""
    x = np.random.default_rng(0).standard_normal((2, 3, 10, 9))
    y, indices = max_pool.op.forward(x, *case, False)
    grad = np.random.default_rng(1).standard_normal(y.shape)
    grad[0, 0, 0, 0] = np.nan
    expected = np.zeros(x.shape)
    for place in np.ndindex(y.shape):
        expected[place[:2]].flat[indices[place]] += grad[place]
    got = max_pool.op.grad_input(grad, indices, x.shape, *case)
    np.testing.assert_array_equal(got, expected)
