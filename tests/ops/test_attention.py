import math
from contextlib import nullcontext

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.kernels import check
from minseg.ops.attention import _on_the_tape, attention_definition, op
from minseg.ops.fast import attention as fast
from tests.witness import assert_agree, assert_threads_change_no_bit


@pytest.fixture(params=["all at once", "in blocks"])
def way(request, monkeypatch):
    """Both that attention.py may go, whatever the size."""
    monkeypatch.setattr(fast, "FEW", 2**40 if request.param == "all at once" else -1)


def case(dtype=np.float64, heads=2):
    rng = np.random.default_rng(0)
    shapes = [(2, 2, 4, 3), (2, heads, 5, 3), (2, heads, 5, 6)]
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


def by_definition(q, k, v, mask, scale):
    y = np.empty((*q.shape[:3], v.shape[3]))
    for n, h in np.ndindex(q.shape[:2]):
        y[n, h] = attention_definition(q[n, h], k[n, h], v[n, h], mask, scale)
    return y


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "causal", "scale"])
def test_forward_equals_the_definition(kind, dtype):
    q, k, v = case(dtype)
    looks = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], bool)
    added = np.where(looks, np.arange(20.0).reshape(4, 5) / 7, -np.inf)
    mask, how = {
        "none": (None, {}),
        "bool": (np.where(looks, 0, -np.inf), {"attn_mask": Tensor(looks)}),
        "float": (added, {"attn_mask": Tensor(added.astype(dtype))}),
        "causal": (np.triu(np.full((4, 5), -np.inf), 1), {"is_causal": True}),
        "scale": (None, {"scale": 0.3}),
    }[kind]
    exact = [a.astype(np.float64) for a in (q, k, v)]
    expected = by_definition(*exact, mask, how.get("scale", 1 / math.sqrt(3)))
    got = F.scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v), **how)
    assert_agree(got.data, expected, dtype, length=8)


def test_keys_of_one_number_are_not_scaled():
    q, k, v = case()
    q, k = q[..., :1], k[..., :1]
    got = F.scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v))
    assert_agree(got.data, by_definition(q, k, v, None, 1), np.float64, length=5)


def test_one_matrix_needs_no_leading_dimension():
    q, k, v = (a[0, 0] for a in case())
    got = F.scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v))
    expected = attention_definition(q, k, v, None, 1 / math.sqrt(3))
    assert_agree(got.data, expected, np.float64, length=5)


def test_grouped_queries_share_a_head():
    q, k, v = case(heads=1)
    expected = by_definition(q, k.repeat(2, 1), v.repeat(2, 1), None, 1 / math.sqrt(3))
    got = F.scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v), enable_gqa=True)
    np.testing.assert_allclose(got.data, expected, atol=1e-14)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["none", "bool", "float", "causal", "gqa"])
def test_gradient(kind):
    inputs = [Tensor(a, requires_grad=True) for a in case(heads=1 if kind == "gqa" else 2)]
    looks = np.random.default_rng(1).random((4, 5)) < 0.5
    looks[1] = False
    if kind == "float":
        inputs.append(Tensor(np.random.default_rng(2).standard_normal((4, 5)), requires_grad=True))
    how = {"bool": {"attn_mask": Tensor(looks)}, "causal": {"is_causal": True}}.get(kind, {})
    how = {"enable_gqa": True} if kind == "gqa" else how
    assert gradcheck(lambda *a: F.scaled_dot_product_attention(*a, **how), inputs)


def test_dropout_drops_weights_and_keeps_the_mean():
    # equal keys: each weight is 1/400, each value 1: y is the kept share / (1 - p)
    ones = Tensor(np.ones((1, 400, 2)))
    rng = np.random.default_rng(0)
    y = F.scaled_dot_product_attention(ones, ones, ones, dropout_p=0.25, generator=rng).data
    sigma = math.sqrt(0.25 / 0.75 / 400)
    assert abs(y[0, :, 0].std() - sigma) < 0.2 * sigma
    assert abs(y.mean() - 1) < 5 * sigma / math.sqrt(400)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": np.ones(3)}, ValueError, "query has shape"),
        ({"query": np.ones((2, 2, 4, 7))}, ValueError, "needs query and key of one size"),
        ({"value": np.ones((2, 2, 4, 3))}, ValueError, "as many values as keys"),
        ({"key": np.ones((2, 2, 5, 3), np.float32)}, TypeError, "key is float32"),
        ({"key": np.ones((3, 2, 5, 3))}, ValueError, "do not broadcast"),
        ({"query": np.ones((2, 4, 4, 3))}, ValueError, "do not broadcast"),  # without enable_gqa
        ({"attn_mask": np.ones((4, 4), bool)}, ValueError, "attn_mask has shape"),
        ({"attn_mask": np.ones((4, 5), np.float32)}, TypeError, "attn_mask is float32"),
        ({"attn_mask": np.ones((4, 5), bool), "is_causal": True}, ValueError, "exclude"),
        ({"query": np.ones((2, 3, 4, 3)), "enable_gqa": True}, ValueError, "heads .* must divide"),
        ({"attn_mask": [[True] * 5] * 4}, TypeError, "attn_mask is a list, needs a Tensor"),
        ({"dropout_p": 2.0}, ValueError, "p is 2.0"),
    ],
)
def test_errors_name_the_culprit(change, error, message):
    arguments = dict(zip(("query", "key", "value"), case(), strict=True)) | change
    arguments = {k: Tensor(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    with pytest.raises(error, match=message):
        F.scaled_dot_product_attention(**arguments)


SIZES = [(2, 4, 5, 3, 6), (1, 33, 70, 40, 65), (2, 64, 32, 8, 8), (1, 3, 0, 2, 2)]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["none", "shared", "own", "causal"])
@pytest.mark.parametrize("sizes", SIZES)
def test_kernels_equal_numpy(sizes, kind, dtype):
    N, L, S, E, D = sizes
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in [(N, L, E), (N, S, E), (N, S, D)]]
    grad = rng.standard_normal((N, L, D)).astype(dtype)
    mask = np.where(rng.random((N if kind == "own" else 1, L, S)) < 0.7, 0.5, -np.inf)
    mask[:, 1] = -np.inf
    mask = mask.astype(dtype) if kind in ("own", "shared") else None

    def results():
        y, lse = op.forward(*arrays, mask, 0.3, kind == "causal")
        found = y, lse, *op.grad(grad, *arrays, mask, y, lse, 0.3, kind == "causal")
        return found if mask is None else (*found, op.grad_mask(grad, *arrays, mask, y, lse, 0.3))

    expected = results()
    with minseg.use_kernels("emulator"):
        got = results()
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=max(E, D) * max(L, S))


@pytest.mark.parametrize("kind", ["none", "bool", "float", "causal", "scale"])
def test_kernels_equal_the_definition(kind):
    with minseg.use_kernels("emulator"):
        test_forward_equals_the_definition(kind, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["causal", "shared", "own"])
def test_kernels_are_sound(kind, dtype):
    inputs = [Tensor(np.ones((2, n, 35), dtype), True) for n in (40, 33, 33)]
    if kind != "causal":
        inputs.append(Tensor(np.ones((2 if kind == "own" else 1, 40, 33), dtype), True))
    with minseg.use_kernels("emulator"), sanitized() as findings:
        y = F.scaled_dot_product_attention(*inputs, is_causal=kind == "causal")
        y.backward(np.ones(y.shape, dtype))
    assert not findings


def test_kernels_are_sound_where_queries_and_keys_are_empty():
    """There are no products to sum: no barrier stands between two tiles of values but its own."""
    q, k, v = (np.ones((1, n, size), np.float32) for n, size in ((40, 0), (70, 0), (70, 8)))
    with minseg.use_kernels("emulator"), sanitized() as findings:
        y = F.scaled_dot_product_attention(*(Tensor(a) for a in (q, k, v)))
    np.testing.assert_array_equal(y.data, 1)
    assert not findings


def test_many_heads_and_windows_fit_a_gpus_grid():
    one, N = np.zeros(1, np.float32), 70_000
    for kernel, arrays in (("forward", 6), ("grad_query", 8), ("grad_key", 8), ("grad_value", 6)):
        # checked, not run: only the sizes count
        how = (N, 1, 1, 1, 1, 1, 1.0, False)
        assert check(f"attention_{kernel}", *[one] * arrays, *how).grid[0] == N
    how = (N, 1, 1, 1, 1, N, 1.0)
    assert check("attention_grad_mask", *[one] * 8, *how).grid[0] == N


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("where", ["numpy", "emulator"])
@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_what_is_added_to_every_score_changes_nothing(shift, where):
    """Not even where e^score is 0, or infinite: the largest is taken off first."""
    q, k, v = (Tensor(a) for a in case())
    expected = F.scaled_dot_product_attention(q, k, v)
    with minseg.use_kernels("emulator") if where == "emulator" else nullcontext():
        got = F.scaled_dot_product_attention(q, k, v, Tensor(np.full((4, 5), shift)))
    np.testing.assert_allclose(got.data, expected.data, rtol=1e-10)  # a score is known to 2e-12


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dropout_p", [0, 1e-9])
def test_a_query_that_is_nan_shows_and_one_that_sees_no_key_gives_0(dropout_p):
    """As PyTorch 2.13 computes it step by step (its fused way gives 0 for the former, too)."""
    q, k, v = case()
    q[..., 1, :] = np.nan
    looks = np.ones((q.shape[-2], k.shape[-2]), bool)
    looks[2] = False
    y = F.scaled_dot_product_attention(
        Tensor(q), Tensor(k), Tensor(v), Tensor(looks), dropout_p=dropout_p
    ).data
    assert np.isnan(y[..., 1, :]).all()
    assert (y[..., 2, :] == 0).all()
    assert np.isfinite(y[..., [0, 3], :]).all()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", [(4, 5), (1, 1, 4, 5), (2, 1, 4, 5), (2, 2, 4, 5), (2, 2, 1, 5)])
@pytest.mark.parametrize("where", ["numpy", "emulator"])
def test_a_mask_gets_the_gradient_that_the_tape_finds(shape, where):
    """Step by step, by ops that have gradients of their own; also where a query sees no key."""
    mask = np.random.default_rng(3).standard_normal(shape)
    mask[..., 1] = -np.inf
    if shape[-2] > 1:
        mask[..., 2, :] = -np.inf
    results = []
    for step_by_step in (True, False):
        q, k, v, m = (Tensor(a, requires_grad=True) for a in (*case(), mask))
        if step_by_step:
            y = _on_the_tape(q, k, v, m, False, 1 / math.sqrt(3), 0.0, None)
            y.backward(np.cos(y.data))
        else:
            with minseg.use_kernels("emulator") if where == "emulator" else nullcontext():
                y = F.scaled_dot_product_attention(q, k, v, m)
                y.backward(np.cos(y.data))
        results.append([y.data, *(t.grad.data for t in (q, k, v, m))])
    for one, other in zip(*results, strict=True):
        assert_agree(other, one, np.float64, length=30)


@pytest.mark.parametrize("kind", ["none", "shared", "own", "causal"])
@pytest.mark.parametrize("size", [2**4, 2**7, 2**9])
def test_blocks_change_nothing(kind, size, monkeypatch):
    """Blocks of a few queries, of one matrix and of several, against the ops on the tape."""
    rng = np.random.default_rng(0)
    shapes = [(5, 13, 3), (5, 7, 3), (5, 7, 4), (5 if kind == "own" else 1, 13, 7)]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    causal, grad = kind == "causal", rng.standard_normal((5, 13, 4))
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    mask = tensors[3] if kind in ("shared", "own") else None
    y = _on_the_tape(*tensors[:3], mask, causal, 0.4, 0.0, None)
    y.backward(grad)

    monkeypatch.setattr(fast, "FEW", -1)
    monkeypatch.setattr(fast, "BLOCK", size)
    added = None if mask is None else mask.data
    found, lse = op.forward(*arrays[:3], added, 0.4, causal)
    gradients = op.grad(grad, *arrays[:3], added, found, lse, 0.4, causal)
    assert_agree(found, y.data, np.float64, length=21)
    for got, tensor in zip(gradients, tensors, strict=False):
        assert_agree(got, tensor.grad.data, np.float64, length=13 * 4)


@pytest.mark.parametrize("shape", [(6, 300, 20), (1, 3000, 100)])
def test_any_number_of_threads_gives_the_same_bits(shape):
    n, queries, keys = shape
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((n, m, 8), np.float32) for m in (queries, keys, keys))

    def results():
        y, lse = op.forward(q, k, v, None, 0.3, False)
        return y, lse, *op.grad(q, q, k, v, None, y, lse, 0.3, False)

    assert_threads_change_no_bit(results)
