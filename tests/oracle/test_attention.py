import numpy as np
import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


def without_dropout(function):
    """Which weights are dropped differs between any two libraries: compared is all the rest."""
    return lambda *args, dropout_p=0.0, **kwargs: function(*args, **kwargs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_dot_product_attention(dtype):
    name = "scaled_dot_product_attention"
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    compared = check(
        f"nn.functional.{name}",
        without_dropout(ours),
        dtype,
        reference=without_dropout(theirs),
    )
    assert compared >= 25


@pytest.mark.parametrize("kind", ["none", "bool", "float", "causal", "gqa", "scale"])
def test_masks_heads_and_scale(kind):
    rng = np.random.default_rng(0)
    heads = 2 if kind == "gqa" else 6
    q, k, v = (rng.standard_normal(s) for s in [(2, 6, 5, 8), (2, heads, 7, 8), (2, heads, 7, 4)])
    how = {"gqa": {"enable_gqa": True}, "causal": {"is_causal": True}, "scale": {"scale": 0.3}}
    mask = rng.random((2, 1, 5, 7)) < 0.5
    mask[:, :, 2] = False  # a query that may look at nothing
    if kind == "float":
        mask = np.where(mask, rng.standard_normal(mask.shape), -np.inf)
    arrays = [q, k, v, mask] if kind in ("bool", "float") else [q, k, v]
    wants = [a.dtype != bool for a in arrays]
    theirs = [torch.tensor(a, requires_grad=w) for a, w in zip(arrays, wants, strict=True)]
    expected = torch.nn.functional.scaled_dot_product_attention(*theirs, **how.get(kind, {}))
    ours = [Tensor(a, requires_grad=w) for a, w in zip(arrays, wants, strict=True)]
    got = F.scaled_dot_product_attention(*ours, **how.get(kind, {}))
    upstream = rng.standard_normal(got.shape)
    expected.backward(torch.tensor(upstream))
    got.backward(upstream)
    np.testing.assert_allclose(got.data, expected.detach().numpy(), atol=1e-14)
    for mine, exact, wanted in zip(ours, theirs, wants, strict=True):
        if not wanted:
            continue
        np.testing.assert_allclose(mine.grad.data, exact.grad.numpy(), atol=1e-13)
