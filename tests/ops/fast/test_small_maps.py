"""Resizing by products against the definition's loops, and against the way by taps."""

import numpy as np
import pytest

from minseg.ops.fast import interpolate as fast
from minseg.ops.fast import small_maps
from minseg.ops.interpolate import op
from minseg.ops.interpolate_taps import taps_of
from tests.witness import assert_adjoint, assert_agree

SMALL = small_maps.SMALL
CASES = [  # size, new size: to less and more elements, along one axis only, at the limit and beyond
    ((3, 2), (9, 8)),
    ((9, 8), (3, 2)),
    ((4, 7), (4, 30)),
    ((SMALL, 3), (2 * SMALL, 200)),
    ((SMALL + 2, 5), (SMALL + 7, 4)),
]
MODES = ["linear", "cubic", "area", "linear antialias"]


@pytest.fixture(autouse=True)
def however_few(monkeypatch):
    monkeypatch.setattr(fast, "FEW", -1)


def served(size, out, how="linear"):
    lines = zip(size, out, strict=True)
    axes = [taps_of(*line, None, how, False, np.dtype(float)) for line in lines]
    return small_maps.fits(size, axes)


def test_serves_two_axes_that_are_small_before_or_after():
    assert [served(*case) for case in CASES] == [True, True, True, True, False]
    assert served((200, 300), (SMALL, SMALL))
    assert not served((3, 3), (6, 6), "nearest")  # copies
    assert not served((3,), (6,))
    assert not served((3, 3, 3), (6, 6, 6))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize(("size", "out"), CASES)
def test_equals_the_definition_and_has_its_adjoint(size, out, how, dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, *size))
    arguments = (out, (None, None), how, False)
    got = op.forward(x.astype(dtype), *arguments)
    assert_agree(got, op.definition(x, *arguments), dtype, length=16)
    assert_adjoint(
        lambda x: op.forward(x, *arguments), lambda g: op.grad_input(g, size, *arguments[1:]), x
    )


@pytest.mark.filterwarnings("ignore:invalid value")  # inf - inf, of cubic's negative weights
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("how", MODES)
def test_what_is_not_finite_stays_where_it_is_seen(how, value, monkeypatch):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    x[1, 1, 3, 2] = value
    arguments = ((11, 8), (None, None), how, False)
    got, dx = op.forward(x, *arguments), op.grad_input(x, (3, 4), *arguments[1:])
    monkeypatch.setattr(small_maps, "fits", lambda size, axes: False)
    np.testing.assert_array_equal(got, op.forward(x, *arguments))
    np.testing.assert_array_equal(dx, op.grad_input(x, (3, 4), *arguments[1:]))
    assert 0 < (~np.isfinite(got)).sum() < got[1, 1].size
