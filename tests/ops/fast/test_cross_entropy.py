"""The loss that keeps its powers against the plain formulas, which the definition tests."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, override, parallel
from minseg.ops.cross_entropy import op
from minseg.ops.fast import cross_entropy as fast
from tests.witness import assert_agree

SHAPES = [(1, 2, 1), (3, 5, 40), (70, 4, 1), (2, 3, 1001), (5, 11, 300), (0, 3, 4), (2, 3, 0)]


def numbers(shape, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, shape[1], (shape[0], shape[2]))
    labels[rng.random(labels.shape) < 0.2] = 255
    grad = rng.standard_normal(labels.shape).astype(dtype)
    return x, labels, rng.random(shape[1]).astype(dtype), grad


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("elements", [60, 2**20])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_plain_formulas(shape, elements, dtype, monkeypatch):
    monkeypatch.setattr(fast, "ELEMENTS_A_BLOCK", elements)
    x, labels, w, grad = numbers(shape, dtype)
    loss, weights, grad_input = fast.cross_entropy(x, labels, w, 255)
    how = (x.astype(float), labels, w.astype(float), 255, 0.0)
    assert_agree(loss, op.numpy["forward"](*how), dtype, length=shape[1])
    expected = op.numpy["grad_input"](grad.astype(float), *how)
    for _ in range(2):  # the record may be gone through twice
        assert_agree(grad_input(grad), expected, dtype, length=shape[1])
    np.testing.assert_array_equal(weights, np.where(labels == 255, 0, w.take(labels, mode="clip")))


def test_special_scores():
    """NaN and infinities as in the plain formulas, and nothing of an ignored pixel."""
    inf, nan = np.inf, np.nan
    scores = [[0, -inf], [-inf, 0], [-inf, -inf], [inf, 0], [nan, 0], [1e37, -1e37], [nan, inf]]
    x = np.array(scores, np.float32).T[None]
    labels, w = np.array([[0, 0, 0, 0, 0, 1, 255]]), np.array([2, 3], np.float32)
    loss, _, grad_input = fast.cross_entropy(x, labels, w, 255)
    grad = np.ones_like(loss)
    with np.errstate(invalid="ignore", over="ignore"):
        how = (x, labels, w, 255, 0.0)
        np.testing.assert_array_equal(loss, op.numpy["forward"](*how))
        np.testing.assert_array_equal(grad_input(grad), op.numpy["grad_input"](grad, *how))
    assert loss[0, -1] == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_of_threads_changes_no_bit(shape, monkeypatch):
    monkeypatch.setattr(fast, "ELEMENTS_A_BLOCK", 100)
    x, labels, w, grad = numbers(shape)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        loss, _, grad_input = fast.cross_entropy(x, labels, w, 255)
        results.append((loss, grad_input(grad)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][0], other[0])
        np.testing.assert_array_equal(results[0][1], other[1])


def test_an_override_sees_every_call():
    x, labels, _, _ = numbers((2, 3, 4))
    parts = {part: (lambda array, *how: 7 * np.ones_like(how[0])) for part in op.numpy}
    parts["forward"] = lambda x, target, *how: np.ones(target.shape, x.dtype)
    input = Tensor(x, requires_grad=True)
    with override("cross_entropy", **parts):
        loss = F.cross_entropy(input, Tensor(labels), ignore_index=255, reduction="sum")
        loss.backward()
    assert loss.item() == 8
    np.testing.assert_array_equal(input.grad.data, 7)
