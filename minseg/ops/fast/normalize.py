"""Moments and normalisation on the CPU in one go, for a layer whose groups are its own input's.

The formulas are those of normalization.py, whose parts each read x anew. Here a block of groups is
still in the cache, as d = x - mean, in the results' memory, when the moments are known.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.normalization import for_each_block, inverse_deviation, over, sum_of_rows


def normalize(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, tuple[Array, Array]]:
    """x (B, G, K, L), weight and bias (G, K) -> y, and the mean and the variance (G,), float64."""
    B, G, K, L = x.shape
    y, mean, var = np.empty(x.shape, x.dtype), np.empty(G), np.empty(G)
    rows, results, m = x.reshape(B, G, K * L), y.reshape(B, G, K * L), x[:, :1].size

    def one_block(groups: slice) -> None:
        near = (sum_of_rows(rows[:, groups]) / m).astype(x.dtype)
        d = np.subtract(rows[:, groups], near[:, None], out=results[:, groups])
        rest = sum_of_rows(d) / m  # of the mean: x's precision does not hold all of it
        mean[groups] = near + rest
        var[groups] = np.vecdot(d, d).sum(axis=0, dtype=np.float64) / m - rest * rest
        inverse = inverse_deviation(var[groups], eps)[:, None]
        scale = inverse if weight is None else inverse * weight[groups]
        shift = (0 if bias is None else bias[groups]) - rest[:, None] * scale
        part = y[:, groups]
        part *= over(scale.astype(x.dtype))
        part += over(shift.astype(x.dtype))

    for_each_block(one_block, x)
    return y, (mean, var)
