import numpy as np
import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(dtype):
    assert check("nn.functional.cross_entropy", F.cross_entropy, dtype) >= 21


def compare(x, t, dtype=np.float64, **how):
    """Forward and gradients of cross_entropy against PyTorch's in float64."""

    def leaf(a):
        return torch.tensor(a, requires_grad=a.dtype.kind == "f")

    x = x.astype(dtype)
    t = t.astype(dtype) if t.dtype.kind == "f" else t
    weight = how.pop("weight", None)
    theirs = leaf(x.astype(np.float64)), leaf(t.astype(np.float64) if t.dtype.kind == "f" else t)
    their_weight = None if weight is None else torch.tensor(weight)
    expected = torch.nn.functional.cross_entropy(*theirs, weight=their_weight, **how)
    ours = Tensor(x, requires_grad=True), Tensor(t, requires_grad=t.dtype.kind == "f")
    our_weight = None if weight is None else Tensor(weight.astype(dtype))
    got = F.cross_entropy(*ours, weight=our_weight, **how)
    upstream = np.random.default_rng(3).standard_normal(got.shape).astype(dtype)
    expected.backward(torch.tensor(upstream).double())
    got.backward(upstream)
    tolerance = 16 * np.finfo(dtype).eps * np.sqrt(x.size)
    pairs = [(got.data, expected.detach())]
    pairs += [(o.grad.data, e.grad) for o, e in zip(ours, theirs, strict=True) if e.requires_grad]
    for mine, exact in pairs:
        assert mine.dtype == dtype
        scale = np.abs(np.nan_to_num(exact.numpy())).max(initial=1e-3)
        np.testing.assert_allclose(mine, exact.numpy(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["indices", "ignored", "all ignored", "probabilities"])
def test_every_combination(kind, weighted, smoothing, reduction, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 4, 7)) * 3
    t = rng.integers(0, 5, (3, 4, 7))
    if kind == "ignored":
        t[rng.random(t.shape) < 0.3] = 255
    if kind == "all ignored":
        t[:] = 255
    if kind == "probabilities":
        t = rng.dirichlet(np.ones(5), (3, 4, 7)).transpose(0, 3, 1, 2)
    how = {"reduction": reduction, "label_smoothing": smoothing}
    if kind != "probabilities":
        how["ignore_index"] = 255
    compare(x, t, dtype, weight=rng.random(5) if weighted else None, **how)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (40000, 3), (1, 2, 150, 230), (4,)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_sizes(shape, reduction):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape)
    classes = shape[0] if len(shape) == 1 else shape[1]
    t = rng.integers(0, classes, shape[:1] + shape[2:] if len(shape) > 1 else ())
    compare(x, np.asarray(t), reduction=reduction)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_logits(scale):
    x = np.array([[1, -1, 0], [-1, 1, 1], [0, 0, 0.0]]) * scale
    compare(x, np.array([1, 2, 0]))
    compare(x, np.array([0, 0, 2]), label_smoothing=0.1)
