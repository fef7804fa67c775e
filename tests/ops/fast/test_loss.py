"""Losses computed with their slopes against the plain formulas in float64."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, override, parallel
from minseg.ops.fast import loss as fast
from minseg.ops.op import get_op
from minseg.parallel import BLOCK, SMALL
from tests.witness import assert_agree

CASES = {"mse_loss": (), "binary_cross_entropy_with_logits": (np.float64(1), np.float64(1))}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e18, -1e18, 90, -90]


def run(name, x, t, reduction="none", grad=None):
    x = Tensor(x, requires_grad=True)
    y = getattr(F, name)(x, Tensor(t), reduction=reduction)
    y.backward(np.ones_like(y.data) if grad is None else grad)
    return y.data, x.grad.data


def numbers(size):
    rng = np.random.default_rng(0)
    x, t, g = 4 * rng.standard_normal((3, size)).astype(np.float32)
    return x, 1 / (1 + np.exp(-t)), g


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [0, 1, 17, SMALL + 1, 2 * BLOCK + 1])
def test_the_plain_formulas(name, size):
    x, t, g = numbers(size)
    parts, exact = get_op(name).numpy, (x.astype(float), t.astype(float), *CASES[name])
    y, dx = run(name, x, t, grad=g)
    assert_agree(y, parts["forward"](*exact), np.float32)
    assert_agree(dx, parts["grad_input"](g.astype(float), *exact), np.float32)
    if size:
        mean, dx = run(name, x, t, "mean")
        assert_agree(mean, parts["forward"](*exact).mean(), np.float32, length=size)
        share = np.full(size, 1 / size)
        assert_agree(dx, parts["grad_input"](share, *exact), np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities times 0, on purpose
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", [0, 0.5, 1])
def test_special_numbers(name, target):
    """NaN and infinities where the plain formula has them in float32, and nowhere else."""
    x = np.array(SPECIAL, np.float32)
    t = np.full_like(x, target)
    parts = get_op(name).numpy
    how = (x, t, *map(np.float32, CASES[name]))
    expected = parts["forward"](*how), parts["grad_input"](np.ones_like(x), *how)
    for ours, theirs in zip(run(name, x, t), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_number_of_threads_changes_no_bit(name, monkeypatch):
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        results.append(run(name, *numbers(BLOCK + 5)[:2], "mean"))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][0], other[0])
        np.testing.assert_array_equal(results[0][1], other[1])


@pytest.mark.parametrize("name", CASES)
def test_an_override_sees_every_call(name):
    parts = {part: (lambda array, *how: array * np.float32(7)) for part in get_op(name).numpy}
    x, t, g = numbers(20)
    with override(name, **parts):
        y, dx = run(name, x, t, grad=g)
    np.testing.assert_array_equal(y, x * 7)
    np.testing.assert_array_equal(dx, g * 7)


@pytest.mark.parametrize("name", CASES)
def test_a_sum_over_many_elements_keeps_its_digits(name):
    x, t, _ = numbers(5 * BLOCK + 3)
    exact = get_op(name).numpy["forward"](x.astype(float), t.astype(float), *CASES[name])
    for reduction, expected in (("sum", exact.sum()), ("mean", exact.mean())):
        assert_agree(run(name, x, t, reduction)[0], expected, np.float32)


def test_a_float64_loss_is_the_plain_one():
    assert not fast.fits(np.zeros(3))
