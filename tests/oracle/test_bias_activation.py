import numpy as np
import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.witness import assert_agree

THEIRS = {
    "none": lambda z: z,
    "relu": torch.nn.functional.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 7), (3, 2, 130, 70)])
@pytest.mark.parametrize("activation", THEIRS)
def test_bias_and_activation(activation, shape, dtype):
    rng = np.random.default_rng(0)
    x, b, grad = (rng.standard_normal(s).astype(dtype) for s in (shape, shape[1:2], shape))
    theirs = [torch.tensor(a.astype(float), requires_grad=True) for a in (x, b)]
    expected = THEIRS[activation](theirs[0] + theirs[1].reshape(-1, *(1,) * (len(shape) - 2)))
    expected.backward(torch.tensor(grad.astype(float)))
    ours = [Tensor(a, requires_grad=True) for a in (x, b)]
    got = F.bias_activation(*ours, activation)
    got.backward(grad)
    assert_agree(got.data, expected.detach().numpy(), dtype)
    assert_agree(ours[0].grad.data, theirs[0].grad.numpy(), dtype)
    length = x.size // b.size
    assert_agree(ours[1].grad.data, theirs[1].grad.numpy(), dtype, length=length)
