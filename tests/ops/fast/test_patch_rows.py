"""Patches as rows of a matrix: the definition, the adjoints, and the same bits for any threads."""

import numpy as np
import pytest

from minseg.ops import conv2d
from minseg.ops.fast import patch_rows
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.window import Window
from tests.witness import assert_agree, assert_threads_change_no_bit

# x shape, outputs, kernel, stride, padding, dilation
CASES = [
    ((2, 3, 8, 12), 5, (4, 4), (4, 4), (0, 0), (1, 1)),  # patches side by side
    ((2, 3, 9, 11), 4, (4, 4), (4, 4), (0, 0), (1, 1)),  # and some pixels left over
    ((3, 4, 7, 10), 5, (3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 2, 6, 9), 3, (2, 3), (1, 3), (0, 2), (1, 1)),
    ((2, 2, 9, 8), 3, (3, 2), (2, 1), (2, 1), (2, 3)),
    ((2, 2, 8, 8), 3, (2, 2), (2, 2), (1, 1), (2, 2)),  # as large as its stride, but dilated
    ((2, 3, 5, 4), 2, (1, 1), (2, 1), (0, 0), (1, 1)),
    ((0, 3, 5, 5), 2, (3, 3), (2, 2), (1, 1), (1, 1)),
]


def pixel_by_pixel(rng, n, c, h, w, dtype=np.float32):
    return rng.standard_normal((n, h, w, c)).astype(dtype).transpose(0, 3, 1, 2)


def arguments(case, dtype=np.float32):
    x_shape, outputs, kernel, *how = case
    rng, window = np.random.default_rng(0), Window(kernel, *how)
    x = pixel_by_pixel(rng, *x_shape, dtype)
    w = rng.standard_normal((outputs, x_shape[1], *kernel)).astype(dtype)
    b = rng.standard_normal(outputs).astype(dtype)
    grad = pixel_by_pixel(rng, len(x), outputs, *window.output_size(*x.shape[2:]), dtype)
    return x, w, b, grad, window


def by_definition(x, w, b, window):
    x, w, b = (None if a is None else a.astype(np.float64) for a in (x, w, b))
    return conv2d.conv2d_definition(
        x, w, b, window.stride, window.padding, window.dilation, groups=1
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_forward(case, dtype):
    x, w, b, _, window = arguments(case, dtype)
    expected, length = by_definition(x, w, b, window), w[0].size + 1
    y = patch_rows.forward(x, w, window, Epilogue(b))
    assert_agree(y, expected, dtype, length=length)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    y = patch_rows.forward(x, w, window, Epilogue(b, relu=True))
    assert_agree(y, np.maximum(expected, 0), dtype, length=length)
    without = by_definition(x, w, None, window)
    assert_agree(patch_rows.forward(x, w, window), without, dtype, length=length)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_adjoints(case, dtype):
    """<y, g> = <x, grad_input(g)> = <w, grad_weight(g)>, by the definition with unit vectors."""
    x, w, _, g, window = arguments(case, dtype)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for index in np.ndindex(*x.shape[1:]):  # the images do not mix: all at once
        unit = np.zeros(x.shape)
        unit[(slice(None), *index)] = 1
        dx[(slice(None), *index)] = (by_definition(unit, w, None, window) * g).sum(axis=(1, 2, 3))
    for index in np.ndindex(*w.shape[1:]):  # nor do the outputs
        unit = np.zeros(w.shape)
        unit[(slice(None), *index)] = 1
        dw[(slice(None), *index)] = (by_definition(x, unit, None, window) * g).sum(axis=(0, 2, 3))
    found = patch_rows.grad_input(g, w, x.shape, window)
    assert_agree(found, dx, dtype, length=w[:, 0].size)
    found = patch_rows.grad_weight(g, x, w.shape, window)
    assert_agree(found, dw, dtype, length=g[:, 0].size)


def test_many_blocks_give_what_one_gives(monkeypatch):
    """Some rows of an image, several images, and fewer images in the last block."""
    x, w, b, g, window = arguments(((5, 3, 13, 10), 4, (3, 3), (2, 2), (1, 1), (1, 1)))
    wanted = by_definition(x, w, b, window)
    whole = (
        patch_rows.grad_input(g, w, x.shape, window),
        patch_rows.grad_weight(g, x, w.shape, window),
    )
    patch_bytes = w[0].size * 4 * g.shape[3]
    for rows in (1, 3, 14):
        monkeypatch.setattr(patch_rows, "BLOCK_BYTES", rows * patch_bytes)
        assert_agree(
            patch_rows.forward(x, w, window, Epilogue(b)), wanted, x.dtype, length=w[0].size + 1
        )
        dx = patch_rows.grad_input(g, w, x.shape, window)
        assert_agree(dx, whole[0], x.dtype, length=w[:, 0].size)
        dw = patch_rows.grad_weight(g, x, w.shape, window)
        assert_agree(dw, whole[1], x.dtype, length=g[:, 0].size)


def test_the_layout_says_which_way_is_quicker():
    x, w, _, _, _ = arguments(CASES[2])
    assert patch_rows.fits(x, w.shape, 5, groups=1)
    assert not patch_rows.fits(np.ascontiguousarray(x), w.shape, 5, groups=1)
    assert not patch_rows.fits(x, w.shape, 5, groups=2)
    assert not patch_rows.fits(x, w.shape, 2**20, groups=1)  # a row of patches of 150 MB


def test_the_bits_do_not_depend_on_the_number_of_threads():
    x, w, b, g, window = arguments(((4, 32, 60, 62), 64, (3, 3), (2, 2), (1, 1), (1, 1)))
    assert_threads_change_no_bit(
        lambda: [
            patch_rows.forward(x, w, window, Epilogue(b)),
            patch_rows.grad_input(g, w, x.shape, window),
            patch_rows.grad_weight(g, x, w.shape, window),
        ]
    )
