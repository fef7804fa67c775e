import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.fold import fold_op, unfold_op
from tests.witness import assert_adjoint, assert_agree

# image shape, kernel, dilation, padding, stride
CASES = [
    ((2, 3, 6, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 1, 6, 7), (2, 3), (2, 1), (1, 0), (3, 2)),
    ((1, 2, 4, 5), (4, 5), (1, 1), (0, 0), (1, 1)),
    ((1, 2, 9, 8), (1, 2), (1, 1), (0, 2), (4, 5)),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    ((0, 2, 5, 5), (2, 2), (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_both_equal_their_definitions(case, dtype):
    shape, *how = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    columns = unfold_op.definition(x, *how)
    np.testing.assert_array_equal(F.unfold(Tensor(x), *how).data, columns)
    columns = rng.standard_normal(columns.shape).astype(dtype)
    expected = fold_op.definition(columns.astype(np.float64), shape[2:], *how)
    got = F.fold(Tensor(columns), shape[2:], *how)
    assert_agree(got.data, expected, dtype, length=how[0][0] * how[0][1])


@pytest.mark.parametrize("case", [c for c in CASES if c[0][0]])
def test_each_is_the_adjoint_and_the_gradient_of_the_other(case):
    shape, *how = case
    x = np.random.default_rng(0).standard_normal(shape)
    assert_adjoint(
        lambda x: unfold_op.forward(x, *how), lambda y: fold_op.forward(y, shape[2:], *how), x
    )
    columns = Tensor(unfold_op.forward(x, *how).copy(), requires_grad=True)
    assert gradcheck(lambda x: F.unfold(x, *how), [Tensor(x, requires_grad=True)])
    assert gradcheck(lambda y: F.fold(y, shape[2:], *how), [columns])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.unfold(Tensor(np.ones((3, 5, 5))), 3), "unfold: input has shape"),
        (lambda: F.unfold(Tensor(np.ones((1, 3, 5, 5))), 6), "unfold: no patch fits"),
        (lambda: F.fold(Tensor(np.ones((1, 9, 10))), 5, 3), "fold: input has shape .*, 9.: kernel"),
        (lambda: F.fold(Tensor(np.ones((1, 8, 9))), 5, 3), "a multiple of 9"),
        (lambda: F.fold(Tensor(np.ones((1, 9, 9))), 0, 3), "output_size is 0"),
    ],
)
def test_errors_name_the_culprit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
