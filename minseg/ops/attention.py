"""Scaled dot-product attention: each query takes the mean of the values whose keys are like it.

    s = scale Q K^T + mask,   p = softmax(s),   y = p V,   scale = 1 / sqrt(E) unless given

A query that may look at no key at all gets 0. The gradients, from that of y, grad, are

    dV = p^T grad,   ds = p (grad V^T - <grad, y>),   dmask = ds,
    dQ = scale ds K,   dK = scale ds^T Q

<grad, y>, one number a query, is what softmax's gradient takes off: sum_j p_ij (grad V^T)_ij.

The weights p, L S elements, are not kept but computed again: p = e^(s - lse), where lse is the
log-sum-exp of a query's scores. With dropout, every step is an op on the tape instead, which finds
the gradient by itself.

Shapes: Q (..., L, E), K (..., S, E), V (..., S, D) -> (..., L, D); leading dimensions broadcast
Source: Vaswani et al., "Attention is all you need", 2017, equation 1; the gradient: Dao et al.,
        "FlashAttention", 2022, appendix B; grouped queries: Ainslie et al., "GQA", 2023
"""

import math
from typing import Any

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.checks import check_tensor
from minseg.ops.dropout import dropout
from minseg.ops.fast import attention as fast
from minseg.ops.op import Op, launch
from minseg.ops.softmax import softmax
from minseg.parallel import blas_on_one_thread
from minseg.tensor import Tensor, record

NAME = "scaled_dot_product_attention"


def attention_definition(
    query: Array, key: Array, value: Array, mask: Array | None, scale: float
) -> Array:
    """The formula for matrices (no leading dimensions), query by query; `mask` is added."""
    y = np.zeros((len(query), value.shape[1]), query.dtype)
    for i, q in enumerate(query):
        added = np.zeros(len(key)) if mask is None else mask[i]
        scores = [scale * float(q @ k) + m for k, m in zip(key, added, strict=True)]
        top = max(scores, default=-math.inf)
        if top == -math.inf:
            continue
        powers = [math.exp(s - top) for s in scores]
        for power, v in zip(powers, value, strict=True):
            y[i] += power / sum(powers) * v
    return y


def _forward_numpy(
    q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool
) -> tuple[Array, Array]:
    """y (N, L, D), and the log-sum-exp of each query's scores (N, L).

    q (N, L, E), k (N, S, E), v (N, S, D); mask (N or 1, L, S) is added to the scores.
    Where there are many scores, fast/attention.py computes the same block by block.
    """
    if fast.fits(q, k):
        return fast.forward(q, k, v, mask, scale, causal)
    with blas_on_one_thread():
        s = _scores(q, k, mask, scale, causal)
        top = _finite(s.max(axis=-1, keepdims=True, initial=-math.inf))
        powers = np.exp(s - top)  # at most 1: without top, which cancels, they might overflow
        total = powers.sum(axis=-1, keepdims=True)
        with np.errstate(divide="ignore"):  # log(0), for a query that sees no key
            lse = top + np.log(total)
        total[total == 0] = 1
        return powers / total @ v, lse[..., 0]


def _grad_numpy(
    grad: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    y: Array,
    lse: Array,
    scale: float,
    causal: bool,
) -> tuple[Array, Array, Array]:
    """dQ, dK and dV."""
    if fast.fits(q, k):
        return fast.grad(grad, q, k, v, mask, y, lse, scale, causal)
    with blas_on_one_thread():
        p = _weights(_scores(q, k, mask, scale, causal), lse)
        ds = _grad_scores(grad, p, v, y)
        return scale * (ds @ k), scale * (ds.mT @ q), p.mT @ grad


def _grad_mask_numpy(
    grad: Array, q: Array, k: Array, v: Array, mask: Array, y: Array, lse: Array, scale: float
) -> Array:
    """dmask (N or 1, L, S); there is no causal mask beside it."""
    if fast.fits(q, k):
        return fast.grad_mask(grad, q, k, v, mask, y, lse, scale)
    with blas_on_one_thread():
        p = _weights(_scores(q, k, mask, scale, causal=False), lse)
        ds = _grad_scores(grad, p, v, y)
    return ds if len(mask) == len(q) else ds.sum(axis=0, keepdims=True)


def _scores(q: Array, k: Array, mask: Array | None, scale: float, causal: bool) -> Array:
    """s (N, L, S), -inf where a query may not look."""
    s = (scale * q) @ k.mT
    if mask is not None:
        s += mask
    if causal:
        later = np.arange(k.shape[1]) > np.arange(q.shape[1])[:, None]  # (L, S)
        s[:, later] = -math.inf
    return s


def _weights(s: Array, lse: Array) -> Array:
    """p (N, L, S), with the log-sum-exp known."""
    return np.exp(s - _finite(lse)[..., None])


def _grad_scores(grad: Array, p: Array, v: Array, y: Array) -> Array:
    """ds (N, L, S)."""
    return p * (grad @ v.mT - (grad * y).sum(axis=-1, keepdims=True))


def _finite(x: Array) -> Array:
    """x, but 0 for -inf: for a query that sees no key, -inf - 0 stays -inf, and e^-inf is 0."""
    return np.where(x == -math.inf, 0, x)


def _forward_cuda(
    q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool
) -> tuple[Array, Array]:
    """kernels/attention.cu: tile by tile; the (L, S) scores are never in memory."""
    xp = array_module(q)
    y, lse = xp.empty((*q.shape[:2], v.shape[2]), q.dtype), xp.zeros(q.shape[:2], q.dtype)
    arrays = contiguous(q, k, v, mask)
    launch("attention_forward", *arrays, y, lse, *_sizes(q, k, v, mask), scale, causal)
    return y, lse


def _grad_cuda(
    grad: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    y: Array,
    lse: Array,
    scale: float,
    causal: bool,
) -> tuple[Array, Array, Array]:
    xp = array_module(grad)
    delta = (grad * y).sum(axis=-1)
    how = (*_sizes(q, k, v, mask), scale, causal)
    grad, q, k, v, mask = contiguous(grad, q, k, v, mask)
    dq, dk, dv = xp.empty_like(q), xp.empty_like(k), xp.empty_like(v)
    launch("attention_grad_query", grad, q, k, v, mask, lse, delta, dq, *how)
    launch("attention_grad_key", grad, q, k, v, mask, lse, delta, dk, *how)
    launch("attention_grad_value", grad, q, k, mask, lse, dv, *how)
    return dq, dk, dv


def _grad_mask_cuda(
    grad: Array, q: Array, k: Array, v: Array, mask: Array, y: Array, lse: Array, scale: float
) -> Array:
    delta = (grad * y).sum(axis=-1)
    sizes = _sizes(q, k, v, mask)
    grad, q, k, v, mask = contiguous(grad, q, k, v, mask)
    dmask = array_module(grad).empty_like(mask)
    launch("attention_grad_mask", grad, q, k, v, mask, lse, delta, dmask, *sizes, scale)
    return dmask


def _sizes(q: Array, k: Array, v: Array, mask: Array | None) -> tuple[int, ...]:
    """N, L, S, E, D, and the number of masks."""
    masks = 1 if mask is None else mask.shape[0]
    return q.shape[0], q.shape[1], k.shape[1], q.shape[2], v.shape[2], masks


op = Op(
    NAME,
    definition=attention_definition,
    numpy={"forward": _forward_numpy, "grad": _grad_numpy, "grad_mask": _grad_mask_numpy},
    cuda={"forward": _forward_cuda, "grad": _grad_cuda, "grad_mask": _grad_mask_cuda},
)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Attention; formula and shapes at the top of this file.

    Args:
        attn_mask: broadcasts to (..., L, S); bool (True: may look) or numbers that are added.
        dropout_p: the probability of dropping an attention weight. Pass 0 for evaluation.
        is_causal: query i may look at the keys 0 .. i only; excludes attn_mask.
        enable_gqa: keys and values may have fewer heads (dimension -3) than queries; each serves
            several consecutive heads of the queries.

    Raises ValueError for shapes that do not fit, TypeError for dtypes that differ.
    """
    for name, x in (("query", query), ("key", key), ("value", value)):
        check_tensor(NAME, name, x, ndim=None, like=query)
        if x.ndim < 2:
            raise ValueError(f"{NAME}: {name} has shape {x.shape}, needs (..., length, size)")
    if enable_gqa:
        key, value = _serve_all_heads("key", key, query), _serve_all_heads("value", value, query)
    _check_shapes(query, key, value)

    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else float(scale)
    if is_causal and attn_mask is not None:
        raise ValueError(f"{NAME}: is_causal and attn_mask exclude each other")
    if attn_mask is not None:
        _check_mask(query, key, value, attn_mask)
    if dropout_p:
        return _on_the_tape(query, key, value, attn_mask, is_causal, scale, dropout_p, generator)
    return _at_once(query, key, value, attn_mask, is_causal, scale)


def _at_once(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """The op above, with all leading dimensions joined to one."""
    batch = _batch(query, key, value)
    q, k, v = (_as_matrices(x, batch, x.shape[-2:]) for x in (query, key, value))
    if mask is not None:
        mask = _as_added(mask, batch, (q.shape[1], k.shape[1]), q.dtype)
    added = None if mask is None else mask.data
    y, lse = op.forward(q.data, k.data, v.data, added, scale, causal)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        dmask = None
        if mask is not None and mask.requires_grad:
            dmask = op.grad_mask(grad, q.data, k.data, v.data, added, y, lse, scale)
        return *op.grad(grad, q.data, k.data, v.data, added, y, lse, scale, causal), dmask

    return record(NAME, y, (q, k, v, mask), backward).reshape(*batch, *y.shape[1:])


def _as_matrices(x: Tensor, batch: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """x, repeated to the shape (*batch, *size), as N = prod(batch) matrices: (N, *size)."""
    x = x if x.shape == (*batch, *size) else x.expand(*batch, *size)
    return x.reshape(math.prod(batch), *size)


def _as_added(mask: Tensor, batch: tuple[int, ...], size: tuple[int, int], dtype: Any) -> Tensor:
    """The mask as numbers to add: (1, L, S) if the whole batch has the same, else (N, L, S)."""
    if mask.dtype == bool:
        mask = Tensor(array_module(mask.data).where(mask.data, 0, -math.inf).astype(dtype))
    own_batch = mask.shape[:-2]
    return _as_matrices(mask, own_batch if math.prod(own_batch) == 1 else batch, size)


def _on_the_tape(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
    dropout_p: float,
    generator: np.random.Generator | None,
) -> Tensor:
    """The formula as it stands, each step an op on the tape."""
    scores = (query * scale) @ key.transpose(-1, -2)  # (..., L, S)
    if causal:
        mask = Tensor(array_module(query.data).tri(*scores.shape[-2:], dtype=bool))
    if mask is not None:
        scores = scores.where(mask, -math.inf) if mask.dtype == bool else scores + mask
    sees = (scores.data != -math.inf).any(axis=-1, keepdims=True)  # a query without keys gets 0
    weights = softmax(scores.where(sees, 0.0), -1).where(sees, 0.0)
    return dropout(weights, dropout_p, generator=generator) @ value


def _batch(*tensors: Tensor) -> tuple[int, ...]:
    return np.broadcast_shapes(*(x.shape[:-2] for x in tensors))


def _check_mask(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"{NAME}: attn_mask is a {type(mask).__name__}, needs a Tensor")
    needed = (*_batch(query, key, value), query.shape[-2], key.shape[-2])
    try:
        fits = np.broadcast_shapes(mask.shape, needed) == needed
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{NAME}: attn_mask has shape {mask.shape}, needs to broadcast to {needed}"
        )
    if mask.dtype not in (bool, query.dtype):
        raise TypeError(f"{NAME}: attn_mask is {mask.dtype}, needs bool or {query.dtype}")


def _serve_all_heads(name: str, x: Tensor, query: Tensor) -> Tensor:
    """(..., few heads, S, E) -> (..., heads of the query, S, E): each repeated several times."""
    if min(x.ndim, query.ndim) < 3 or x.shape[-3] == 0 or query.shape[-3] % x.shape[-3]:
        raise ValueError(
            f"{NAME}: enable_gqa with {name} {x.shape}: its heads (dimension -3) must divide "
            f"those of the query {query.shape}"
        )
    *batch, heads, length, size = x.shape
    groups = query.shape[-3] // heads
    repeated = x.unsqueeze(-3).expand(*batch, heads, groups, length, size)
    return repeated.reshape(*batch, heads * groups, length, size)


def _check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"{NAME}: query {query.shape}, key {key.shape}, value {value.shape}: needs query and "
            "key of one size (last dimension), as many values as keys (the one before)"
        )
    try:
        _batch(query, key, value)
    except ValueError:
        raise ValueError(
            f"{NAME}: the leading dimensions of query {query.shape}, key {key.shape}, value "
            f"{value.shape} do not broadcast"
        ) from None
