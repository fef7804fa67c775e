"""A whole training step of a U-Net by the CUDA kernels, in the emulator, beside NumPy's."""

import math

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, kernels, nn
from minseg.models import build
from minseg.optim import SGD
from tests.witness import assert_agree

LR = 0.1
SHAPE = (2, 3, 64, 64)


def step(dtype):
    """Forward, loss, backward and update: the loss, each gradient, each weight after it."""
    minseg.manual_seed(0)
    rng = np.random.default_rng(0)
    images = rng.standard_normal(SHAPE).astype(np.float32).astype(dtype)
    labels = rng.integers(0, 4, (SHAPE[0], *SHAPE[2:]))
    model = build("unet", 4, width=4, norm="batch", dropout=0.0).to(dtype)
    optimizer = SGD(model.parameters(), lr=LR, momentum=0.9)
    loss = F.cross_entropy(model(Tensor(images)), Tensor(labels), ignore_index=3)
    loss.backward()
    gradients = {name: p.grad.data.copy() for name, p in model.named_parameters()}
    optimizer.step()
    weights = {name: p.data.copy() for name, p in model.named_parameters()}
    return model, loss.data, gradients, weights


def terms(model):
    """How many rounded terms an error passes on its way through all sums, there and back."""
    total = 2 * SHAPE[0] * SHAPE[2] * SHAPE[3]  # the loss; the sums of a weight's gradient
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            total += 2 * math.prod(module.weight.shape[1:])
        elif isinstance(module, nn.BatchNorm2d):
            total += 2 * SHAPE[0] * SHAPE[2] * SHAPE[3]
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_step_by_kernels_is_numpy_s(dtype):
    model, *expected = step(np.float64)
    launched = []
    kernels.observers.append(launched.append)
    try:
        with minseg.use_kernels("emulator"):
            _, *got = step(dtype)
    finally:
        kernels.observers.remove(launched.append)
    length = terms(model)
    assert_agree(got[0], expected[0], dtype, length)
    for mine, exact in zip(got[1:], expected[1:], strict=True):
        for name in exact:
            assert_agree(mine[name], exact[name], dtype, length)
    names = {launch.kernel.name for launch in launched}
    for part in ("forward", "grad_input", "grad_weight"):
        assert f"conv2d_{part}" in names
    for name in ("norm_forward", "max_pool2d_grad_input", "cross_entropy_forward", "sgd_update"):
        assert name in names
