"""Resizing small maps: along each axis, one product with its table of taps as a matrix.

    y = R x C^T     R (H', H), C (W', W)

Each row of R and C is zero but for two or four weights. For a small matrix, BLAS multiplies by all
the zeros sooner than NumPy gathers the elements from short rows, weights them and adds them up: one
such pass over an element takes as long as some 20 multiplications.

Zero times infinity is NaN, so this is for finite maps only.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from minseg.array import Array
from minseg.ops.interpolate_taps import Taps

SMALL = 64  # pixels of a side, before or after: larger matrices have too many zeros


def fits(size: Sequence[int], axes: Sequence[Taps]) -> bool:
    """Two axes, each small before or after, at least one of which is not merely copied."""
    lengths = [taps.index.shape for taps in axes]
    return (
        len(axes) == 2
        and any(taps > 1 for taps, _ in lengths)
        and all(min(n, out) <= SMALL for n, (_, out) in zip(size, lengths, strict=True))
    )


def resize(x: Array, y: Array, axes: Sequence[Taps]) -> None:
    """x (P, H, W), finite, into y (P, H', W')."""
    (_, H, W), width = x.shape, y.shape[2]
    rows, columns = _matrix(axes[0], H), _matrix(axes[1], W)
    if y.size > x.size:
        wider = x.reshape(-1, W) @ columns.T
        np.matmul(rows, wider.reshape(-1, H, width), out=y)
    else:
        shorter = rows @ x
        np.matmul(shorter.reshape(-1, W), columns.T, out=y.reshape(-1, width))


@lru_cache(maxsize=256)
def _matrix(taps: Taps, size: int) -> Array:
    """(out, size)"""
    out = taps.index.shape[1]
    matrix = np.zeros((out, size), taps.weight.dtype)
    np.add.at(matrix, (np.arange(out), taps.index), taps.weight)  # several taps may be one pixel
    return matrix
