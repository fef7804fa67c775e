"""Depthwise convolutions of stride 1: the definition, and the same bits for any threads."""

import numpy as np
import pytest

from minseg.ops import conv2d
from minseg.ops.fast import channels_last, depthwise, kernel_columns
from minseg.ops.window import Window
from tests.witness import assert_agree, assert_threads_change_no_bit

WAYS = (channels_last, kernel_columns)

# x shape, kernel, padding, dilation
CASES = [
    ((2, 12, 4, 5), (3, 3), (1, 1), (1, 1)),
    ((1, 9, 1, 1), (3, 3), (1, 1), (1, 1)),  # only the middle of the kernel meets the map
    ((2, 8, 6, 4), (2, 3), (0, 2), (1, 1)),  # an even kernel; fewer rows, more columns
    ((1, 14, 7, 6), (3, 3), (2, 4), (2, 2)),
    ((0, 8, 3, 3), (3, 3), (1, 1), (1, 1)),
]


def arguments(case, dtype):
    x_shape, kernel, padding, dilation = case
    rng, channels = np.random.default_rng(0), x_shape[1]
    x, w, b = (
        rng.standard_normal(s).astype(dtype) for s in (x_shape, (channels, 1, *kernel), (channels,))
    )
    window = Window(kernel, (1, 1), padding, dilation)
    assert kernel_columns.fits(window)
    return x, w, b, window


def by_definition(x, w, b, window):
    how = (window.stride, window.padding, window.dilation, x.shape[1])
    x, w, b = (None if a is None else a.astype(np.float64) for a in (x, w, b))
    return conv2d.conv2d_definition(x, w, b, *how)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_forward(case, dtype, way):
    x, w, b, window = arguments(case, dtype)
    expected, length = by_definition(x, w, b, window), w[0].size + 1
    assert_agree(way.forward(x, w, b, window), expected, dtype, length=length)
    y = way.forward(x, w, b, window, relu=True)
    assert_agree(y, np.maximum(expected, 0), dtype, length=length)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_adjoints(case, dtype, way):
    """<y, g> = <x, grad_input(g)> = <w, grad_weight(g)>, by the definition with unit vectors."""
    x, w, _, window = arguments(case, dtype)
    rng = np.random.default_rng(1)
    g = rng.standard_normal(by_definition(x, w, None, window).shape).astype(dtype)
    dx = np.zeros(x.shape)
    for index in np.ndindex(*x.shape[2:]):  # the channels and images do not mix: all at once
        unit = np.zeros(x.shape)
        unit[(..., *index)] = 1
        dx[(..., *index)] = (by_definition(unit, w, None, window) * g).sum(axis=(2, 3))
    dw = np.zeros(w.shape)
    for i, j in np.ndindex(window.kernel):
        unit = np.zeros(w.shape)
        unit[:, 0, i, j] = 1
        dw[:, 0, i, j] = (by_definition(x, unit, None, window) * g).sum(axis=(0, 2, 3))
    assert_agree(way.grad_input(g, w, window), dx, dtype, length=w[0].size)
    found = way.grad_weight(g, x, w.shape, window)
    assert_agree(found, dw, dtype, length=g[:, 0].size)


def test_the_result_lies_as_the_input_does():
    x, w, b, window = arguments(CASES[0], np.float32)
    tokens = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y, same = (channels_last.forward(a, w, b, window) for a in (x, tokens))
    assert np.array_equal(y, same)
    assert y.flags.c_contiguous
    assert same.transpose(0, 2, 3, 1).flags.c_contiguous


def test_the_layout_says_which_way_is_quicker():
    x, _, _, window = arguments(((2, 24, 9, 13), (3, 3), (1, 1), (1, 1)), np.float32)
    tokens = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert channels_last.fits(tokens, window)
    assert not channels_last.fits(x, window)
    assert channels_last.fits(x[..., :8], window)
    assert not channels_last.fits(tokens, Window((3, 3), (2, 2), (1, 1), (1, 1)))


def test_an_infinite_gradient_does_not_meet_the_padding():
    """At the corner, five of the nine taps read nothing: their gradients stay finite."""
    x, w, _, _ = arguments(((1, 2, 14, 15), (3, 3), (1, 1), (1, 1)), np.float32)
    g = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    g[0, 0, 0, 0] = np.inf
    dw = depthwise.grad_weight(g, x, w.shape, Window((3, 3), (1, 1), (1, 1), (1, 1)))
    reads = np.zeros((3, 3), bool)
    reads[1:, 1:] = True
    assert np.array_equal(dw[0, 0][reads], np.inf * np.sign(x[0, 0, :2, :2].ravel()))
    assert np.isfinite(dw[0, 0][~reads]).all()
    assert np.isfinite(dw[1]).all()


@pytest.mark.parametrize("way", WAYS)
def test_the_bits_do_not_depend_on_the_number_of_threads(way):
    x, w, b, window = arguments(((4, 64, 32, 35), (3, 3), (1, 1), (1, 1)), np.float32)

    def results():
        y = way.forward(x, w, b, window)
        return y, way.grad_input(y, w, window), way.grad_weight(y, x, w.shape, window)

    assert_threads_change_no_bit(results)


def test_nor_where_channels_lie_side_by_side_and_a_thread_has_a_single_one():
    """At stride 2 a plane is summed in one order, however many planes a block has."""
    rng = np.random.default_rng(0)
    x, grad = (
        rng.standard_normal((1, *size, 5), np.float32).transpose(0, 3, 1, 2)
        for size in [(67, 21), (34, 11)]
    )
    how = ((5, 1, 3, 3), Window((3, 3), (2, 2), (1, 1), (1, 1)))
    assert_threads_change_no_bit(lambda: [depthwise.grad_weight(grad, x, *how)])
