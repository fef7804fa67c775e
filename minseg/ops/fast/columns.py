"""im2col of a block: the patches under a kernel as the columns of a matrix, and their adjoint.

Here each element of the kernel is one copy, as in conv2d.py, but of one block of output positions
at a time, in a buffer that stays in the processor's cache. windows.py has a quicker way,
which takes more memory.
"""

from collections.abc import Iterator

from minseg.array import Array
from minseg.ops.fast.blocks import Box, buffer
from minseg.ops.window import Window, overlap

Index = tuple[slice, slice, slice, slice]


def gather(x: Array, window: Window, box: Box) -> Array:
    """The patches of `x` (N, C, H, W) at the positions in `box`, as (C, kh, kw, n, h, w).

    Outside of `x` is 0. The result is not to be written to: it lives in this thread's buffer, which
    the next call overwrites, or, where a patch is a single pixel, it is a view of `x` itself.
    """
    if window.is_pixel and box.shape[0] == 1:
        return x[box.images, :, box.rows, box.cols].swapaxes(0, 1)[:, None, None]
    columns = buffer((x.shape[1], *window.kernel, *box.shape), x.dtype)
    for i, j, source, target in _taps(x, window, box):
        tap = columns[:, i, j]
        piece = x[source].swapaxes(0, 1)
        if piece.shape != tap.shape:
            tap[...] = 0
        tap[target] = piece
    return columns


def scatter_add(columns: Array, window: Window, box: Box, x: Array) -> None:
    """The adjoint of `gather`: add every column's elements to the places of `x` they came from."""
    for i, j, source, target in _taps(x, window, box):
        x[source] += columns[:, i, j][target].swapaxes(0, 1)


def _taps(x: Array, window: Window, box: Box) -> Iterator[tuple[int, int, Index, Index]]:
    """For each kernel element (i, j): what of `x` it reads, and to which positions of the box."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        window.kernel,
        window.stride,
        window.padding,
        window.dilation,
    )
    rows = [overlap(box.rows, i * dh - ph, sh, x.shape[2]) for i in range(kh)]
    cols = [overlap(box.cols, j * dw - pw, sw, x.shape[3]) for j in range(kw)]
    for i, (row_source, row_target) in enumerate(rows):
        for j, (col_source, col_target) in enumerate(cols):
            source = (box.images, slice(None), row_source, col_source)
            yield i, j, source, (slice(None), slice(None), row_target, col_target)
