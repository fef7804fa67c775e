"""Scaled dot-product attention: each query takes the mean of the values whose keys are like it.

    y = softmax(scale Q K^T + mask) V,   scale = 1 / sqrt(E) unless given

A query that may look at no key at all gets 0. Every step is an op on the tape, which finds the
gradient by itself.

Shapes: Q (..., L, E), K (..., S, E), V (..., S, D) -> (..., L, D); leading dimensions broadcast
Source: Vaswani et al., "Attention is all you need", 2017, equation 1; grouped queries: Ainslie et
        al., "GQA", 2023
"""

import math

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import check_tensor
from minseg.ops.dropout import dropout
from minseg.ops.softmax import softmax
from minseg.tensor import Tensor

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
        dropout_p: the probability of dropping an attention weight, always: 0 for evaluation.
        is_causal: query i may look at the keys 0 .. i only; excludes attn_mask.
        enable_gqa: keys and values may have fewer heads (dimension -3); each serves several
            queries' heads in a row.

    Raises ValueError for shapes that do not fit, TypeError for dtypes that differ.
    """
    for name, x in (("query", query), ("key", key), ("value", value)):
        check_tensor(NAME, name, x, ndim=None, like=query)
        if x.ndim < 2:
            raise ValueError(f"{NAME}: {name} has shape {x.shape}, needs (..., length, size)")
    if enable_gqa:
        key, value = _serve_all_heads("key", key, query), _serve_all_heads("value", value, query)
    _check_shapes(query, key, value)

    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    scores = (query * scale) @ key.transpose(-1, -2)  # (..., L, S)
    xp = array_module(query.data)
    if is_causal:
        if attn_mask is not None:
            raise ValueError(f"{NAME}: is_causal and attn_mask exclude each other")
        attn_mask = Tensor(xp.tri(*scores.shape[-2:], dtype=bool))
    if attn_mask is not None:
        scores = _masked(scores, attn_mask)
    sees = (scores.data > -math.inf).any(axis=-1, keepdims=True)  # of no key: 0, and no NaN
    weights = softmax(scores.where(sees, 0.0), -1).where(sees, 0.0)
    return dropout(weights, dropout_p, generator=generator) @ value


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    try:
        fits = np.broadcast_shapes(mask.shape, scores.shape) == scores.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{NAME}: attn_mask has shape {mask.shape}, needs to broadcast to {scores.shape}"
        )
    if mask.dtype == bool:
        return scores.where(mask, -math.inf)
    if mask.dtype != scores.dtype:
        raise TypeError(f"{NAME}: attn_mask is {mask.dtype}, needs bool or {scores.dtype}")
    return scores + mask


def _serve_all_heads(name: str, x: Tensor, query: Tensor) -> Tensor:
    """(..., few heads, S, E) -> (..., heads of the query, S, E): each several times in a row."""
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
        np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    except ValueError:
        raise ValueError(
            f"{NAME}: the leading dimensions of query {query.shape}, key {key.shape}, value "
            f"{value.shape} do not broadcast"
        ) from None
