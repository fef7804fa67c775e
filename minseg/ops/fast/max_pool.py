"""Max-pooling on the CPU, in the way that is the quickest for its windows.

minseg/ops/max_pool.py goes through the places of all windows one after the other, and assigns under
a mask what is larger. NumPy does that element by element, but comparisons, products and maxima with
vector instructions. So where windows are many or large, there are

    max_pool_2x2.py     2 x 2 at stride 2: comparisons of neighbours
    the ranks below     everything else

(For predictions, which need no indices, max_pool2d itself calls window_maxima.py.)

The maximum of a window is found down its columns first, then along what is left. To find where it
stood, each place of a window has a rank: the earlier in row-major order, the larger. Of the places
equal to the maximum, the one of the largest rank is it.
"""

import math

import numpy as np

from minseg.array import Array
from minseg.ops.checks import Pair
from minseg.ops.fast import max_pool_2x2
from minseg.ops.fast.planes import for_planes
from minseg.ops.pool import starts
from minseg.ops.window import Window, reads

# The plain way takes seven calls of NumPy for each place of a window. So it is the quickest for
SMALL = 9  # places: windows of up to 3 x 3, and
FEW = 512  # windows of all images: up to so many


def fits(x_shape: tuple[int, ...], kernel: Pair, size: Pair) -> bool:
    """Are these ways quicker? `size`: the number of windows along each axis."""
    return math.prod(kernel) > SMALL or math.prod(x_shape[:2] + size) > FEW


def forward(x: Array, window: Window, size: Pair) -> tuple[Array, Array]:
    """max_pool2d's y and indices."""
    y = np.empty((*x.shape[:2], *size), x.dtype)
    indices = np.empty(y.shape, np.int64)
    if max_pool_2x2.fits(window):
        for_planes(max_pool_2x2.forward, x, y, indices)
    else:
        _by_ranks(x, window, y, indices)
    return y, indices


def _by_ranks(x: Array, window: Window, y: Array, indices: Array) -> None:
    (kh, kw), stride, padding, dilation = window
    (H, W), (H_out, W_out) = x.shape[2:], y.shape[2:]
    rows, cols = reads(window, (H, W), (H_out, W_out))
    tops, lefts = starts(H_out, stride[0], padding[0]), starts(W_out, stride[1], padding[1])
    corner = tops[:, None] * W + lefts
    offsets = np.arange(kh)[:, None] * dilation[0] * W + np.arange(kw) * dilation[1]
    offset_of_rank = np.append(0, offsets.ravel()[::-1])
    number = np.min_scalar_type(kh * kw).type  # the smallest type that holds a rank: the fastest

    def largest(x: Array, y: Array, indices: Array) -> None:
        row_best = np.full((len(x), H_out, W), -np.inf, x.dtype)
        row_rank, rank = np.zeros(row_best.shape, number), np.zeros(y.shape, number)
        for source, target in rows:
            np.maximum(row_best[:, target], x[:, source], out=row_best[:, target])
        for i, (source, target) in enumerate(rows):
            hit = x[:, source] == row_best[:, target]
            np.maximum(row_rank[:, target], hit * number(kh - i), out=row_rank[:, target])
        y[...] = -np.inf
        for source, target in cols:
            np.maximum(y[..., target], row_best[..., source], out=y[..., target])
        for j, (source, target) in enumerate(cols):
            hit = row_best[..., source] == y[..., target]
            here = hit * (row_rank[..., source] * number(kw) - number(j))
            np.maximum(rank[..., target], here, out=rank[..., target])
        if np.isnan(y).any():  # NaN equals nothing, so no place has been found for it
            for i, (row_source, row_target) in enumerate(rows):
                for j, (col_source, col_target) in enumerate(cols):
                    nan = np.isnan(x[:, row_source, col_source])
                    rank[:, row_target, col_target][nan] = kh * kw - (i * kw + j)
        np.take(offset_of_rank, rank, out=indices, mode="clip")  # spares the check of the range
        indices += corner

    for_planes(largest, x, y, indices)
