"""The convolution of shifted columns: against the definition, and the same bits for any threads."""

import numpy as np
import pytest

import minseg
from minseg import functional as F
from minseg.ops import columns
from minseg.ops.columns import Window
from minseg.ops.conv2d import op
from minseg.ops.fast import shifted
from minseg.ops.fast.epilogue import Epilogue
from minseg.tensor import Tensor
from tests.witness import assert_agree

# x shape, w shape, padding, dilation; the output is as wide as the input
CASES = [
    ((2, 3, 7, 6), (4, 3, 3, 3), (1, 1), (1, 1)),
    ((1, 2, 9, 5), (3, 2, 2, 3), (0, 1), (1, 1)),  # an even kernel, fewer rows
    ((2, 2, 5, 8), (2, 2, 4, 5), (5, 4), (2, 2)),  # more rows
    ((1, 3, 6, 7), (2, 3, 3, 3), (4, 4), (4, 4)),  # the first and last row of the kernel: 2 rows
    ((1, 3, 5, 4), (2, 3, 3, 3), (6, 6), (6, 6)),  # only its middle meets the image
    ((1, 2, 4, 5), (2, 2, 2, 3), (5, 1), (7, 1)),  # rows of output that nothing reaches
    ((3, 4, 6, 5), (2, 4, 1, 3), (0, 1), (1, 1)),
    ((2, 4, 6, 5), (3, 4, 5, 1), (2, 0), (1, 1)),
    ((0, 3, 5, 5), (2, 3, 3, 3), (1, 1), (1, 1)),
    ((2, 70, 9, 8), (5, 70, 3, 3), (1, 1), (1, 1)),  # two tasks of input channels
    ((1, 16, 40, 33), (16, 16, 3, 3), (1, 1), (1, 1)),  # a product in pieces, and a rest
]


def arguments(case, dtype):
    x_shape, w_shape, padding, dilation = case
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    return x, w, b, Window(w_shape[2:], (1, 1), padding, dilation)


def definition(x, w, b, window):
    """As gathered patches: the loops take minutes here; test_conv2d ties the two together."""
    N, _, H, W = x.shape
    (kh, kw), (ph, pw), (dh, dw) = window.kernel, window.padding, window.dilation
    height, width = window.output_size(H, W)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.zeros((N, len(w), height, width)) + b[:, None, None]
    for i, j in np.ndindex(kh, kw):
        patch = padded[:, :, i * dh : i * dh + height, j * dw : j * dw + width]
        y += np.einsum("ok,nkrc->norc", w[:, :, i, j], patch)
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_forward(case, dtype):
    x, w, b, window = arguments(case, dtype)
    expected = definition(*(a.astype(np.float64) for a in (x, w, b)), window)
    assert_agree(shifted.forward(x, w, window, Epilogue(b)), expected, dtype, length=w[0].size + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_grad_weight(case, dtype):
    """It is the derivative of sum(y * grad), which is linear in w: one weight at a time."""
    x, w, _, window = arguments(case, dtype)
    (kh, kw), (dh, dw), (ph, pw) = window.kernel, window.dilation, window.padding
    height, width = window.output_size(*x.shape[2:])
    grad = np.random.default_rng(1).standard_normal((len(x), len(w), height, width)).astype(dtype)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw))).astype(np.float64)
    expected = np.empty(w.shape)
    for i, j in np.ndindex(kh, kw):
        patch = padded[:, :, i * dh : i * dh + height, j * dw : j * dw + width]
        expected[:, :, i, j] = np.einsum("norc,nkrc->ok", grad.astype(np.float64), patch)
    got = shifted.grad_weight(grad, x, w.shape, window)
    assert_agree(got, expected, dtype, length=max(1, grad[:, 0].size))


@pytest.mark.parametrize("case", CASES[:8])
def test_conv2d_takes_it_and_all_gradients_agree_with_im2col(case, monkeypatch):
    x, w, b, window = arguments(case, np.float64)

    def results():
        inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
        y = F.conv2d(*inputs, 1, window.padding, window.dilation)
        y.backward(np.cos(np.arange(y.numel())).reshape(y.shape))
        return [y.data, *(t.grad.data for t in inputs)]

    monkeypatch.setattr(shifted, "fits", lambda *_: False)
    plain = results()
    taken = []
    monkeypatch.setattr(shifted, "fits", lambda x, w, how, groups: taken.append(
        how.output_size(*x[2:])[1] == x[3] and how.stride == (1, 1)) or taken[-1])  # fmt: skip
    for got, expected in zip(results(), plain, strict=True):
        assert_agree(got, expected, np.float64, length=x[:, 0].size + w[0].size)
    assert any(taken)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    x, w, b, window = arguments(((3, 40, 33, 29), (24, 40, 3, 3), (1, 1), (1, 1)), np.float32)
    assert shifted.fits(x.shape, w.shape, window, 1)
    grad = np.random.default_rng(1).standard_normal((3, 24, 33, 29), np.float32)
    threads, results = minseg.get_num_threads(), []
    try:
        for number in (1, 2, 3, 5):
            minseg.set_num_threads(number)
            results.append([
                op.forward(x, w, b, (1, 1), (1, 1), (1, 1), 1),
                op.grad_input(grad, w, x.shape, (1, 1), (1, 1), (1, 1), 1),
                op.grad_weight(grad, x, w.shape, (1, 1), (1, 1), (1, 1), 1),
            ])  # fmt: skip
    finally:
        minseg.set_num_threads(threads)
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_images_that_do_not_lie_in_one_piece():
    x, w, b, window = arguments(CASES[0], np.float64)
    expected = shifted.forward(x, w, window, Epilogue(b))
    turned = np.asfortranarray(x)
    np.testing.assert_array_equal(
        shifted.forward(turned, np.asfortranarray(w), window, Epilogue(b)), expected
    )
    grad = np.cos(np.arange(expected.size)).reshape(expected.shape)
    weights = [shifted.grad_weight(g, i, w.shape, window)
               for g, i in ((grad, x), (np.asfortranarray(grad), turned))]  # fmt: skip
    np.testing.assert_array_equal(*weights)


def test_padding_is_not_multiplied():
    """Where an infinite weight meets rows of padding alone there is no 0 * inf = NaN."""
    w = np.ones((1, 1, 3, 1))
    w[0, 0, 0] = np.inf
    y = shifted.forward(np.ones((1, 1, 3, 4)), w, Window((3, 1), (1, 1), (1, 0), (1, 1)))
    np.testing.assert_array_equal(y[0, 0, :, 0], [2, np.inf, np.inf])


def test_a_small_workspace_goes_to_im2col():
    shapes = (1, 64, 100, 100), (64, 64, 3, 3)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1))
    assert shifted.fits(*shapes, window, 1)
    limit = columns.get_workspace_limit()
    try:
        columns.set_workspace_limit(2**16)
        assert not shifted.fits(*shapes, window, 1)
    finally:
        columns.set_workspace_limit(limit)
