"""Parity with PyTorch where PyTorch is absent: its answers, made by tests/golden/make_losses.py."""

from pathlib import Path

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor
from tests.golden.make_losses import CASES, call, upstream
from tests.witness import assert_agree

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.npz"


@pytest.mark.parametrize(
    ("name", "i"), [(name, i) for name in CASES for i in range(len(CASES[name]))]
)
def test_agrees_with_pytorch_s_answer(name, i):
    x, y = call(getattr(F, name), CASES[name][i], Tensor)
    y.backward(upstream(y.shape))
    with np.load(GOLDEN) as golden:
        assert_agree(y.data, golden[f"{name}.{i}.y"], np.float64, length=x.numel())
        assert_agree(x.grad.data, golden[f"{name}.{i}.grad"], np.float64, length=x.numel())
