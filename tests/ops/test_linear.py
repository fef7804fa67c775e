import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.linear import op
from tests.witness import assert_agree, assert_threads_change_no_bit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,)])
def test_forward_and_gradients(lead, dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape) for shape in ((*lead, 4), (3, 4), (3,)))
    expected = op.definition(x, w, b)
    got = F.linear(*(Tensor(a.astype(dtype)) for a in (x, w, b)))
    assert_agree(got.data, expected, dtype, length=5)
    if x.size:
        assert gradcheck(F.linear, [Tensor(a, requires_grad=True) for a in (x, w, b)])
        assert gradcheck(F.linear, [Tensor(a, requires_grad=True) for a in (x, w)])


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_a_vector_as_weight_gives_a_number_for_each_row(lead):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((*lead, 4)), rng.standard_normal(4)
    assert_agree(F.linear(Tensor(x), Tensor(w)).data, (x * w).sum(axis=-1), x.dtype, length=4)
    assert gradcheck(F.linear, [Tensor(a, requires_grad=True) for a in (x, w)])


@pytest.mark.parametrize("shape", [(3, 50, 40, 30), (4, 600, 96, 200)])
def test_the_bits_do_not_depend_on_any_number_of_threads(shape):
    """Neither minseg's nor BLAS's own, for a small layer and for one that is cut into parts."""
    *lead, inputs, outputs = shape
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((*lead, inputs), np.float32), rng.standard_normal((outputs, inputs))
    w, grad = w.astype(np.float32), rng.standard_normal((*lead, outputs), np.float32)

    def results():
        with threadpool_limits(minseg.get_num_threads(), user_api="blas"):
            return op.forward(x, w, None), op.grad_input(grad, w), op.grad_weight(grad, x)

    assert_threads_change_no_bit(results)


def test_errors_name_the_culprit():
    x, w = Tensor(np.ones((2, 4))), Tensor(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"linear: input has shape \(2, 5\), needs \(..., 4\)"):
        F.linear(Tensor(np.ones((2, 5))), w)
    with pytest.raises(ValueError, match=r"linear: weight has shape \(1, 3, 4\), needs 2 dim"):
        F.linear(x, Tensor(np.ones((1, 3, 4))))
    with pytest.raises(ValueError, match=r"linear: a weight of shape \(4,\) takes no bias"):
        F.linear(x, Tensor(np.ones(4)), Tensor(np.ones(1)))
    with pytest.raises(ValueError, match=r"linear: bias has shape \(4,\), needs \(3,\)"):
        F.linear(x, w, Tensor(np.ones(4)))
    with pytest.raises(TypeError, match="linear: weight is float32"):
        F.linear(x, Tensor(np.ones((3, 4), np.float32)))
    with pytest.raises(TypeError, match="linear: bias is float32"):
        F.linear(x, w, Tensor(np.ones(3, np.float32)))
