"""e^x as a power of 2, however this machine computes it, against float64."""

import numpy as np
import pytest

from minseg.ops.fast import exponential


def off_by(power, unit):
    x = np.linspace(-87, 88, 200_001).astype(np.float32)
    y = power(x * np.float32(unit))
    return (abs(y / np.exp(x.astype(np.float64)) - 1) / np.maximum(1, abs(x))).max()


@pytest.mark.parametrize(("power", "unit"), [(np.exp, 1.0), (np.exp2, np.log2(np.e)), (None, None)])
def test_as_exact_as_it_says(power, unit):
    """An own rounding of NumPy's, of up to 4 eps / 2, and |x| eps / 2 of the argument, twice: once
    for UNIT, once for the product."""
    if power is None:
        power, unit = exponential.POWER, exponential.UNIT
    assert off_by(power, unit) <= 6 * np.finfo(np.float32).eps / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits(dtype):
    x = np.array([0, -0.0, -np.inf, np.inf, np.nan, -1e9], dtype)
    out = np.empty_like(x)
    exponential.exp(x, out)
    np.testing.assert_array_equal(out, np.array([1, 1, 0, np.inf, np.nan, 0]))


def test_float64_keeps_its_digits():
    x = np.linspace(-700, 700, 1001)
    out = np.empty_like(x)
    exponential.exp(x, out)
    np.testing.assert_allclose(out, np.exp(x), rtol=2e-16)
