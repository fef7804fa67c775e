"""Max-pooling by 2 x 2 at stride 2, the pooling of most networks, from comparisons of neighbours.

In a window with rows a b and c d, the larger of each row is found first, then the larger of the
two. Three bits say where it was: b > a, d > c and max(c, d) > max(a, b). Each is one comparison of
views of the image; of equal values, the first is chosen. Comparisons with NaN are always false, so
where a maximum is NaN, its place is looked up separately.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.checks import Pair
from minseg.ops.pool import plane_blocks
from minseg.parallel import parallel_for


def serves(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> bool:
    return kernel == stride == (2, 2) and padding == (0, 0) and dilation == (1, 1)


def forward(planes: Array, size: Pair) -> tuple[Array, Array]:
    """The maxima of planes (P, H, W), and their indices row * W + column: each (P, *size)."""
    H, W = planes.shape[1:]
    hanging = tuple(max(0, 2 * count - n) for n, count in zip((H, W), size, strict=True))
    y = np.empty((len(planes), *size), planes.dtype)
    indices = np.empty(y.shape, np.int64)
    offsets = np.array([0, 1, W, W + 1])
    corner = 2 * W * np.arange(size[0])[:, None] + 2 * np.arange(size[1])
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        block = blocks[index]
        inside = planes[block]
        if any(hanging):  # windows over the edge, with ceil_mode
            frame = ((0, 0), (0, hanging[0]), (0, hanging[1]))
            inside = np.pad(inside, frame, constant_values=-np.inf)
        inside = inside[:, : 2 * size[0], : 2 * size[1]]
        place = _largest(inside, y[block])
        np.take(offsets, place, out=indices[block], mode="clip")  # "clip": skips the range check
        indices[block] += corner

    parallel_for(one_block, len(blocks))
    return y, indices


def _largest(inside: Array, best: Array) -> Array:
    """Write the maximum of each window into `best`; return its place: 0, 1 above, 2, 3 below."""
    left, right = inside[..., 0::2], inside[..., 1::2]
    larger = np.maximum(left, right)
    is_right = np.greater(right, left)
    above, below = larger[:, 0::2], larger[:, 1::2]
    np.maximum(above, below, out=best)
    is_below = np.greater(below, above)
    place = is_right[:, 0::2] ^ (is_below & (is_right[:, 0::2] ^ is_right[:, 1::2]))
    place = (is_below.view(np.uint8) << 1) | place.view(np.uint8)
    if np.isnan(best).any():
        for number, (i, j) in enumerate(np.ndindex(2, 2)):  # of several NaNs, the last counts
            place[np.isnan(inside[:, i::2, j::2])] = number
    return place
