"""Resizing on the CPU, in the way that is the quickest for its sizes.

minseg/ops/interpolate.py takes what all outputs read, all taps at once. That is quick for few
elements. For more there are

    repeat.py       nearest pixels, upsampled by whole factors: no table is needed
    small_maps.py   finite maps with a short side: products with the tables as matrices
    _tap_by_tap     everything else: blocks of images that stay in the cache, one tap at a time
"""

import math
from collections.abc import Sequence

import numpy as np

from minseg.array import Array
from minseg.ops.fast import repeat, small_maps
from minseg.ops.interpolate_taps import Taps, transposed
from minseg.parallel import PASS, parallel_for

FEW = 2000  # elements times taps along an axis: up to so many are taken at once
BLOCK_BYTES = 2**19  # a block of images that is still in the cache when its second axis is resized


def fits(shape: tuple[int, ...], axes: Sequence[Taps]) -> bool:
    """Is one of these ways quicker, for x of this shape?"""
    before = math.prod(shape[2:])
    after = math.prod(taps.index.shape[1] for taps in axes)
    most_taps = max(len(taps.index) for taps in axes)
    return math.prod(shape[:2]) * max(before, after) * most_taps > FEW


def forward(x: Array, axes: Sequence[Taps]) -> Array:
    """x (N, C, *size) -> (N, C, *out)."""
    if repeat.fits(x.shape[2:], [taps.index for taps in axes]):
        return repeat.forward(x, [taps.index.shape[1] for taps in axes])
    return _in_blocks(x, axes)


def grad_input(grad: Array, size: tuple[int, ...], axes: Sequence[Taps]) -> Array:
    """grad (N, C, *out) -> (N, C, *size); `axes` are those of the forward."""
    if repeat.fits(size, [taps.index for taps in axes]):
        return repeat.grad_input(grad, size)
    return _in_blocks(grad, [transposed(taps, n) for taps, n in zip(axes, size, strict=True)])


def _in_blocks(x: Array, axes: Sequence[Taps]) -> Array:
    out = tuple(taps.index.shape[1] for taps in axes)
    y = np.empty((*x.shape[:2], *out), x.dtype)
    planes, results = x.reshape(-1, *x.shape[2:]), y.reshape(-1, *out)
    # Rows are copied whole, columns element by element. So columns are resized while the image is
    # small: first if it grows, else last.
    order = list(range(len(axes)))
    if y.size > x.size:
        order.reverse()
    step = max(1, BLOCK_BYTES // (max(math.prod(out), planes[:1].size) * x.itemsize))
    by_products = small_maps.fits(x.shape[2:], axes)

    def one_block(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        part = planes[block]
        if by_products and np.isfinite(part).all():
            small_maps.resize(part, results[block], axes)
            return
        for axis in order:
            part = _tap_by_tap(part, axes[axis], axis + 1)
        results[block] = part

    parallel_for(one_block, -(-len(planes) // step), PASS * (x.size + y.size))
    return y


def _tap_by_tap(x: Array, taps: Taps, axis: int) -> Array:
    along = (-1,) + (1,) * (x.ndim - axis - 1)
    total = None
    for index, weight in zip(taps.index, taps.weight, strict=True):
        part = x.take(index, axis=axis, mode="clip")  # "clip": skips the range check
        part *= weight.reshape(along)
        total = part if total is None else np.add(total, part, out=total)
    return total
