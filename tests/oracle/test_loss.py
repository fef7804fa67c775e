import pytest
import torch

import minseg.functional as F
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nll_loss", 122),
        ("binary_cross_entropy", 22),
        ("binary_cross_entropy_with_logits", 52),
        ("mse_loss", 12),
        ("l1_loss", 12),
        ("smooth_l1_loss", 16),
        ("huber_loss", 18),
    ],
)
def test_loss(name, count, dtype):
    assert check(f"nn.functional.{name}", getattr(F, name), dtype) >= count
