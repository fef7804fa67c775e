"""The activations in few passes against the plain formulas, which are tested by the definitions."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, override, parallel
from minseg.ops import activation, gelu
from minseg.ops.op import get_op
from minseg.parallel import BLOCK, SMALL
from tests.witness import assert_agree

# name, arguments -> the plain forward, and the plain gradient of x (or of y)
PLAIN = {
    ("relu", ()): (lambda x: np.maximum(x, 0), lambda g, x: g * ~(x <= 0)),
    ("leaky_relu", (0.01,)): (activation._leaky_relu_forward, activation._leaky_relu_grad_input),
    ("leaky_relu", (0.0,)): (activation._leaky_relu_forward, activation._leaky_relu_grad_input),
    ("leaky_relu", (-0.5,)): (activation._leaky_relu_forward, activation._leaky_relu_grad_input),
    ("leaky_relu", (3.0,)): (activation._leaky_relu_forward, activation._leaky_relu_grad_input),
    ("elu", (1.0,)): (activation._elu_forward, activation._elu_grad_input),
    ("elu", (0.7,)): (activation._elu_forward, activation._elu_grad_input),
    ("sigmoid", ()): (
        activation.sigmoid_of,
        lambda g, x: g * activation.sigmoid_of(x) * activation.sigmoid_of(-x),
    ),
    ("tanh", ()): (np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2)),
    ("silu", ()): (lambda x: x * activation.sigmoid_of(x), activation._silu_grad_input),
    ("relu6", ()): (lambda x: x.clip(0, 6), lambda g, x: g * ~((x <= 0) | (x >= 6))),
    ("hardsigmoid", ()): (
        lambda x: (x + 3).clip(0, 6) / 6,
        lambda g, x: g / 6 * ~((x <= -3) | (x >= 3)),
    ),
    ("hardswish", ()): (
        lambda x: x * ((x + 3).clip(0, 6) / 6),
        activation._hardswish_grad_input,
    ),
    ("gelu", ("none",)): (gelu._forward, gelu._grad_input),
    ("gelu", ("tanh",)): (gelu._forward, gelu._grad_input),
}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 1e12, -1e12, 3, -3]


def run(name, arguments, x, g):
    x = Tensor(x, requires_grad=True)
    y = getattr(F, name)(x, *arguments)
    y.backward(g)
    return y.data, x.grad.data


def numbers(size):
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((2, size)) * 4).astype(np.float32)
    return x, g


@pytest.mark.parametrize(("name", "arguments"), PLAIN)
@pytest.mark.parametrize("size", [0, 1, 17, SMALL, SMALL + 1, 2 * BLOCK + 1])
def test_the_plain_formula_in_float64(name, arguments, size):
    x, g = numbers(size)
    forward, grad_input = PLAIN[name, arguments]
    y, dx = run(name, arguments, x, g)
    exact = x.astype(np.float64)
    assert_agree(y, forward(exact, *arguments), np.float32)
    assert_agree(dx, grad_input(g.astype(np.float64), exact, *arguments), np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities times 0, on purpose
@pytest.mark.parametrize(("name", "arguments"), PLAIN)
def test_special_numbers(name, arguments):
    """NaN and infinities where the plain formula has them in float32, and nowhere else."""
    x = np.array(SPECIAL * 3, np.float32)
    forward, grad_input = PLAIN[name, arguments]
    got = run(name, arguments, x, np.ones_like(x))
    expected = forward(x, *arguments), grad_input(np.ones_like(x), x, *arguments)
    for ours, theirs in zip(got, expected, strict=True):
        finite = np.isfinite(theirs)
        np.testing.assert_array_equal(ours[~finite], theirs[~finite])
        eps = np.finfo(np.float32).eps
        np.testing.assert_allclose(ours[finite], theirs[finite], rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize(("name", "arguments"), PLAIN)
@pytest.mark.parametrize("size", [SMALL + 1, BLOCK + 5])
def test_the_number_of_threads_changes_no_bit(name, arguments, size, monkeypatch):
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        results.append(run(name, arguments, *numbers(size)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize(("name", "arguments"), PLAIN)
def test_with_and_without_a_gradient_the_same_value(name, arguments):
    x, g = numbers(1000)
    np.testing.assert_array_equal(
        getattr(F, name)(Tensor(x), *arguments).data, run(name, arguments, x, g)[0]
    )


def test_hardswish_leaps_at_its_kinks_and_not_beside_them():
    """x (x + 3) / 6 has the slopes -1/2 and 3/2 at the kinks, where hardswish's are 0 and 1."""
    kinks = np.array([-3, 3], np.float32)
    _, at = run("hardswish", (), kinks, np.ones_like(kinks))
    _, inside = run("hardswish", (), np.nextafter(kinks, np.float32(0)), np.ones_like(kinks))
    _, outside = run("hardswish", (), np.nextafter(kinks, kinks * 2), np.ones_like(kinks))
    np.testing.assert_array_equal(at, [0, 1])
    np.testing.assert_allclose(inside, [-0.5, 1.5], rtol=4 * np.finfo(np.float32).eps)
    np.testing.assert_array_equal(outside, [0, 1])


@pytest.mark.parametrize("size", [100, 2 * BLOCK])
def test_hardswish_holds_blas_to_one_thread(size, monkeypatch):
    """Its check for NaN is a dot product; BLAS's threads, once awake, stay in the way of ours."""
    seen, dot = set(), np.dot
    counts = [library.get_num_threads for library in parallel._blas()]
    monkeypatch.setattr(np, "dot", lambda a, b: seen.update(c() for c in counts) or dot(a, b))
    F.hardswish(Tensor(np.ones(size, np.float32), requires_grad=True)).sum().backward()
    assert seen == {1}


def test_gelu_is_as_exact_as_it_says():
    x = np.linspace(-12, 12, 100_001).astype(np.float32)
    expected = get_op("gelu").definition(x.astype(np.float64), "none")
    error = abs(F.gelu(Tensor(x)).data - expected)
    assert (error <= 2.5e-7 * np.maximum(1, abs(x))).all()


@pytest.mark.parametrize(("name", "arguments"), PLAIN)
def test_an_override_sees_every_call(name, arguments):
    x, g = numbers(20)
    parts = {
        "forward": lambda x, *how: x * np.float32(5),
        "grad_input": lambda grad, kept, *how: grad * np.float32(7),
    }
    with override(name, **parts):
        y, dx = run(name, arguments, x, g)
    np.testing.assert_array_equal(y, x * 5)
    np.testing.assert_array_equal(dx, g * 7)
