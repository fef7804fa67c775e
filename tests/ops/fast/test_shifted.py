"""The convolution of shifted columns: against the definition."""

import numpy as np
import pytest

from minseg import functional as F
from minseg.ops.fast import conv2d, shifted
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.window import Window
from minseg.tensor import Tensor
from tests.ops.fast.test_conv2d_ways import definition, weight_gradient
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_forward(case, dtype):
    x, w, b, window = arguments(case, dtype)
    expected = definition(*(a.astype(np.float64) for a in (x, w, b)), window)
    assert_agree(shifted.forward(x, w, window, Epilogue(b)), expected, dtype, length=w[0].size + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_grad_weight(case, dtype):
    x, w, _, window = arguments(case, dtype)
    size = window.output_size(*x.shape[2:])
    grad = np.random.default_rng(1).standard_normal((len(x), len(w), *size)).astype(dtype)
    expected = weight_gradient(*(a.astype(np.float64) for a in (grad, x)), window)
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

    monkeypatch.setattr(conv2d, "FEW", -1)
    monkeypatch.setattr(shifted, "fits", lambda *_: False)
    plain = results()
    taken = []
    monkeypatch.setattr(shifted, "fits", lambda x, w, how, groups: taken.append(
        how.output_size(*x[2:])[1] == x[3] and how.stride == (1, 1)) or taken[-1])  # fmt: skip
    for got, expected in zip(results(), plain, strict=True):
        assert_agree(got, expected, np.float64, length=x[:, 0].size + w[0].size)
    assert any(taken)


def test_padding_is_not_multiplied():
    """Where an infinite weight meets rows of padding alone there is no 0 * inf = NaN."""
    w = np.ones((1, 1, 3, 1))
    w[0, 0, 0] = np.inf
    y = shifted.forward(np.ones((1, 1, 3, 4)), w, Window((3, 1), (1, 1), (1, 0), (1, 1)))
    np.testing.assert_array_equal(y[0, 0, :, 0], [2, np.inf, np.inf])


@pytest.mark.parametrize(
    "outputs", [5, 301]
)  # the last: so many weights that two threads turn them
def test_weights_are_turned_to_rows_of_the_kernel(outputs):
    w = np.random.default_rng(0).standard_normal((outputs, 100, 3, 3), np.float32)
    matrices = shifted._by_kernel_row(w)
    assert matrices.flags.c_contiguous
    for o, k, i, j in np.random.default_rng(1).integers(0, w.shape, (500, 4)):
        assert matrices[i, o, j * 100 + k] == w[o, k, i, j]
