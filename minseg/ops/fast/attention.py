"""Attention on the CPU, in blocks: some queries of a matrix, or all of several matrices.

minseg/ops/attention.py has the formulas. There, each operation reads and writes all N L S scores;
here a block's scores stay in the cache, and threads share the blocks.

Scores stand transposed, (n, S, rows): a query's in a column. NumPy computes the maxima and sums of
all columns at once, row by row, but those of rows one after the other.

How blocks are cut depends on the shapes alone, so the bits do not depend on the threads.
"""

import math

import numpy as np

from minseg.array import Array
from minseg.ops.fast.exponential import exp
from minseg.parallel import SMALL, parallel_for

FEW = 25_000  # scores: up to so many, attention.py computes all at once
ROW = 64  # scores: what it does once for each query takes as long as so many
BLOCK = 2**18  # scores that one thread computes at once
GROUPS = 4  # the least that N is cut into, if it can be: for several threads
MOST_PARTS = 8  # of the queries: each part has its own gradients to all keys and values

Block = tuple[slice, slice]  # of the N, and of their queries


def fits(q: Array, k: Array) -> bool:
    """Are there so many scores that blocks are quicker?"""
    return q.shape[0] * q.shape[1] * (k.shape[1] + ROW) > FEW


def forward(
    q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool
) -> tuple[Array, Array]:
    """y and the log-sum-exp of each query's scores."""
    y, lse = np.empty((*q.shape[:2], v.shape[2]), q.dtype), np.empty(q.shape[:2], q.dtype)
    blocks = _blocks(q, k)

    def one_block(index: int) -> None:
        n, rows = block = blocks[index]
        powers = _scores(q[block], k[n], _mask_of(mask, block), rows, scale, causal)
        top = _finite(powers.max(axis=1, initial=-math.inf))  # (n, rows)
        powers -= top[:, None]
        exp(powers, out=powers)
        total = powers.sum(axis=1)
        with np.errstate(divide="ignore"):  # a query that sees no key
            lse[block] = top + np.log(total)
        total[total == 0] = 1
        np.divide(powers.swapaxes(1, 2) @ v[n], total[..., None], out=y[block])

    parallel_for(one_block, len(blocks))
    return y, lse


def grad(
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
    """dQ, dK and dV. The latter are sums over all queries: each part of these has its own sums."""
    blocks = _blocks(q, k)
    starts = sorted({rows.start for _, rows in blocks})
    dq = np.empty_like(q)
    dk, dv = (np.empty((len(starts), *a.shape), a.dtype) for a in (k, v))

    def one_block(index: int) -> None:
        n, rows = block = blocks[index]
        own = (grad[block], q[block], k[n], v[n], _mask_of(mask, block), y[block], lse[block])
        p, ds = _weights_and_slopes(*own, rows, scale, causal)
        part = starts.index(rows.start)
        np.matmul(p, grad[block], out=dv[part, n])
        ds *= scale
        np.matmul(ds, q[block], out=dk[part, n])
        np.matmul(ds.swapaxes(1, 2), k[n], out=dq[block])

    parallel_for(one_block, len(blocks))
    if len(starts) == 1:
        return dq, dk[0], dv[0]
    return dq, dk.sum(axis=0), dv.sum(axis=0)


def grad_mask(
    grad: Array, q: Array, k: Array, v: Array, mask: Array, y: Array, lse: Array, scale: float
) -> Array:
    """dmask, matrix by matrix: that of a mask which all share does not need the memory of N."""
    dmask = np.zeros_like(mask)
    for i in range(len(q)):
        n, rows = block = slice(i, i + 1), slice(0, q.shape[1])
        own = (grad[block], q[block], k[n], v[n], _mask_of(mask, block), y[block], lse[block])
        _, ds = _weights_and_slopes(*own, rows, scale, causal=False)
        dmask[i if len(mask) > 1 else 0] += ds[0].T
    return dmask


def _blocks(q: Array, k: Array) -> list[Block]:
    """Blocks: all queries of some of the N, or some of one's."""
    N, queries, keys = q.shape[0], q.shape[1], max(k.shape[1], 1)
    groups = GROUPS if N * queries * keys > SMALL else 1
    group = max(1, min(BLOCK // (max(queries, 1) * keys), -(-N // groups)))
    step = max(1, min(queries, max(BLOCK // keys, -(-queries // MOST_PARTS))))
    return [
        (slice(n, min(n + group, N)), slice(row, min(row + step, queries)))
        for n in range(0, N, group)
        for row in range(0, queries, step)
    ]


def _weights_and_slopes(
    grad: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    y: Array,
    lse: Array,
    rows: slice,
    scale: float,
    causal: bool,
) -> tuple[Array, Array]:
    """p and ds of a block, transposed: (n, S, rows)."""
    p = _scores(q, k, mask, rows, scale, causal)
    p -= _finite(lse)[:, None]
    exp(p, out=p)
    ds = v @ grad.swapaxes(1, 2)
    ds -= np.vecdot(grad, y)[:, None]
    ds *= p
    return p, ds


def _scores(
    q: Array, k: Array, mask: Array | None, rows: slice, scale: float, causal: bool
) -> Array:
    """scale K Q^T + mask^T of a block, (n, S, rows)."""
    scores = k @ (q * scale).swapaxes(1, 2)
    if mask is not None:
        scores += mask.swapaxes(1, 2)
    if causal:
        queries = np.arange(rows.start, rows.stop)
        scores[:, np.arange(k.shape[1])[:, None] > queries] = -math.inf
    return scores


def _mask_of(mask: Array | None, block: Block) -> Array | None:
    n, rows = block
    return None if mask is None else mask[n if len(mask) > 1 else slice(None), rows]


def _finite(x: Array) -> Array:
    """x, but 0 for -inf: for a query that sees no key, -inf - 0 stays -inf."""
    return np.where(x == -math.inf, 0, x)
