"""A window that moves over an image, as in convolution and pooling, and what it reads there."""

from functools import lru_cache
from types import EllipsisType
from typing import NamedTuple

from minseg.ops.checks import Pair

Tap = tuple[slice, slice]  # source and target along an axis: what is read, for which outputs
Index = tuple[EllipsisType, slice, slice]


class Window(NamedTuple):
    """How a kernel moves: output o reads the inputs o * stride - padding + k * dilation."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def is_pixel(self) -> bool:
        """Is every patch a single pixel, and every pixel a patch?"""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    def output_size(self, height: int, width: int) -> Pair:
        """Number of positions along each axis; below 1 where the kernel does not fit."""
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
        )
        return (
            (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1,
            (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1,
        )


@lru_cache(maxsize=256)  # finding them anew takes as long as all else in a small convolution
def taps(window: Window, size: Pair, counts: Pair) -> tuple[tuple[int, int, Index, Index], ...]:
    """For each kernel element (i, j): it reads image[source], for the outputs y[target].

    Images are (..., H, W) with (H, W) = `size`, outputs (..., H', W') with (H', W') = `counts`.
    Outputs for which the element meets padding are not in its target.
    """
    rows, cols = reads(window, size, counts)
    return tuple(
        (i, j, (..., row_source, col_source), (..., row_target, col_target))
        for i, (row_source, row_target) in enumerate(rows)
        for j, (col_source, col_target) in enumerate(cols)
    )


def reads(window: Window, size: Pair, counts: Pair) -> tuple[list[Tap], list[Tap]]:
    """The sources and targets of each axis alone: of the kernel's rows, and of its columns."""
    rows, cols = (
        [overlap(slice(0, count), i * d - p, s, n) for i in range(k)]
        for n, count, k, s, p, d in zip(
            size, counts, window.kernel, window.stride, window.padding, window.dilation, strict=True
        )
    )
    return rows, cols


def overlap(positions: slice, offset: int, stride: int, size: int) -> Tap:
    """Output o reads input o * stride + offset: source and target of those that are inside.

    Inputs are 0 ... size - 1. The outputs are `positions`, from whose start the target counts.
    """
    first = max(positions.start, -(offset // stride))
    last = min(positions.stop, -((offset - size) // stride))
    if last <= first:
        return slice(0, 0), slice(0, 0)
    source = slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)
    return source, slice(first - positions.start, last - positions.start)
