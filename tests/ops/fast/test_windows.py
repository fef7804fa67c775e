"""Patches as a view of the padded pixels: what the loop over the kernel's elements copies."""

import numpy as np
import pytest

from minseg.ops.fast import blocks, columns, windows
from minseg.ops.fast.blocks import Box
from minseg.ops.window import Window

# x shape, window, box
CASES = [
    ((2, 3, 9, 8), Window((3, 3), (1, 1), (1, 1), (1, 1)), (2, 9, 8)),
    ((2, 3, 16, 13), Window((7, 7), (2, 2), (3, 3), (1, 1)), (2, 8, 7)),
    ((1, 2, 17, 11), Window((7, 5), (4, 3), (3, 0), (1, 1)), (1, 5, 3)),  # the last columns unread
    ((2, 2, 11, 12), Window((2, 3), (2, 1), (1, 2), (3, 2)), (2, 5, 12)),
    ((3, 4, 8, 12), Window((4, 4), (4, 4), (0, 0), (1, 1)), (3, 2, 3)),
    ((2, 4, 9, 7), Window((2, 3), (2, 3), (0, 0), (1, 1)), (2, 4, 2)),  # a row and a column unread
    ((2, 3, 6, 6), Window((2, 2), (2, 2), (1, 1), (1, 1)), (2, 4, 4)),
    ((2, 3, 6, 6), Window((1, 1), (2, 2), (0, 0), (1, 1)), (2, 3, 3)),
    ((1, 2, 5, 5), Window((3, 3), (1, 1), (4, 4), (1, 1)), (1, 11, 11)),  # patches of padding alone
    ((0, 3, 6, 6), Window((3, 3), (1, 1), (1, 1), (1, 1)), (0, 6, 6)),
]


def boxes_of(shape):
    """All of the output, the inside of it, its last row, a piece of its first."""
    n, h, w = shape
    yield Box(slice(0, n), slice(0, h), slice(0, w))
    yield Box(slice(0, n), slice(h - 1, h), slice(0, w))
    yield Box(slice(0, min(n, 1)), slice(0, 1), slice(1, w))
    yield Box(slice(0, n), slice(1, h - 1), slice(0, w))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("x_shape", "window", "shape"), CASES)
def test_gather_copies_what_the_loop_copies(x_shape, window, shape, order, dtype):
    assert window.output_size(*x_shape[2:]) == shape[1:]
    x = np.asarray(np.random.default_rng(0).standard_normal(x_shape), dtype, order=order)
    for box in boxes_of(shape):
        expected = columns.gather(x, window, box).copy()
        windows.buffer((expected.size * 3,), expected.dtype)[...] = np.nan  # the buffer is not new
        got = windows.gather(x, window, box)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("x_shape", "window", "shape"), CASES)
def test_scatter_add_is_its_adjoint(x_shape, window, shape):
    """Of whole numbers, whose sums are exact: <gather(x), y> = <x, scatter_add(y)>."""
    rng = np.random.default_rng(0)
    for box in boxes_of(shape):
        x = rng.integers(-8, 9, x_shape).astype(np.float64)
        got = windows.gather(x, window, box)
        y = rng.integers(-8, 9, got.shape).astype(np.float64)
        expected = (got * y).sum()
        added = np.ones(x_shape)  # it adds to what is there
        windows.scatter_add(y, window, box, added)
        assert (x * (added - 1)).sum() == expected


def test_one_copy_is_made_where_there_is_memory(monkeypatch):
    """Neither a rate that reads many pixels a column nor a small workspace: the loop, then."""
    loops = []
    loop = columns.gather
    monkeypatch.setattr(columns, "gather", lambda *a: loops.append(a) or loop(*a))
    x = np.ones((1, 16, 40, 40), np.float32)
    near, far = (Window((3, 3), (2, 2), (d, d), (d, d)) for d in (1, 6))
    row, rows = (Box(slice(0, 1), slice(0, n), slice(0, 20)) for n in (1, 20))
    for window, box, looped in ((near, row, 0), (near, rows, 0), (far, row, 1), (far, rows, 0)):
        loops.clear()
        windows.gather(x, window, box)
        assert len(loops) == looped
    limit = blocks.get_workspace_limit()
    try:
        blocks.set_workspace_limit(2**16)
        windows.gather(x, near, rows)
        assert len(loops) == 1
    finally:
        blocks.set_workspace_limit(limit)
