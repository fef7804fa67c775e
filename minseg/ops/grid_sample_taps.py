"""Where grid_sample reads: the taps of each output, axis by axis of the image.

A grid value is a place along an axis; `padding_mode` says what is read for a place outside. The
taps are the elements around the place, each with its weight by the interpolation kernel, and the
derivative of that weight with respect to the grid value. Weights of several axes are multiplied.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from minseg.array import Array
from minseg.ops.interpolate_taps import cubic_kernel


@dataclass(frozen=True)
class Taps:
    """Along one axis, for every output: which elements, their weights, and d weight / d grid."""

    index: Array  # (T, N, outputs); `size` stands for outside
    weight: Array  # (T, N, outputs)
    slope: Array  # (T, N, outputs)


def find_taps(
    grid: Array, size: tuple[int, ...], mode: str, padding_mode: str, align_corners: bool
) -> list[Taps]:
    """The taps of a grid (N, *out, D), for each of the D axes of `size`."""
    flat = grid.reshape(len(grid), math.prod(grid.shape[1:-1]), len(size))
    return [
        _taps(flat[..., -1 - d], length, mode, padding_mode, align_corners)
        for d, length in enumerate(size)
    ]


def samples(axes: list[Taps], size: tuple[int, ...]) -> Iterator[tuple[Array, list[int]]]:
    """For each combination of taps: their indices in a flat image (N, outputs), their numbers."""
    outside = math.prod(size)
    offsets = []  # of each axis' taps; a table is quicker than np.where with unpredictable values
    for d, axis in enumerate(axes):
        table: Array = np.arange(size[d] + 1) * math.prod(size[d + 1 :])
        table[size[d]] = outside
        offsets.append(table.take(axis.index))
    for taps in product(*(range(len(axis.index)) for axis in axes)):
        first, *others = (offset[t] for offset, t in zip(offsets, taps, strict=True))
        yield np.minimum(sum(others, start=first), outside), list(taps)


def weight_of(axes: list[Taps], taps: list[int], slope_of: int | None = None) -> Array:
    """The product of the axes' weights, or of the slope of axis `slope_of` with the others'."""
    factors = [
        axis.slope[t] if d == slope_of else axis.weight[t]
        for d, (axis, t) in enumerate(zip(axes, taps, strict=True))
    ]
    return math.prod(factors[1:], start=factors[0])


def _taps(grid: Array, size: int, mode: str, padding_mode: str, align_corners: bool) -> Taps:
    """Along an axis of `size`, for its grid values (N, outputs)."""
    half = grid.dtype.type(((size - 1) if align_corners else size) / 2)
    place = (grid + 1) * half if align_corners else (grid + 1) * half - grid.dtype.type(0.5)
    slope = np.full_like(place, half)
    if mode != "bicubic":
        place, sign = _inside(place, size, padding_mode, align_corners)
        slope *= sign
    if mode == "nearest":
        index = _index(np.rint(place)[None], size, "zeros", align_corners)
        return Taps(index, np.ones_like(place)[None], np.zeros_like(place)[None])

    first, number = (-1, 4) if mode == "bicubic" else (0, 2)
    step = np.arange(first, first + number, dtype=grid.dtype)[:, None, None]
    before = np.floor(place)
    tap = before + step
    with np.errstate(invalid="ignore"):  # an infinite place: NaN, as in PyTorch
        s = place - before
    if mode == "bicubic":
        s = s - step
        weight, d_weight = cubic_kernel(abs(s)), _cubic_slope(abs(s)) * np.sign(s)
        index = _index(tap, size, padding_mode, align_corners)
    else:
        weight = np.stack([1 - s, s])
        d_weight = np.array([-1, 1], grid.dtype)[:, None, None]
        index = _index(tap, size, "zeros", align_corners)
    as_grid = {"dtype": grid.dtype, "copy": False}
    return Taps(index, weight.astype(**as_grid), (d_weight * slope).astype(**as_grid))


def _cubic_slope(s: Array, a: float = -0.75) -> Array:
    """dk / ds of the cubic kernel."""
    near = (3 * (a + 2) * s - 2 * (a + 3)) * s
    far = (3 * a * s - 10 * a) * s + 8 * a
    return np.where(s <= 1, near, np.where(s >= 2, 0, far))


def _inside(place: Array, size: int, padding_mode: str, align_corners: bool) -> tuple[Array, Array]:
    """The place that is read, and its derivative: 1; -1 where mirrored, 0 where clamped."""
    sign = np.ones_like(place)
    if padding_mode == "zeros":
        return place, sign
    if padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return np.zeros_like(place), np.zeros_like(place)
        with np.errstate(invalid="ignore"):  # an infinite place has no mirror image: see below
            distance = abs(place - place.dtype.type(low))
            rest = np.fmod(distance, place.dtype.type(span))
            odd = np.floor(distance / span) % 2 == 1
        sign = np.where(odd, -1, 1) * np.where(place < low, -1, 1)
        place = (np.where(odd, span - rest, rest) + low).astype(place.dtype)
    held = ~((place > 0) & (place < size - 1))
    place = np.nan_to_num(place, nan=0, posinf=np.inf, neginf=-np.inf)
    return place.clip(0, size - 1), np.where(held, 0, sign).astype(place.dtype)


def _index(tap: Array, size: int, padding_mode: str, align_corners: bool) -> Array:
    """Whole places as indices, with `size` for those outside."""
    if padding_mode != "zeros":
        tap, _ = _inside(tap, size, padding_mode, align_corners)
    whole = np.fmin(np.fmax(tap, -1), size).astype(np.intp)  # -1 for NaN
    return np.append(np.arange(size), [size, size]).take(whole)  # -1 takes the last: `size`
