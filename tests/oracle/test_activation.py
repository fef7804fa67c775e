import numpy as np
import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check, samples

DTYPES = [torch.float32, torch.float64]


def each_alone(function):
    """PyTorch's answer; where the input has a NaN, element by element.

    Its gradient at a NaN depends on whether the element falls into a vector register or, at the end
    of the array, into none.
    """

    def reference(x, **how):
        if not x.isnan().any():
            return function(x, **how)
        return torch.stack([function(v, **how) for v in x.flatten()]).reshape(x.shape)

    return reference


COUNTS = {  # samples in OpInfo
    "relu": 45,
    "leaky_relu": 9,
    "elu": 42,
    "gelu": 8,
    "silu": 42,
    "softplus": 42,
    "hardswish": 4,
    "hardsigmoid": 42,
    "relu6": 42,
    "sigmoid": 42,
    "tanh": 36,
    "softmax": 7,
    "log_softmax": 7,
}
IN_TORCH = ("sigmoid", "tanh", "softmax", "log_softmax")  # the others are in nn.functional
REFERENCES = {
    F.elu: each_alone(torch.nn.functional.elu),
    F.relu6: each_alone(torch.nn.functional.relu6),
    # PyTorch's hardsigmoid takes 1/6 from float32: in float64 its gradient is wrong by 3e-8.
    F.hardsigmoid: each_alone(lambda x: torch.nn.functional.relu6(x + 3) / 6),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_activation(name, count, dtype):
    ours = getattr(F, name)
    name = name if name in IN_TORCH else f"nn.functional.{name}"
    assert check(name, ours, dtype, reference=REFERENCES.get(ours)) >= count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_with_dtype(name, dtype):
    ours = getattr(F, name)
    compared = 0
    for (x, dim), kwargs in samples(name, "with_dtype", dtype):
        assert kwargs == {"dtype": torch.float64}
        expected = getattr(torch, name)(x, dim, dtype=torch.float64)
        upstream = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).reshape(x.shape)
        (expected * upstream).sum().backward()
        mine = Tensor(x.detach().numpy(), requires_grad=True)
        got = ours(mine, dim, dtype=np.float64)
        got.backward(upstream.numpy())
        assert got.dtype == np.float64
        assert mine.grad.dtype == mine.dtype
        np.testing.assert_allclose(got.data, expected.detach().numpy(), rtol=1e-14, atol=1e-14)
        eps = np.finfo(mine.dtype).eps
        np.testing.assert_allclose(mine.grad.data, x.grad.numpy(), rtol=eps, atol=16 * 2.3e-16)
        compared += 1
    assert compared >= 7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(COUNTS)[:-2])
def test_kinks_and_large_inputs(name, dtype):
    x = np.array([-1e4, -700, -90, -20, -6, -3, -1e-3, -0.0, 0, 1e-3, 3, 6, 20, 90, 700, 1e4])
    theirs = torch.tensor(x, requires_grad=True)
    expected = REFERENCES.get(getattr(F, name), getattr(torch.nn.functional, name))(theirs)
    expected.sum().backward()
    ours = Tensor(x.astype(dtype), requires_grad=True)
    got = getattr(F, name)(ours)
    got.backward(np.ones_like(ours.data))
    close = {"rtol": 16 * np.finfo(dtype).eps, "atol": 16 * np.finfo(dtype).eps}
    np.testing.assert_allclose(got.data, expected.detach().numpy(), **close)
    np.testing.assert_allclose(ours.grad.data, theirs.grad.numpy(), **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prelu(dtype):
    assert check("nn.functional.prelu", F.prelu, dtype) >= 12
