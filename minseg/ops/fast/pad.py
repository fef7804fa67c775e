"""A frame that is filled from the image itself, on the CPU: the image is copied in one piece.

minseg/ops/pad.py takes every element of the result by its index. Most are the image itself: here
those are copied as whole lines, and then only the few lines around, axis by axis.
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array

FEW = 1 << 15  # elements: of so many, indexing them all takes no longer than these few copies


def fits(x: Array, widths: Sequence[tuple[int, int]]) -> bool:
    """Are there many elements, and is none cropped that the frame may show?"""
    return isinstance(x, np.ndarray) and x.size > FEW and min(map(min, widths), default=0) >= 0


def forward(x: Array, sources: Sequence[Array], widths: Sequence[tuple[int, int]]) -> Array:
    """x in a frame; sources: for each place along each of the last axes, what of x it shows."""
    lead = x.ndim - len(widths)
    y = np.empty((*x.shape[:lead], *map(len, sources)), x.dtype)
    middle = [slice(0, n) for n in x.shape[:lead]]
    middle += [slice(w[0], w[0] + n) for n, w in zip(x.shape[lead:], widths, strict=True)]
    y[tuple(middle)] = x
    for axis, source in enumerate(sources, lead):
        # Along the axes after this one, the places around are not filled yet.
        lines = np.moveaxis(y[(slice(None),) * (axis + 1) + tuple(middle[axis + 1 :])], axis, 0)
        inside = middle[axis]
        for place in [*range(inside.start), *range(inside.stop, len(source))]:
            lines[place] = lines[inside.start + source[place]]
    return y
