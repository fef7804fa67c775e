"""Parity with PyTorch where it is absent: its answers, from tests/golden/make_resample_norm.py."""

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor
from tests.golden.make_resample_norm import CASES, GOLDEN, arrays
from tests.witness import assert_agree


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients_are_pytorchs(case):
    name, arguments = CASES[case]
    x, drawn, rng = arrays(arguments)
    leaves = {"input": Tensor(x, requires_grad=True)}
    leaves |= {k: Tensor(v, True) for k, v in drawn.items() if isinstance(v, np.ndarray)}
    y = getattr(F, name)(**{**drawn, **leaves})
    y.backward(rng.standard_normal(y.shape))
    with np.load(GOLDEN) as golden:
        assert_agree(y.data, golden[f"{case}.y"], np.float64, length=60)
        for k, leaf in leaves.items():
            expected = golden[f"{case}.{k}"]
            grad = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.data
            assert_agree(grad, expected, np.float64, length=60)
