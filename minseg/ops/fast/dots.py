"""Dot products of long lines, computed without the interpreter's lock.

In a call of np.vecdot for at most 500 dot products, NumPy keeps the lock, however long these are:
no other thread runs meanwhile. So the lines are cut into pieces, until there are more than that.
"""

import math

import numpy as np

from minseg.array import Array

MOST_WITH_LOCK = 500  # dot products in a call: of NumPy's loops, NPY_BEGIN_THREADS_THRESHOLDED
SHORT = 1 << 14  # elements: over before another thread would have been woken up


def dots(a: Array, b: Array, lines: int | None = None) -> Array:
    """sum(a * b) along the last axis; the others broadcast.

    lines: how many products the cut is made for, by default as many as there are. Calls with the
    same `lines` and length add up in the same order.
    """
    if lines is None:
        lines = math.prod(np.broadcast_shapes(a.shape[:-1], b.shape[:-1]))
    length = a.shape[-1]
    if lines > MOST_WITH_LOCK or lines * length < SHORT:
        return np.vecdot(a, b)
    pieces = min(MOST_WITH_LOCK // max(lines, 1) + 1, length)
    whole = length // pieces * pieces
    cut = (each[..., :whole].reshape(*each.shape[:-1], pieces, -1) for each in (a, b))
    total = np.vecdot(*cut).sum(axis=-1)
    return total + np.vecdot(a[..., whole:], b[..., whole:]) if whole < length else total
