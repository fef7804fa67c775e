"""A window that moves over an image, a kernel's or pooling's: where it stands and what it reads."""

from collections.abc import Iterator, Sequence
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


def overlap(positions: slice, offset: int, stride: int, size: int) -> Tap:
    """Position o reads o * stride + offset. Which inputs, and for which o is that inside?"""
    first = max(positions.start, -(offset // stride))
    last = min(positions.stop, -((offset - size) // stride))
    if last <= first:
        return slice(0, 0), slice(0, 0)
    source = slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)
    return source, slice(first - positions.start, last - positions.start)


def taps(
    window: Window, size: Sequence[int], counts: Sequence[int]
) -> Iterator[tuple[int, int, Index, Index]]:
    """For each kernel element (i, j): it reads image[source], for the outputs y[target].

    Images are (..., H, W) with (H, W) = `size`, outputs (..., H', W') with (H', W') = `counts`.
    Outputs for which the element meets padding are not in its target.
    """
    rows, cols = reads(window, size, counts)
    for i, (row_source, row_target) in enumerate(rows):
        for j, (col_source, col_target) in enumerate(cols):
            yield i, j, (..., row_source, col_source), (..., row_target, col_target)


def reads(
    window: Window, size: Sequence[int], counts: Sequence[int]
) -> tuple[list[Tap], list[Tap]]:
    """The sources and targets of each axis alone: of the kernel's rows, and of its columns."""
    rows, cols = (
        [overlap(slice(0, count), i * d - p, s, n) for i in range(k)]
        for n, count, k, s, p, d in zip(
            size, counts, window.kernel, window.stride, window.padding, window.dilation, strict=True
        )
    )
    return rows, cols


@lru_cache
def within_reach(window: Window, height: int, width: int) -> tuple[tuple[slice, slice], Window]:
    """The rows and columns of a kernel that meet the image anywhere, and the window of these alone.

    The others meet padding only: of a 3x3 kernel at a rate as large as the image, all but the
    centre (Chen et al., "Rethinking Atrous Convolution", 2017, section 3.3). Without them there is
    less to compute, and a weight that is NaN there has no effect, as in the definition.
    """
    outputs = window.output_size(height, width)
    (rows, top), (cols, left) = (
        _taps_within_reach(*along)
        for along in zip(
            (height, width), outputs, window.kernel, window.stride, window.padding,
            window.dilation, strict=True,
        )
    )  # fmt: skip
    kernel = rows.stop - rows.start, cols.stop - cols.start
    inner = Window(kernel, window.stride, (top, left), window.dilation)
    if min(top, left) >= 0 and inner.output_size(height, width) == outputs:
        return (rows, cols), inner
    # What is left would need a negative padding, or another one at the bottom or right.
    return (slice(None), slice(None)), window


def _taps_within_reach(
    size: int, count: int, kernel: int, stride: int, padding: int, dilation: int
) -> tuple[slice, int]:
    """Along one axis: the taps that meet the image, and the padding before the first of them."""
    reads = [overlap(slice(0, count), i * dilation - padding, stride, size) for i in range(kernel)]
    meets = [i for i, (source, _) in enumerate(reads) if source != slice(0, 0)] or [0, kernel - 1]
    return slice(meets[0], meets[-1] + 1), padding - meets[0] * dilation
