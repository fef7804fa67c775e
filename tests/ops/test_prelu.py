import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck, nn
from minseg.ops.prelu import prelu_definition
from tests.witness import assert_agree

# input, weight
SHAPES = [((), ()), ((5,), (1,)), ((4, 3), (3,)), ((2, 3, 5, 4), (3,)), ((2, 3, 5, 4), (1,))]


def draw(shape, dtype=np.float64, seed=0):
    """Random numbers, none within 0.01 of the kink at 0."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return np.where(abs(x) < 0.01, 0.05, x).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "slopes"), [*SHAPES, ((0, 3, 2), (3,))])
def test_forward_equals_the_definition(shape, slopes, dtype):
    x, w = draw(shape, dtype), draw(slopes, dtype, 1)
    expected = prelu_definition(x.astype(np.float64), w.astype(np.float64))
    assert_agree(F.prelu(Tensor(x), Tensor(w)).data, expected, dtype, length=1)


@pytest.mark.parametrize(("shape", "slopes"), SHAPES)
def test_gradients(shape, slopes):
    x, w = Tensor(draw(shape), requires_grad=True), Tensor(draw(slopes, seed=1), requires_grad=True)
    assert gradcheck(F.prelu, [x, w])


def test_strided_inputs_and_the_layer():
    whole = draw((4, 3, 6), np.float32)
    layer = nn.PReLU(3)
    assert layer.weight.shape == (3,)
    assert nn.PReLU(init=0.1).weight.data.tolist() == [np.float32(0.1)]
    y = layer(Tensor(whole[::2, :, ::-1]))
    y.backward(np.ones(y.shape, np.float32))
    expected = F.leaky_relu(Tensor(np.ascontiguousarray(whole[::2, :, ::-1])), 0.25)
    np.testing.assert_array_equal(y.data, expected.data)
    assert layer.weight.grad.dtype == np.float32


def test_wrong_arguments_are_named():
    x = Tensor(np.ones((2, 3, 4), np.float32))
    for shape in [(2,), (4,), (1, 3)]:
        with pytest.raises(ValueError, match=r"prelu: weight has shape .*needs \(1,\) or \(3,\)"):
            F.prelu(x, Tensor(np.ones(shape, np.float32)))
    with pytest.raises(TypeError, match="prelu: weight is float64"):
        F.prelu(x, Tensor(np.ones(3)))
