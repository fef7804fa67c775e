import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops import conv2d
from minseg.ops.conv_transpose2d import op
from tests.witness import assert_adjoint, assert_agree

# x shape, w shape, stride, padding, output_padding, groups, dilation
CASES = [
    ((2, 3, 4, 5), (3, 4, 2, 2), (2, 2), (0, 0), (0, 0), 1, (1, 1)),
    ((2, 3, 4, 5), (3, 2, 4, 4), (2, 2), (1, 1), (0, 0), 1, (1, 1)),
    ((1, 4, 5, 3), (4, 3, 3, 2), (3, 2), (1, 0), (2, 1), 2, (1, 2)),
    ((2, 2, 4, 5), (2, 2, 3, 3), (1, 1), (1, 2), (1, 2), 1, (2, 3)),  # output_padding >= stride
    ((2, 2, 4, 5), (2, 2, 4, 5), (3, 2), (1, 2), (2, 3), 2, (4, 4)),
    ((1, 4, 3, 4), (4, 1, 3, 3), (1, 1), (0, 0), (0, 0), 4, (1, 1)),
    ((1, 2, 3, 3), (2, 3, 1, 2), (4, 3), (0, 0), (3, 2), 1, (1, 1)),
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (0, 0), 1, (1, 1)),
    ((0, 3, 4, 4), (3, 2, 3, 3), (2, 2), (1, 1), (1, 1), 1, (1, 1)),
]


def case_arguments(case, dtype=np.float64):
    x_shape, w_shape, *how = case
    rng = np.random.default_rng(0)
    shapes = (x_shape, w_shape, (w_shape[1] * case[5],))
    return *(rng.standard_normal(shape).astype(dtype) for shape in shapes), *how


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_definition(case, dtype):
    x, w, b, *how = case_arguments(case, dtype)
    expected = op.definition(*(a.astype(np.float64) for a in (x, w, b)), *how)
    got = F.conv_transpose2d(Tensor(x), Tensor(w), Tensor(b), *how)
    assert_agree(got.data, expected, dtype, length=w[:, 0].size + 1)


@pytest.mark.parametrize("case", [c for c in CASES if c[0][0]])
def test_gradients(case):
    x, w, b, *how = case_arguments(case)
    inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    assert gradcheck(lambda x, w, b: F.conv_transpose2d(x, w, b, *how), inputs)


@pytest.mark.parametrize("case", [c for c in CASES if c[0][0]])
def test_gradients_are_adjoint_to_the_forward(case):
    x, w, _, stride, padding, output_padding, groups, dilation = case_arguments(case)
    how = (stride, padding, output_padding, groups, dilation)
    assert_adjoint(
        lambda x: op.forward(x, w, None, *how),
        lambda g: op.grad_input(g, w, x.shape, stride, padding, groups, dilation),
        x,
    )
    assert_adjoint(
        lambda w: op.forward(x, w, None, *how), lambda g: op.grad_weight(g, x, w.shape, *how), w
    )


@pytest.mark.parametrize("case", CASES[:3])
def test_it_is_the_transpose_of_conv2d(case):
    """Two forwards, neither a gradient: <conv(y), x> = <y, conv_transpose(x)>."""
    x, w, _, stride, padding, output_padding, groups, dilation = case_arguments(case)
    assert_adjoint(
        lambda x: op.forward(x, w, None, stride, padding, output_padding, groups, dilation),
        lambda y: conv2d.op.definition(y, w, None, stride, padding, dilation, groups),
        x,
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": Tensor(np.ones((3, 5, 5)))}, ValueError, "input has shape"),
        ({"input": Tensor(np.ones((1, 2, 5, 5)))}, ValueError, "needs 3 input channels"),
        ({"input": Tensor(np.ones((1, 3, 5, 5), np.float32))}, TypeError, "weight is float64"),
        ({"bias": Tensor(np.ones(3))}, ValueError, "bias has shape .3,., needs .4,."),
        ({"bias": Tensor(np.ones(4, np.float32))}, TypeError, "bias is float32"),
        ({"groups": 2}, ValueError, "groups is 2, needs to divide"),
        ({"output_padding": 2, "stride": 2}, ValueError, "output_padding is .2, 2."),
        ({"padding": 4}, ValueError, "output would be -1x-1"),
        ({"padding": -1}, ValueError, "padding is -1"),
        ({"stride": 0}, ValueError, "stride is 0"),
    ],
)
def test_errors_name_the_culprit(change, error, message):
    arguments = {"input": Tensor(np.ones((1, 3, 5, 5))), "weight": Tensor(np.ones((3, 4, 3, 3)))}
    with pytest.raises(error, match=f"conv_transpose2d: .*{message}"):
        F.conv_transpose2d(**{**arguments, **change})
