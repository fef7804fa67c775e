import pytest
import torch

import minseg.functional as F
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nll_loss", 61),
        ("binary_cross_entropy", 11),
        ("binary_cross_entropy_with_logits", 26),
        ("mse_loss", 6),
        ("l1_loss", 6),
        ("smooth_l1_loss", 8),
        ("huber_loss", 9),
    ],
)
def test_loss(name, count, dtype):
    assert check(f"nn.functional.{name}", getattr(F, name), dtype) >= count
