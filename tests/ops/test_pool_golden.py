"""Parity with PyTorch where PyTorch is absent: its answers, made by tests/golden/make_pool.py."""

from pathlib import Path

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor
from tests.golden.make_pool import CASES, arrays
from tests.witness import assert_agree

GOLDEN = Path(__file__).parents[1] / "golden" / "pool.npz"


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_forward_and_gradient_are_pytorchs(name, arguments):
    x, drawn, rng = arrays(arguments)
    x = Tensor(x, requires_grad=True)
    y = getattr(F, name)(x, *(Tensor(a) if isinstance(a, np.ndarray) else a for a in drawn))
    y.backward(rng.standard_normal(y.shape))
    with np.load(GOLDEN) as golden:
        assert_agree(y.data, golden[f"{name}.y"], np.float64, length=24)
        assert_agree(x.grad.data, golden[f"{name}.grad"], np.float64, length=24)
