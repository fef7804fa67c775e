"""Max-pooling for predictions: the maxima alone, not their indices.

Only a gradient would need the indices. Without them, the maximum of a window is found in two steps:
first that of each of its columns, by comparing whole rows of the image, then that of these maxima.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.fast.planes import as_planes, plane_blocks
from minseg.ops.pool import number_of_windows
from minseg.ops.window import Tap, Window, reads
from minseg.parallel import PASS, parallel_for


def window_maxima(x: Array, window: Window, ceil_mode: bool) -> Array:
    """max_pool2d's y (N, C, H', W') for x (N, C, H, W)."""
    planes, (H, W) = as_planes(x), x.shape[2:]
    height, width = number_of_windows(window, (H, W), ceil_mode)
    rows, cols = reads(window, (H, W), (height, width))
    y = np.empty((len(planes), height, width), x.dtype)
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        inside, best = planes[blocks[index]], y[blocks[index]]
        of_columns = np.empty((len(inside), height, W), x.dtype)
        _largest(inside, rows, of_columns)
        _largest(of_columns.swapaxes(1, 2), cols, best.swapaxes(1, 2))

    parallel_for(one_block, len(blocks), PASS * (planes.size + y.size))
    return y.reshape(*x.shape[:2], height, width)


def _largest(values: Array, taps: list[Tap], out: Array) -> None:
    """out[:, target] = the largest of values[:, source] over the taps; outside is -inf."""
    whole = [target == slice(0, out.shape[1]) for _, target in taps]
    first = whole.index(True) if any(whole) else None
    out[...] = -np.inf if first is None else values[:, taps[first][0]]
    for tap, (source, target) in enumerate(taps):
        if tap != first:
            np.maximum(out[:, target], values[:, source], out=out[:, target])
