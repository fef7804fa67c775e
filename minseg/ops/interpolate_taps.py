"""What interpolation does along one axis: which inputs each output reads, with which weights.

The formulas of the places and kernels stand at the top of interpolate.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from minseg.array import Array


def linear_kernel(s: Array) -> Array:
    """k(s) of linear interpolation: one tap on either side."""
    return np.maximum(1 - s, 0)


def cubic_kernel(s: Array, a: float = -0.75) -> Array:
    """k(s) of cubic convolution: two taps on either side."""
    near = ((a + 2) * s - (a + 3)) * s * s + 1
    far = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
    return np.where(s <= 1, near, np.where(s >= 2, 0, far))


# how an axis is treated with antialias -> the kernel, and how many taps it reaches to either side
ANTIALIASED: dict[str, tuple[Callable[[Array], Array], int]] = {
    "linear antialias": (linear_kernel, 1),
    "cubic antialias": (partial(cubic_kernel, a=-0.5), 2),
}


@dataclass(frozen=True, eq=False)  # hashed and compared by identity, as a key of caches
class Taps:
    """How one axis is resized: y[o] = sum over t of weight[t, o] * x[index[t, o]]."""

    index: np.ndarray  # (T, out)
    weight: np.ndarray  # (T, out)


@lru_cache(maxsize=256)
def taps_of(
    size: int, out: int, scale: float | None, how: str, align_corners: bool, dtype: np.dtype
) -> Taps:
    """The table of an axis of `size` that becomes `out`; `scale` as the caller gave it, or None.

    `how`: "nearest", "nearest-exact", "linear", "cubic", "area", or one of ANTIALIASED.
    """
    o = np.arange(out)
    if how == "area":
        return _area_taps(size, out, dtype)
    if how in ("nearest", "linear") and out == size:  # whatever the scale, as PyTorch has it
        return Taps(o[None], np.ones((1, out), dtype))
    if how in ("nearest", "nearest-exact"):
        # Rounding decides which pixel is taken: in float32, as in PyTorch, it is the same one.
        apart = np.float32(1 / scale) if scale else np.float32(size) / np.float32(out)
        place = (o + (how == "nearest-exact") / 2).astype(np.float32) * apart
        return Taps(place.astype(np.intp).clip(0, size - 1)[None], np.ones((1, out), dtype))

    if align_corners:
        step = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        step = 1 / scale if scale else size / out
    if how in ANTIALIASED:
        return _antialias_taps(size, out, step, how, dtype)
    place = o * step if align_corners else (o + 0.5) * step - 0.5
    if how == "linear":
        place = place.clip(0, size - 1)
        tap = np.floor(place) + np.arange(2)[:, None]
        weight = linear_kernel(abs(place - tap))
    else:
        tap = np.floor(place) + np.arange(-1, 3)[:, None]
        weight = cubic_kernel(abs(place - tap))
    return Taps(tap.astype(np.intp).clip(0, size - 1), weight.astype(dtype))


def _area_taps(size: int, out: int, dtype: np.dtype) -> Taps:
    start = np.arange(out) * size // out
    length = -(-np.arange(1, out + 1) * size // out) - start
    index, parts = _windows(start, length)
    return Taps(index, (1 / (length * parts)).astype(dtype))


def _antialias_taps(size: int, out: int, step: float, how: str, dtype: np.dtype) -> Taps:
    kernel, reach = ANTIALIASED[how]
    stretch = max(step, 1.0)
    place = (np.arange(out) + 0.5) * step - 0.5
    start = np.maximum(np.floor(place - reach * stretch).astype(np.intp) + 1, 0)
    stop = np.minimum(np.ceil(place + reach * stretch).astype(np.intp), size)
    index, parts = _windows(start, stop - start)
    weight = kernel(abs(place - index) / stretch) / parts
    return Taps(index, (weight / weight.sum(axis=0)).astype(dtype))


def _windows(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The elements that windows of different lengths read, and in how many parts: (T, out) each.

    A window shorter than T reads its last element several times, each an equal part of it. (With
    weights of zero instead, an infinite element would give 0 * inf = NaN.)
    """
    t = np.arange(length.max())[:, None]
    parts = np.where(t < length - 1, 1, len(t) - length + 1)
    return start + np.minimum(t, length - 1), parts


@lru_cache(maxsize=256)
def transposed(taps: Taps, size: int) -> Taps:
    """The transposed table of an axis with `size` inputs: which outputs did each input reach?"""
    used = taps.weight != 0
    source = taps.index[used]
    order = np.argsort(source, kind="stable")
    source, output = source[order], np.nonzero(used)[1][order]
    count = np.bincount(source, minlength=size)
    rank = np.arange(len(source)) - (np.cumsum(count) - count)[source]
    index = np.zeros((count.max(), size), np.intp)  # where fewer outputs were reached, weight is 0
    weight = np.zeros((count.max(), size), taps.weight.dtype)
    index[rank, source] = output
    weight[rank, source] = taps.weight[used][order]
    return Taps(index, weight)
