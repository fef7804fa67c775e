import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.fast import pad as fast
from minseg.ops.pad import op
from tests.witness import assert_adjoint

CASES = [
    ((1, 2), "constant", 1.5),
    ((1, 2, 0, 3), "constant", None),
    ((-1, 2, 1, -2), "constant", 0.5),
    ((1, 2, 3, 0), "reflect", None),
    ((1, 2, 3, 0), "replicate", None),
    ((-1, 2, 0, -1), "replicate", None),
    ((2, -4, -3, 1), "reflect", None),  # shows elements that are cropped away
    ((2, 1, 2, 1, 1, 1), "reflect", None),
    ((7, -6, -5, 6), "replicate", None),  # shows nothing but the frame
    ((5, 2, 4, 1), "circular", None),
    ((-1, 2, 0, -1), "circular", None),
    ((), "constant", None),
    ((), "reflect", None),
]


@pytest.fixture(params=["all by index", "lines around the image"])
def way(request, monkeypatch):
    """Both that pad.py may go, whatever the size."""
    monkeypatch.setattr(fast, "FEW", 2**20 if request.param == "all by index" else -1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("pad", "mode", "value"), CASES)
def test_forward_and_gradient(pad, mode, value, dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    widths = tuple((pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2))
    got = F.pad(Tensor(x.astype(dtype).transpose(1, 0, 2, 3)), pad, mode, value)
    expected = op.definition(x.astype(dtype).transpose(1, 0, 2, 3), widths, mode, value or 0.0)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.data, expected)
    assert gradcheck(lambda x: F.pad(x, pad, mode, value), [Tensor(x, requires_grad=True)])
    assert_adjoint(
        lambda x: op.forward(x, widths, mode, 0.0),
        lambda y: op.grad_input(y, x.shape, widths, mode),
        x,
    )


@pytest.mark.usefixtures("way")
def test_by_hand():
    x = Tensor([1.0, 2.0, 3.0])
    for mode, expected in {
        "constant": [0, 0, 1, 2, 3, 0],
        "reflect": [3, 2, 1, 2, 3, 2],
        "replicate": [1, 1, 1, 2, 3, 3],
        "circular": [2, 3, 1, 2, 3, 1],
    }.items():
        np.testing.assert_array_equal(F.pad(x, (2, 1), mode).data, expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1,), TypeError, "pad is 1, needs ints"),
        (((1.0, 2),), TypeError, r"pad is \(1.0, 2\), needs ints"),
        (((1, 2, 3),), ValueError, "needs 2 widths a dimension, at most 2"),
        (((1, 1) * 3,), ValueError, "at most 2"),
        (((1, 1), "mirror"), ValueError, "mode is 'mirror'"),
        (((4, 0), "reflect"), ValueError, "width 4 is more than mode 'reflect' can fill from 4"),
        (((5, 0), "circular"), ValueError, "width 5 is more than mode 'circular' can fill from 4"),
        (((-4, 1), "circular"), ValueError, "width 1 is more than mode 'circular' can fill from 0"),
        (((-3, 2), "circular"), ValueError, "width 2 is more than mode 'circular' can fill from 1"),
        (((-3, -2),), ValueError, "do not fit a dimension of size 4"),
        (((-5, 7),), ValueError, r"widths \(-5, 7\) do not fit a dimension of size 4"),
        (((7, -5),), ValueError, r"widths \(7, -5\) do not fit a dimension of size 4"),
        (((1, 1), "replicate", 2.0), ValueError, 'value 2.0 is for mode "constant"'),
    ],
)
def test_errors_name_the_culprit(arguments, error, message):
    with pytest.raises(error, match=f"^pad: .*{message}"):
        F.pad(Tensor(np.ones((3, 4))), *arguments)
    with pytest.raises(TypeError, match=r"^pad: input is a ndarray, needs a Tensor"):
        F.pad(np.ones((3, 4)), (1, 1))


@pytest.mark.parametrize("widths", [(-4, 0), (-1, -3)])
def test_nothing_may_be_left(widths):
    x = Tensor(np.ones((3, 4)), requires_grad=True)
    y = F.pad(x, widths)
    assert y.shape == (3, 0)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.zeros((3, 4)))
