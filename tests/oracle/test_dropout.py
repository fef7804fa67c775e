import pytest
import torch

import minseg.functional as F
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "count"), [("dropout", 19), ("dropout2d", 13)])
def test_what_does_not_depend_on_chance(name, count, dtype):
    """Samples with 0 < p < 1 in training run with p = 0 or 1: which elements fall is chance."""

    def certain(function):
        def run(x, p=0.5, training=True, inplace=False):
            return function(x, p if not training else round(p + 0.1), training)

        return run

    theirs = certain(getattr(torch.nn.functional, name))
    ours = certain(getattr(F, name))
    assert check(f"nn.functional.{name}", ours, dtype, reference=theirs) >= count
