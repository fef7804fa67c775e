import pytest
import torch

import minseg.functional as F
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_conv2d(dtype):
    def unbatched(x, *args, **kwargs):
        return x.ndim == 3

    assert check("nn.functional.conv2d", F.conv2d, dtype, refused=unbatched) >= 10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "variant", ["constant", "reflect", "replicate", "replicate_negative", "circular"]
)
def test_pad(variant, dtype):
    assert check("nn.functional.pad", F.pad, dtype, variant) >= 3
