import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "mode", ["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"]
)
def test_interpolate(mode, dtype):
    assert check("nn.functional.interpolate", F.interpolate, dtype, mode) >= 15


@pytest.mark.parametrize("dtype", DTYPES)
def test_upsample(dtype):
    """PyTorch's older names for two of the modes."""

    def bilinear(x, size=None, scale_factor=None):
        return F.interpolate(x, size, scale_factor, "bilinear", align_corners=True)

    assert check("nn.functional.upsample_bilinear", bilinear, dtype) >= 5
    assert check("nn.functional.upsample_nearest", F.interpolate, dtype) >= 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias(mode, corners, dtype):
    """Smaller, larger, both at once, to one pixel, by broken scales: the catalogue has few."""
    x = torch.randn(2, 3, 11, 9, dtype=dtype, requires_grad=True)
    how = {"mode": mode, "align_corners": corners, "antialias": True}
    for target in (
        {"size": (4, 3)},
        {"size": (5, 20)},
        {"size": (1, 1)},
        {"size": (11, 2)},
        {"scale_factor": 0.43},
        {"scale_factor": (1.7, 0.3)},
    ):
        expected = torch.nn.functional.interpolate(x, **target, **how)
        ours = Tensor(x.detach().numpy(), requires_grad=True)
        y = F.interpolate(ours, **target, **how)
        grad = torch.randn_like(expected)
        x.grad = None
        expected.backward(grad)
        y.backward(grad.numpy())
        # Weights from places that were rounded once, on at most 11 taps an axis.
        tolerance = 64 * torch.finfo(dtype).eps
        torch.testing.assert_close(
            torch.from_numpy(y.data), expected.detach(), rtol=tolerance, atol=tolerance
        )
        torch.testing.assert_close(
            torch.from_numpy(ours.grad.data), x.grad, rtol=tolerance, atol=tolerance * 8
        )
