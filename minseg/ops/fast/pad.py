"""A frame that is filled from the image itself, on the CPU: the image is copied in one piece.

minseg/ops/pad.py takes every element of the result by its index. Most are the image itself: here
those are copied as whole lines, and then only the few lines around, axis by axis. Each thread has a
share of the first axis. (Smaller shares would be slower: there are many short calls of NumPy, in
which threads wait for each other.)
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from minseg.array import Array
from minseg.parallel import get_num_threads, parallel_for

FEW = 1 << 15  # elements: of so many, indexing them all takes no longer than these few copies


def fits(x: Array, widths: Sequence[tuple[int, int]]) -> bool:
    """Are there many elements, on a first axis without a frame, and is none cropped?"""
    large = isinstance(x, np.ndarray) and x.size > FEW
    return large and len(widths) < x.ndim and min(map(min, widths), default=0) >= 0


def forward(x: Array, sources: Sequence[Array], widths: Sequence[tuple[int, int]]) -> Array:
    """x in a frame; sources: for each place along each of the last axes, what of x it shows."""
    middle = _middle(x.shape, widths)
    y = np.empty((*x.shape[: x.ndim - len(widths)], *map(len, sources)), x.dtype)

    def fill(share: slice) -> None:
        part = y[share]
        part[middle] = x[share]
        for around, shown in _frame(part, sources, middle):
            around[...] = shown

    _for_shares(fill, len(x))
    return y


def grad_input(
    grad: Array,
    x_shape: tuple[int, ...],
    sources: Sequence[Array],
    widths: Sequence[tuple[int, int]],
) -> Array:
    """The same steps back: what lies around is added to what it shows."""
    middle = _middle(x_shape, widths)
    dx = np.empty(x_shape, grad.dtype)

    def fold(share: slice) -> None:
        part = grad[share].copy()
        for around, shown in reversed(list(_frame(part, sources, middle))):
            shown += around
        dx[share] = part[middle]

    _for_shares(fold, len(dx))
    return dx


def _middle(x_shape: tuple[int, ...], widths: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Where x lies in the result."""
    lead = len(x_shape) - len(widths)
    own = [slice(w[0], w[0] + n) for n, w in zip(x_shape[lead:], widths, strict=True)]
    return (*[slice(None)] * lead, *own)


def _frame(
    y: Array, sources: Sequence[Array], middle: tuple[slice, ...]
) -> Iterator[tuple[Array, Array]]:
    """For each place around, axis by axis: its line of y, and the line that it shows."""
    for axis, source in enumerate(sources, y.ndim - len(sources)):
        # Along the axes after this one, the places around are not filled yet.
        lines = np.moveaxis(y[(slice(None),) * (axis + 1) + middle[axis + 1 :]], axis, 0)
        inside = middle[axis]
        for place in [*range(inside.start), *range(inside.stop, len(source))]:
            yield lines[place], lines[inside.start + source[place]]


def _for_shares(body: Callable[[slice], None], length: int) -> None:
    """Call body(slice) with each thread's share of an axis."""
    step = max(1, -(-length // get_num_threads()))
    parallel_for(lambda i: body(slice(i * step, (i + 1) * step)), -(-length // step))
