from contextlib import nullcontext

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops.bias_activation import ACTIVATIONS, bias_activation_definition
from tests.witness import assert_agree, assert_threads_change_no_bit

# In the third, three blocks of the kernel share a channel, in parts that are not of one size.
SHAPES = [(2, 3), (3, 5, 7), (2, 2, 103, 172), (2, 3, 4, 1, 5), (0, 3, 4), (2, 3, 0), (2, 0, 4)]


def draw(shape, dtype=np.float64):
    """x, b and an upstream gradient; x + b is an odd multiple of 1/16: exact, and off the kink."""
    rng = np.random.default_rng(0)
    x = rng.integers(-40, 40, shape) / 8 + 1 / 16
    b = rng.integers(-10, 10, shape[1]) / 8
    return [a.astype(dtype) for a in (x, b, rng.standard_normal(shape))]


def results(x, b, grad, activation):
    """The output and both gradients."""
    inputs = [Tensor(x, requires_grad=True), Tensor(b, requires_grad=True)]
    y = F.bias_activation(*inputs, activation)
    y.backward(grad)
    return [y.data, *(t.grad.data for t in inputs)]


def apart(x, b, grad, activation):
    """The same in two ops, in float64."""
    inputs = [Tensor(a.astype(float), requires_grad=True) for a in (x, b)]
    y = ACTIVATIONS[activation](inputs[0] + inputs[1].reshape(b.size, *(1,) * (x.ndim - 2)))
    y.backward(grad.astype(float))
    return [y.data, *(t.grad.data for t in inputs)]


def assert_same(got, expected, dtype):
    length = expected[1].size // max(1, expected[2].size)  # the gradient of a bias is a sum
    for one, other, terms in zip(got, expected, (1, 1, max(1, length)), strict=True):
        assert_agree(one, other, dtype, length=terms)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_equals_the_definition(activation, dtype):
    x, b, _ = draw((2, 3, 50), dtype)
    expected = bias_activation_definition(x.astype(float), b.astype(float), activation)
    assert_agree(F.bias_activation(Tensor(x), Tensor(b), activation).data, expected, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(activation):
    x, b, _ = draw((2, 3, 2, 5))
    inputs = [Tensor(x, requires_grad=True), Tensor(b, requires_grad=True)]
    assert gradcheck(lambda x, b: F.bias_activation(x, b, activation), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_a_sum_and_an_activation(activation, shape, dtype):
    arrays = draw(shape, dtype)
    assert_same(results(*arrays, activation), apart(*arrays, activation), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kernels_equal_the_two_ops(activation, dtype):
    for shape in SHAPES:
        arrays = draw(shape, dtype)
        with minseg.use_kernels("emulator"):
            got = results(*arrays, activation)
        assert_same(got, apart(*arrays, activation), dtype)


def test_kernels_are_sound(monkeypatch):
    monkeypatch.setattr("minseg.ops.bias_activation.ELEMENTS_A_BLOCK", 100)
    with minseg.use_kernels("emulator"), sanitized() as findings:
        for activation in ACTIVATIONS:
            results(*draw((3, 2, 70), np.float32), activation)
    assert not findings


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kernels_take_what_is_not_finite_as_numpy_does(activation):
    x = np.array([[[-np.inf, np.inf, np.nan, -1e4, 1e4, 0.0]]])
    expected = results(x, np.zeros(1), np.ones_like(x), activation)
    with minseg.use_kernels("emulator"):
        got = results(x, np.zeros(1), np.ones_like(x), activation)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize("kernels", [False, True])
def test_strided_inputs_stay_as_they_are(kernels):
    x, b, grad = draw((4, 6, 9, 10), np.float32)
    strided = x[::2, ::-1, 1::2].swapaxes(2, 3), b[::-1], grad[2:, :, :4, ::-1].swapaxes(2, 3)
    before = [a.copy() for a in strided]
    with minseg.use_kernels("emulator") if kernels else nullcontext():
        got, expected = results(*strided, "silu"), results(*before, "silu")
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(strided, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_threads_changes_no_bit():
    arrays = draw((3, 40, 33, 29), np.float32)
    assert_threads_change_no_bit(lambda: results(*arrays, "gelu"))


@pytest.mark.filterwarnings("ignore:override relu")
def test_a_learner_s_activation_runs():
    x, b, _ = draw((2, 3, 4))
    with minseg.override("relu", forward=lambda z: z + 100):
        for name, expected in (("relu", x + b[:, None] + 100), ("none", x + b[:, None])):
            y = F.bias_activation(Tensor(x), Tensor(b), name)
            np.testing.assert_array_equal(y.data, expected)


def test_wrong_arguments_are_named():
    x, b = Tensor(np.ones((2, 3, 4), np.float32)), Tensor(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="bias_activation: activation is 'tanh', needs one of 'no"):
        F.bias_activation(x, b, "tanh")
    with pytest.raises(ValueError, match=r"bias_activation: bias has shape \(4,\), needs \(3,\)"):
        F.bias_activation(x, Tensor(np.ones(4, np.float32)))
    with pytest.raises(ValueError, match=r"bias_activation: bias has shape \(3, 1\), needs 1 dim"):
        F.bias_activation(x, b.reshape(3, 1))
    with pytest.raises(ValueError, match=r"bias_activation: input has shape \(3,\), needs \(N, C"):
        F.bias_activation(b, b)
    with pytest.raises(TypeError, match="bias_activation: bias is float64 but the input is float3"):
        F.bias_activation(x, Tensor(np.ones(3)))
    with pytest.raises(TypeError, match="bias_activation: input is int64, needs float32 or float6"):
        F.bias_activation(Tensor(np.ones((2, 3), int)), b)
    with pytest.raises(TypeError, match="bias_activation: bias is a NoneType, needs a Tensor"):
        F.bias_activation(x, None)
