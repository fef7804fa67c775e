"""Scale, bias and ReLU of a block of outputs: in each way to convolve, as after it."""

import numpy as np
import pytest

from minseg.ops.fast import blocks, conv2d, im2col, patch_rows, shifted, winograd
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.window import Window

WINDOW = Window((3, 3), (1, 1), (1, 1), (1, 1))
WAYS = {
    "im2col": lambda x, w, epilogue: im2col.forward(x, w, WINDOW, 1, epilogue),
    "patch rows": lambda x, w, epilogue: patch_rows.forward(x, w, WINDOW, epilogue),
    "shifted": lambda x, w, epilogue: shifted.forward(x, w, WINDOW, epilogue),
    "winograd": lambda x, w, epilogue: winograd.forward(x, w, WINDOW, epilogue),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_it_is_a_line_for_each_channel_cut_off_at_0():
    y, scale, bias = draw(2, 3, 4, 5), np.array([2.0, -1.0, 0.0]), np.array([0.5, 0.0, -3.0])
    expected = np.stack([y[:, c] * scale[c] + bias[c] for c in range(3)], axis=1)
    for relu in (False, True):
        out = y.copy()
        Epilogue(bias, scale, relu).apply(out, 1)
        np.testing.assert_array_equal(out, np.where((expected < 0) & relu, 0, expected))
    out = y[:, 1:].copy()
    Epilogue(bias, scale).apply(out, 1, slice(1, 3))  # of some channels
    np.testing.assert_array_equal(out, expected[:, 1:])
    out = y.copy()
    Epilogue().apply(out, 1)
    np.testing.assert_array_equal(out, y)


def test_a_number_that_is_none_shows():
    out = np.array([np.nan, np.inf, -np.inf])
    Epilogue(relu=True).apply(out, 0)
    np.testing.assert_array_equal(out, [np.nan, np.inf, 0])


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_convolve(way, monkeypatch):
    monkeypatch.setattr(blocks, "_workspace_limit", 2**16)  # several blocks
    x, w, scale, bias = draw(2, 8, 20, 17), draw(6, 8, 3, 3, seed=1), draw(6), draw(6, seed=2)
    plain = WAYS[way](x, w, Epilogue())
    expected = np.maximum(plain * scale[:, None, None] + bias[:, None, None], 0)
    result = WAYS[way](x, w, Epilogue(bias, scale, relu=True))
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    assert (expected > 0).any()
    assert (expected == 0).any()


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("size", [(3, 2), (40, 30)])  # fewer outputs than weights, or more
def test_conv2d_scales_weights_or_outputs(groups, size):
    x, w = draw(1, 8, *size), draw(16 if groups < 8 else 8, 8 // groups, 3, 3, seed=1)
    scale, bias = draw(len(w)), draw(len(w), seed=2)
    plain = conv2d.forward(x, w, WINDOW, groups)
    expected = np.maximum(plain * scale[:, None, None] + bias[:, None, None], 0)
    result = conv2d.forward(x, w, WINDOW, groups, Epilogue(bias, scale, relu=True))
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
