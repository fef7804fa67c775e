import math

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.gelu import erfc
from minseg.ops.op import get_op
from tests.witness import assert_agree

# name, arguments, places of the kinks
CASES = [
    ("relu", (), [0]),
    ("leaky_relu", (0.01,), [0]),
    ("leaky_relu", (0.3,), [0]),
    ("elu", (1.0,), []),
    ("elu", (0.7,), [0]),
    ("relu6", (), [0, 6]),
    ("sigmoid", (), []),
    ("hardsigmoid", (), [-3, 3]),
    ("silu", (), []),
    ("hardswish", (), [-3, 3]),
    ("tanh", (), []),
    ("softplus", (1.0, 20.0), []),
    ("softplus", (2.5, 4.0), [1.6]),
    ("gelu", ("none",), []),
    ("gelu", ("tanh",), []),
]


def numbers(shape, kinks=(), seed=0):
    """Random numbers of a few different sizes, none within 0.01 of a kink."""
    x = np.random.default_rng(seed).standard_normal(shape) * 4
    for kink in kinks:
        x = np.where(abs(x - kink) < 0.01, kink + 0.05, x)
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3, 5, 7)])
@pytest.mark.parametrize(("name", "arguments", "kinks"), CASES)
def test_forward_equals_the_definition(name, arguments, kinks, shape, dtype):
    x = numbers(shape).astype(dtype)
    expected = get_op(name).definition(x.astype(np.float64), *arguments)
    got = getattr(F, name)(Tensor(x), *arguments)
    # erfc and e^x multiply the relative error of their argument by about its square
    assert_agree(got.data, expected, dtype, length=1)


@pytest.mark.parametrize(("name", "arguments", "kinks"), CASES)
def test_gradient(name, arguments, kinks):
    x = Tensor(numbers((2, 3, 5), kinks), requires_grad=True)
    assert gradcheck(lambda x: getattr(F, name)(x, *arguments), [x])


@pytest.mark.parametrize(("name", "arguments", "kinks"), CASES)
def test_float32_stays_and_inputs_may_be_strided(name, arguments, kinks):
    whole = numbers((4, 6)).astype(np.float32)
    before = whole.copy()
    x = Tensor(whole[::2, ::-1], requires_grad=True)
    y = getattr(F, name)(x, *arguments)
    y.backward(np.ones(x.shape, np.float32))
    contiguous = getattr(F, name)(Tensor(np.ascontiguousarray(whole[::2, ::-1])), *arguments)
    np.testing.assert_array_equal(y.data, contiguous.data)
    np.testing.assert_array_equal(whole, before)
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize("scale", [1e2, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "arguments", "kinks"), CASES)
def test_far_out_nothing_overflows(name, arguments, kinks, dtype, scale):
    x = Tensor(np.array([-scale, scale], dtype), requires_grad=True)
    y = getattr(F, name)(x, *arguments)
    y.backward(np.ones(2, dtype))
    expected = get_op(name).definition(x.data.astype(np.float64), *arguments)
    np.testing.assert_allclose(y.data, expected, rtol=4 * np.finfo(dtype).eps, atol=1e-38)
    left = {"leaky_relu": arguments[0] if arguments else 0}.get(name, 0)
    right = 0 if name in ("relu6", "sigmoid", "hardsigmoid", "tanh") else 1
    np.testing.assert_allclose(x.grad.data, [left, right], atol=1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_at_the_kinks_are_pytorch_s(dtype):
    def slopes(name, at):
        x = Tensor(np.array(at, dtype), requires_grad=True)
        getattr(F, name)(x).sum().backward()
        return x.grad.data.tolist()

    assert slopes("relu", [0, np.nan]) == [0, 1]
    assert slopes("leaky_relu", [0]) == [dtype(0.01)]
    assert slopes("elu", [0]) == [1]
    assert slopes("relu6", [0, 6]) == [0, 0]
    assert slopes("hardsigmoid", [-3, 3]) == [0, 0]
    assert slopes("hardswish", [-3, 3]) == [0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slope", [0, 0.01, 1, 3.3, 1e8, -0.3, -1e8])
def test_leaky_relu_has_just_its_two_slopes(slope, dtype):
    x = Tensor(np.array([-2, 0, 3, np.nan, np.inf, -np.inf], dtype), requires_grad=True)
    F.leaky_relu(x, slope).backward(np.full(6, 5, dtype))
    left, right = dtype(slope) * dtype(5), dtype(5)
    np.testing.assert_array_equal(x.grad.data, [left, left, right, left, right, left])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_stops_any_gradient_where_it_is_0(dtype):
    """An infinite one, too, as PyTorch's relu does: that of a square root at 0."""
    x = Tensor(np.array([-1, -0.0, 0, 4, 1e-45, np.inf], dtype), requires_grad=True)
    with np.errstate(divide="ignore"):
        (F.relu(x) ** 0.5).sum().backward()
    np.testing.assert_array_equal(x.grad.data[[0, 1, 2, 3, 5]], [0, 0, 0, 0.25, 0])
    assert x.grad.data[4] > 1e18  # of the smallest number

    at = np.array([np.nan, -np.nan, 0, -0.0, 7, 7, -7], dtype)
    x = Tensor(at, requires_grad=True)
    F.relu(x).backward(np.array([3, 3, np.nan, np.inf, np.nan, -np.inf, -np.inf], dtype))
    np.testing.assert_array_equal(x.grad.data, [3, 3, 0, 0, np.nan, -np.inf, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("relu6", [-np.inf, -1, 0, 6, 7, np.inf]),
        ("hardsigmoid", [-np.inf, -4, -3, 3, 4, np.inf]),
        ("hardswish", [-np.inf, -4, -3]),
    ],
)
def test_what_is_flat_stops_any_gradient(name, flat, dtype):
    """PyTorch 2.13: 0 for an infinite gradient and for NaN, where a product with 0 would be NaN."""
    x = Tensor(np.array([*flat, *flat, *flat, 1, 1], dtype), requires_grad=True)
    count = len(flat)
    grad = np.repeat(np.array([np.inf, -np.inf, np.nan, np.inf, -1], dtype), [count] * 3 + [1, 1])
    with np.errstate(invalid="ignore"):  # hardswish's value at -inf is -inf * 0
        getattr(F, name)(x).backward(grad)
    np.testing.assert_array_equal(x.grad.data[: 3 * count], 0)
    assert x.grad.data[-2] == np.inf
    assert -1 <= x.grad.data[-1] < 0


@pytest.mark.parametrize(("name", "arguments", "kinks"), CASES)
def test_a_nan_stays_a_nan(name, arguments, kinks):
    assert np.isnan(getattr(F, name)(Tensor(np.array([np.nan])), *arguments).data).all()


def test_erfc_has_float64_accuracy():
    x = np.linspace(-7, 27, 20001)
    expected = np.array([math.erfc(v) for v in x])
    # e^(-x^2) turns the rounding of x^2, at most eps x^2 / 2, into a relative error
    tolerance = np.finfo(float).eps * (4 + x * x) * expected + 5e-324
    assert (abs(erfc(x) - expected) <= tolerance).all()


@pytest.mark.parametrize("name", ["relu", "elu", "gelu", "sigmoid", "softplus"])
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=f"{name}: input is int64, needs float32 or float64"):
        getattr(F, name)(Tensor(np.arange(3)))


def test_gelu_names_its_forms():
    with pytest.raises(ValueError, match="gelu: approximate is 'erf'"):
        F.gelu(Tensor(np.ones(3)), approximate="erf")


def test_hardswish_is_flat_at_infinity():
    x = Tensor(np.array([-np.inf, -3, 3, np.inf]), requires_grad=True)
    with np.errstate(invalid="ignore"):
        F.hardswish(x).backward(np.ones(4))  # its value at -inf is -inf * 0
    np.testing.assert_array_equal(x.grad.data, [0, 0, 1, 1])


def test_nothing_is_done_in_place():
    x = Tensor(np.array([-1.0, 2.0]))
    for name in ("relu", "relu6", "leaky_relu", "elu", "hardsigmoid", "hardswish", "silu"):
        function = getattr(F, name)
        np.testing.assert_array_equal(function(x, inplace=False).data, function(x).data)
        with pytest.raises(ValueError, match=f"^{name}: inplace is True"):
            function(x, inplace=True)


@pytest.mark.parametrize("number", [np.float64, np.int64, np.array])
@pytest.mark.parametrize("name", ["leaky_relu", "elu", "softplus"])
def test_numpys_numbers_change_no_dtype(name, number):
    results = []
    for two in (2, number(2)):
        x = Tensor(np.array([-1.5, 0.25, 3], np.float32), requires_grad=True)
        y = getattr(F, name)(x, two)
        y.sum().backward()
        results.append((y.data, x.grad.data))
    for got, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)
