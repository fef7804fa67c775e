import pytest
import torch

import minseg.functional as F
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "mode", ["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"]
)
def test_interpolate(mode, dtype):
    def antialiased(*args, antialias=False, **kwargs):
        return antialias

    assert check("nn.functional.interpolate", F.interpolate, dtype, mode, refused=antialiased) >= 30


@pytest.mark.parametrize("dtype", DTYPES)
def test_upsample(dtype):
    """PyTorch's older names for two of the modes."""

    def bilinear(x, size=None, scale_factor=None):
        return F.interpolate(x, size, scale_factor, "bilinear", align_corners=True)

    assert check("nn.functional.upsample_bilinear", bilinear, dtype) >= 5
    assert check("nn.functional.upsample_nearest", F.interpolate, dtype) >= 12
