"""What winograd.py and shifted.py share: a definition, and that bits depend on numbers alone."""

import numpy as np
import pytest

from minseg.ops.conv2d import op
from minseg.ops.fast import blocks, shifted, winograd
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.window import Window
from tests.witness import assert_threads_change_no_bit

WINDOW = Window((3, 3), (1, 1), (1, 1), (1, 1))


def taps(x, window):
    """Each tap of the kernel with the inputs that it meets, (N, C, H', W')."""
    (ph, pw), (dh, dw) = window.padding, window.dilation
    height, width = window.output_size(*x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    for i, j in np.ndindex(window.kernel):
        yield (i, j), padded[:, :, i * dh : i * dh + height, j * dw : j * dw + width]


def definition(x, w, b, window):
    """As gathered patches: the loops take minutes here; test_conv2d ties the two together."""
    y = np.zeros((len(x), len(w), *window.output_size(*x.shape[2:]))) + b[:, None, None]
    for (i, j), patch in taps(x, window):
        y += np.einsum("ok,nkrc->norc", w[:, :, i, j], patch)
    return y


def weight_gradient(grad, x, window):
    """The derivative of sum(y * grad), which is linear in w: one weight at a time."""
    dw = np.empty((grad.shape[1], x.shape[1], *window.kernel))
    for (i, j), patch in taps(x, window):
        dw[:, :, i, j] = np.einsum("norc,nkrc->ok", grad, patch)
    return dw


def draw(*shapes, dtype):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("way", "x_shape", "outputs"),
    [(winograd, (3, 64, 45, 31), 72), (shifted, (3, 40, 33, 29), 24)],
)
def test_the_bits_do_not_depend_on_the_number_of_threads(way, x_shape, outputs):
    """Of conv2d and both gradients, of a shape at which it goes this way."""
    N, C, H, W = x_shape
    x, w, b, grad = draw(
        x_shape, (outputs, C, 3, 3), (outputs,), (N, outputs, H, W), dtype=np.float32
    )
    taken = next(way for way in (winograd, shifted) if way.fits(x.shape, w.shape, WINDOW, 1))
    assert taken is way
    how = ((1, 1), (1, 1), (1, 1), 1)
    assert_threads_change_no_bit(
        lambda: [
            op.forward(x, w, b, *how),
            op.grad_input(grad, w, x.shape, *how),
            op.grad_weight(grad, x, w.shape, *how),
        ]
    )


@pytest.mark.parametrize("way", [winograd, shifted])
def test_images_that_do_not_lie_in_one_piece(way):
    arrays = draw((2, 3, 7, 6), (4, 3, 3, 3), (2, 4, 7, 6), dtype=np.float64)
    results = []
    for x, w, grad in (arrays, map(np.asfortranarray, arrays)):
        y = way.forward(x, w, WINDOW, Epilogue(np.arange(4.0)))
        results.append((y, way.grad_weight(grad, x, w.shape, WINDOW)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("way", [winograd, shifted])
def test_a_small_workspace_goes_another_way(way):
    shapes = ((1, 64, 100, 100), (64, 64, 3, 3))
    assert way.fits(*shapes, WINDOW, 1)
    limit = blocks.get_workspace_limit()
    try:
        blocks.set_workspace_limit(2**16)
        assert not way.fits(*shapes, WINDOW, 1)
    finally:
        blocks.set_workspace_limit(limit)


@pytest.mark.parametrize("way", [winograd, shifted])
def test_what_the_formula_does_not_cover_goes_another_way(way):
    shapes = ((1, 64, 100, 100), (64, 64, 3, 3))
    assert way.fits(*shapes, WINDOW, 1)
    assert not way.fits((1, 128, 100, 100), shapes[1], WINDOW, 2)
    assert not way.fits(*shapes, WINDOW._replace(stride=(1, 2)), 1)
    assert not way.fits(*shapes, WINDOW._replace(stride=(2, 1)), 1)
