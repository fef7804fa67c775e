import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import minseg.functional as F
from minseg import Tensor
from minseg.ops.grid_sample import PADDINGS
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]
MODES = ("bilinear", "nearest", "bicubic")


class InFloat32(torch.autograd.Function):
    """PyTorch's grid_sample computed in float32, for a check in float64.

    Which pixel is nearest hangs on the last digit of the place; it is to be PyTorch's own pixel.
    """

    @staticmethod
    def forward(ctx, x, grid, *how):
        ctx.saved, ctx.how = (x, grid), how
        return TF.grid_sample(x.float(), grid.float(), *how).double()

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            leaves = [t.detach().float().requires_grad_() for t in ctx.saved]
            y = TF.grid_sample(*leaves, *ctx.how)
            grads = torch.autograd.grad(y, leaves, grad.float())
        return (*(g.double() for g in grads), *(None for _ in ctx.how))


@pytest.mark.parametrize("dtype", DTYPES)
def test_grid_sample(dtype):
    def reference(x, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
        if mode == "nearest" and dtype == torch.float32:
            return InFloat32.apply(x, grid, mode, padding_mode, align_corners)
        return TF.grid_sample(x, grid, mode, padding_mode, align_corners)

    name = "nn.functional.grid_sample"
    assert check(name, F.grid_sample, dtype, reference=reference) >= 48


@pytest.mark.parametrize("dtype", DTYPES)
def test_grid_sampler_2d(dtype):
    def ours(x, grid, mode, padding, corners):
        return F.grid_sample(x, grid, MODES[mode], PADDINGS[padding], corners)

    assert check("grid_sampler_2d", ours, dtype) >= 9


@pytest.mark.parametrize("corners", [False, True])
def test_affine_grid(corners):
    theta = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = TF.affine_grid(theta, (2, 3, 4, 5), align_corners=corners).numpy()
    got = F.affine_grid(Tensor(theta.numpy()), (2, 3, 4, 5), corners).data
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
