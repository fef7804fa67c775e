"""Winograd's convolution: against the plain sum in float64."""

import numpy as np
import pytest

from minseg.ops.conv2d import op
from minseg.ops.fast import winograd
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.window import Window
from tests.ops.fast.test_conv2d_ways import definition, weight_gradient
from tests.witness import assert_agree

# x shape, w shape, padding
CASES = [
    ((2, 3, 6, 8), (4, 3, 3, 3), (1, 1)),
    ((3, 2, 7, 9), (3, 2, 3, 3), (1, 1)),  # an odd number of rows and columns
    ((2, 3, 8, 6), (5, 3, 3, 3), (0, 0)),
    ((1, 3, 5, 7), (2, 3, 3, 3), (2, 2)),
    ((2, 4, 9, 4), (3, 4, 3, 3), (0, 2)),
    ((2, 1, 3, 3), (1, 1, 3, 3), (0, 0)),  # a single output
    ((1, 2, 1, 1), (2, 2, 3, 3), (1, 1)),  # a single input
    ((5, 70, 20, 11), (66, 70, 3, 3), (1, 1)),
    ((0, 3, 5, 5), (2, 3, 3, 3), (1, 1)),
]


@pytest.fixture(params=[2**12, winograd.BLOCK_BYTES], ids=["rows", "images"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(winograd, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(winograd, "TILES", 4)


def arguments(case, dtype):
    x_shape, w_shape, padding = case
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    return x, w, b, Window((3, 3), (1, 1), padding, (1, 1))


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_forward(case, dtype):
    x, w, b, window = arguments(case, dtype)
    expected = definition(*(a.astype(np.float64) for a in (x, w, b)), window)
    assert_agree(winograd.forward(x, w, window, Epilogue(b)), expected, dtype, length=w[0].size + 1)
    relu = winograd.forward(x, w, window, Epilogue(b, relu=True))
    assert_agree(relu, np.maximum(expected, 0), dtype, length=w[0].size + 1)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_grad_weight(case, dtype):
    x, w, _, window = arguments(case, dtype)
    size = window.output_size(*x.shape[2:])
    grad = np.random.default_rng(1).standard_normal((len(x), len(w), *size)).astype(dtype)
    expected = weight_gradient(*(a.astype(np.float64) for a in (grad, x)), window)
    got = winograd.grad_weight(grad, x, w.shape, window)
    assert_agree(got, expected, dtype, length=max(1, grad[:, 0].size))


def conv2d_and_gradients(x, w, grad, padding):
    how = ((1, 1), padding, (1, 1), 1)
    return [
        op.forward(x, w, None, *how),
        op.grad_input(grad, w, x.shape, *how),
        op.grad_weight(grad, x, w.shape, *how),
    ]


@pytest.mark.parametrize("padding", [(1, 1), (0, 2)])
def test_conv2d_takes_it_and_all_gradients_agree_with_the_other_ways(padding, monkeypatch):
    x, w, _, window = arguments(((2, 64, 60, 40), (80, 64, 3, 3), padding), np.float64)
    height, width = window.output_size(60, 40)
    grad = np.random.default_rng(1).standard_normal((2, 80, height, width))
    taken, fits = [], winograd.fits
    monkeypatch.setattr(winograd, "fits", lambda *a: taken.append(fits(*a)) or taken[-1])
    results = conv2d_and_gradients(x, w, grad, padding)
    assert taken == [True, True, True]
    monkeypatch.setattr(winograd, "fits", lambda *_: False)
    for got, expected in zip(results, conv2d_and_gradients(x, w, grad, padding), strict=True):
        assert_agree(got, expected, np.float64, length=grad[:, 0].size)


def test_a_nan_reaches_the_outputs_that_read_it_and_no_other():
    x, w, b, window = arguments(CASES[0], np.float64)
    x[1, 2, 3, 4] = np.nan
    expected = definition(x, w, b, window)
    np.testing.assert_array_equal(
        np.isnan(winograd.forward(x, w, window, Epilogue(b))), np.isnan(expected)
    )
    assert np.isnan(expected).sum() == 9 * len(w)


def test_an_infinite_input_is_no_reason_to_warn():
    x, w, b, window = arguments(CASES[0], np.float64)
    x[1, 2, 3, 4] = np.inf
    y = winograd.forward(x, w, window, Epilogue(b))  # a warning is an error here
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(definition(x, w, b, window)))
    assert not np.isfinite(winograd.grad_weight(np.ones_like(y), x, w.shape, window)).all()


def test_many_channels_go_another_way():
    """Their transformed kernels would take more memory than the workspace is to have."""
    window = Window((3, 3), (1, 1), (1, 1), (1, 1))
    assert winograd.fits((8, 256, 32, 32), (256, 256, 3, 3), window, 1)
    assert not winograd.fits((8, 512, 32, 32), (512, 512, 3, 3), window, 1)


@pytest.mark.parametrize("case", CASES[:-1])
def test_memory_is_as_much_as_is_said(case, monkeypatch):
    x, w, b, window = arguments(case, np.float64)
    asked = []
    buffer = winograd.buffer
    monkeypatch.setattr(winograd, "buffer", lambda *a: asked.append(a[0][0]) or buffer(*a))
    monkeypatch.setattr(winograd, "BLOCKS", 1)
    y = winograd.forward(x, w, window, Epilogue(b))
    height, width = (-(-n // 2) for n in y.shape[2:])
    if width >= winograd.SMALLEST_MAP // 2:
        assert max(asked) * 8 <= len(x) * height * width * winograd._bytes_a_tile(w.shape, 8)
