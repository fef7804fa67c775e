import math

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.dropout import op


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_forward_equals_the_definition(p, dtype):
    rng = np.random.default_rng(0)
    x, keep = rng.standard_normal((2, 3, 4, 5)).astype(dtype), rng.random((2, 3, 1, 1)) >= p
    got, expected = op.forward(x, keep, p), op.definition(x, keep, p)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_as_many_fall_as_should_and_the_mean_stays(p):
    count = 40000
    y = F.dropout(Tensor(np.ones(count)), p, generator=np.random.default_rng(0)).data
    kept = (y != 0).sum()
    assert abs(kept - count * (1 - p)) < 5 * math.sqrt(count * p * (1 - p))  # 5 sigma
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p))


def test_dropout2d_drops_whole_channels():
    y = F.dropout2d(Tensor(np.ones((50, 40, 2, 3))), 0.3, generator=np.random.default_rng(0)).data
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1, :1], y.shape))
    kept = (y[:, :, 0, 0] != 0).sum()
    assert abs(kept - 1400) < 5 * math.sqrt(2000 * 0.3 * 0.7)


def test_the_gradient_has_the_same_mask():
    for function in (F.dropout, F.dropout2d):
        x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 2, 2)), requires_grad=True)
        assert gradcheck(lambda x, f=function: f(x, generator=np.random.default_rng(5)), [x])


def test_nothing_falls_in_evaluation_and_all_at_p_1():
    x = Tensor(np.arange(6.0).reshape(1, 2, 3))
    assert F.dropout(x, 0.9, training=False) is x
    assert F.dropout(x, 0.0) is x
    np.testing.assert_array_equal(F.dropout(x, 1.0).data, 0)
    np.testing.assert_array_equal(F.dropout2d(x, 1.0).data, 0)


def test_manual_seed_repeats_the_draws():
    x = Tensor(np.ones(100))
    minseg.manual_seed(3)
    first, second = F.dropout(x).data, F.dropout(x).data
    minseg.manual_seed(3)
    np.testing.assert_array_equal(F.dropout(x).data, first)
    assert (first != second).any()


def test_errors_name_the_culprit():
    with pytest.raises(ValueError, match=r"dropout: p is 1\.5, needs 0 to 1"):
        F.dropout(Tensor(np.ones(3)), 1.5)
    with pytest.raises(ValueError, match=r"dropout2d: input has shape \(3, 4\)"):
        F.dropout2d(Tensor(np.ones((3, 4))))
    with pytest.raises(TypeError, match="dropout: input is int64"):
        F.dropout(Tensor(np.ones(3, int)))
    for name in ("dropout", "dropout2d"):
        assert getattr(F, name)(Tensor(np.ones((1, 2, 3))), 0.5, True, False).shape == (1, 2, 3)
        with pytest.raises(ValueError, match=f"^{name}: inplace is True"):
            getattr(F, name)(Tensor(np.ones((1, 2, 3))), inplace=True)
