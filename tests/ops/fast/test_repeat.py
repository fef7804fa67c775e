"""Upsampling by whole numbers against the table of taps, which serves all other sizes."""

import numpy as np
import pytest

from minseg.ops import interpolate
from minseg.ops.fast import interpolate as fast
from minseg.ops.fast import repeat
from minseg.ops.interpolate import _resize
from minseg.ops.interpolate_taps import taps_of, transposed
from tests.witness import assert_adjoint

CASES = {
    "by 2": ((2, 3, 4, 5), (8, 10), (None, None)),
    "by 3 and 1": ((1, 2, 5, 3), (15, 3), (3.0, 1.0)),
    "by 1 and 4": ((2, 1, 3, 2), (3, 8), (None, 4.0)),
    "one pixel": ((1, 2, 1, 1), (7, 5), (None, None)),
    "no image": ((0, 2, 3, 3), (6, 6), (None, None)),
    "several blocks": ((2, 40, 30, 40), (60, 80), (2.0, 2.0)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_equals_the_table(case, how, dtype, monkeypatch):
    monkeypatch.setattr(fast, "FEW", -1)
    shape, out, scales = case
    axes = [taps_of(*axis, how, False, dtype) for axis in zip(shape[2:], out, scales, strict=True)]
    assert repeat.fits(shape[2:], [taps.index for taps in axes])
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(dtype)  # integers: their sums are exact in any order
    grad = rng.integers(-9, 9, (*shape[:2], *out)).astype(dtype)
    for view in (lambda a: a, lambda a: np.asfortranarray(a)):
        y = interpolate.op.forward(view(x), out, scales, how, False)
        dx = interpolate.op.grad_input(view(grad), shape[2:], scales, how, False)
        assert y.dtype == dx.dtype == dtype
        np.testing.assert_array_equal(y, _resize(x, axes))
        turned = [transposed(taps, n) for taps, n in zip(axes, shape[2:], strict=True)]
        if shape[0]:
            np.testing.assert_array_equal(dx, _resize(grad, turned))
    if dtype == np.float64:
        assert_adjoint(
            lambda x: repeat.forward(x, out), lambda g: repeat.grad_input(g, shape[2:]), x
        )


@pytest.mark.parametrize(
    ("size", "out", "scales", "how"),
    [
        ((4, 5), (6, 10), (None, None), "nearest"),
        ((4, 4), (8, 8), (2.5, 2.0), "nearest"),
        ((4, 4), (2, 2), (None, None), "nearest"),
        ((4, 4), (8, 8), (None, None), "linear"),
        ((4,), (8,), (None,), "nearest"),
    ],
)
def test_it_does_not_serve_other_sizes(size, out, scales, how):
    axes = [taps_of(*a, how, False, np.float64) for a in zip(size, out, scales, strict=True)]
    assert not repeat.fits(size, [taps.index for taps in axes])
