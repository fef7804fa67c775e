"""What the tests of ops share: agreement within a derived tolerance, the adjoint test, threads."""

from contextlib import contextmanager

import numpy as np

import minseg


def assert_agree(got, expected, dtype, length=1, factor=8):
    """`got` has `dtype` and agrees with `expected` as well as sums of `length` products may.

    Rounding errors of a sum grow like sqrt(length) * eps, in units of the values' scale. A value
    that is not finite must be so, in the same way, in both.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == dtype
    assert got.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    if finite.any():
        scale = max(np.abs(expected[finite]).max(), np.finfo(dtype).tiny)
        tolerance = factor * np.finfo(dtype).eps * np.sqrt(length) * scale
        np.testing.assert_allclose(got[finite], expected[finite], rtol=0, atol=tolerance)


def assert_adjoint(forward, adjoint, x, seed=1):
    """<forward(x), y> = <x, adjoint(y)> for a linear `forward` and a random y."""
    image = forward(x)
    y = np.random.default_rng(seed).standard_normal(image.shape)
    left, right = (image * y).sum(), (x * adjoint(y)).sum()
    scale = np.sqrt((image**2).sum() * (y**2).sum())
    assert abs(left - right) <= 1e-13 * scale * np.sqrt(x.size)


@contextmanager
def on_threads(number):
    """So many threads of minseg's in place of the machine's cores."""
    before = minseg.get_num_threads()
    minseg.set_num_threads(number)
    try:
        yield
    finally:
        minseg.set_num_threads(before)


def assert_threads_change_no_bit(results):
    """results(), some arrays, are the same bits on any number of threads; returns them."""
    expected = None
    for number in (1, 2, 3, 20):
        with on_threads(number):
            got = results()
        expected = got if expected is None else expected
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    return expected
