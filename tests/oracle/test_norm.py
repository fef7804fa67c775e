import numpy as np
import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", ["", "without_cudnn"])
def test_batch_norm(variant, dtype):
    def without_channels(x, *args, **kwargs):
        return x.ndim == 1

    name = "nn.functional.batch_norm"
    assert check(name, F.batch_norm, dtype, variant, refused=without_channels) >= 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "least"), [(F.instance_norm, 4), (F.group_norm, 9), (F.layer_norm, 3)]
)
def test_other_norms(function, least, dtype):
    assert check(f"nn.functional.{function.__name__}", function, dtype) >= least


@pytest.mark.parametrize("function", ["batch_norm", "instance_norm"])
def test_running_statistics(function):
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    how = {"training": True} if function == "batch_norm" else {}
    theirs = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    mine = [s.numpy().copy() for s in theirs]
    for _ in range(3):
        getattr(torch.nn.functional, function)(x, *theirs, momentum=0.3, **how)
        getattr(F, function)(Tensor(x.numpy()), *mine, momentum=0.3, **how)
    for got, expected in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-14)
