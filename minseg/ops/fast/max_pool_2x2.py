"""Max-pooling by 2 x 2 at stride 2, the pooling of most networks, from comparisons of neighbours.

In a window with rows a b and c d, the larger of each row is found first, then the larger of the
two. Three bits say where it was: b > a, d > c and max(c, d) > max(a, b). Each is one comparison of
views of the image; of equal values, the first is chosen. Comparisons with NaN are always false, so
where a maximum is NaN, its place is looked up separately.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.window import Window


def fits(window: Window) -> bool:
    return window == Window((2, 2), (2, 2), (0, 0), (1, 1))


def forward(x: Array, y: Array, indices: Array) -> None:
    """Of planes x (P, H, W): write the maxima to y (P, H', W'), where they stood to the indices."""
    (H, W), (H_out, W_out) = x.shape[1:], y.shape[1:]
    hanging = max(0, 2 * H_out - H), max(0, 2 * W_out - W)
    if any(hanging):  # windows over the edge, with ceil_mode
        x = np.pad(x, ((0, 0), (0, hanging[0]), (0, hanging[1])), constant_values=-np.inf)
    place = _largest(x[:, : 2 * H_out, : 2 * W_out], y)
    np.take(np.array([0, 1, W, W + 1]), place, out=indices, mode="clip")  # "clip": no range check
    indices += 2 * W * np.arange(H_out)[:, None] + 2 * np.arange(W_out)


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
