"""ReLU, backwards: what passes where

The forward pass is y = max(x, 0). Going back, we are given grad = dL/dy, and want dL/dx. Where
x > 0, y changes exactly as x does, so the gradient passes; elsewhere y stays 0 whatever x is, and
nothing passes. At x = 0 exactly, where the slope jumps from 0 to 1, PyTorch takes 0, and so do we.
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task, Use


def relu_grad(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dL/dx of y = max(x, 0), for grad = dL/dy.

    grad, x: of the same shape, any; returns an array of that shape and dtype.
    """
    return np.where(x > 0, grad, 0)


def right(grad, x):
    x = Tensor(x, requires_grad=True)
    F.relu(x).backward(Tensor(grad))
    return x.grad.numpy()


def in_op(relu_grad, grad, y):
    """The op hands over y = max(x, 0) in the place of x: both are above 0 at the same places."""
    return relu_grad(grad, y)


rng = np.random.default_rng(1)
x = rng.permutation(12).reshape(3, 4) / 4 - 1  # below 0, 0, up to 1, and above
grad = rng.integers(-9, 10, (3, 4)) + 0.5

TASK = Task(
    outputs=("grad_x",),
    reference=right,
    use=Use("relu", "grad_input", in_op, lesson="14"),
    terms=1,
    cases=(
        Case("three numbers", {"grad": np.array([5.0, 6.0, -7.0]),
                               "x": np.array([-2.0, 3.0, 1.0])}),
        Case("a zero", {"grad": np.array([5.0, 6.0, 7.0]), "x": np.array([-1.0, 0.0, 2.0])}),
        Case("a table", {"grad": grad, "x": x}),
    ),
    edge_cases=(Case("no numbers at all", {"grad": np.zeros((0, 3)), "x": np.zeros((0, 3))}),),
    hints=(
        "Which numbers of grad may pass? Comparing x with 0 tells you, for all of them at once.",
        "grad_x[i] = grad[i] if x[i] > 0 else 0, for every index i.",
        "np.where(condition, a, b) takes from a where the condition holds, and from b elsewhere.",
    ),
    slips=(
        Slip("forgot the mask", "The gradient passes everywhere; where x was not above 0, nothing "
             "may pass.",
             lambda grad, x: grad),
        Slip("mask by the gradient", "The gradient passes where *grad* is above 0; x decides, not "
             "grad.",
             lambda grad, x: np.where(grad > 0, grad, 0)),
        Slip("passes at zero", "The gradient passes at x = 0 exactly: the condition is x > 0, not "
             "x >= 0.",
             lambda grad, x: np.where(x >= 0, grad, 0)),
        Slip("forward again", "This is max(x, 0), the forward pass: where is grad?",
             lambda grad, x: np.maximum(x, 0)),
        Slip("mask alone", "This is the mask, 1 where the gradient passes: multiply grad by it.",
             lambda grad, x: (x > 0).astype(float)),
        Slip("mask inverted", "The gradient passes where it should not, and is stopped where it "
             "should pass.",
             lambda grad, x: np.where(x > 0, 0, grad)),
        Slip("times y", "Each gradient is multiplied by y. The slope of ReLU is 1, not x.",
             lambda grad, x: grad * np.maximum(x, 0)),
        Slip("times y, up to 1", "Where x is between 0 and 1, the gradient is multiplied by x. The "
             "slope is 1 there, too.", lambda grad, x: grad * np.clip(x, 0, 1)),
    ),
    mutants=(
        Mutant("forgot the mask", "np.where(x > 0, grad, 0)", "grad.copy()"),
        Mutant("mask by the gradient", "np.where(x > 0", "np.where(grad > 0"),
        Mutant("passes at zero", "x > 0, grad", "x >= 0, grad"),
        Mutant("forward again", "np.where(x > 0, grad, 0)", "np.maximum(x, 0)"),
        Mutant("times y", "np.where(x > 0, grad, 0)", "grad * x * (x > 0)"),
        Mutant("times y, up to 1", "np.where(x > 0, grad, 0)", "grad * np.clip(x, 0, 1)"),
        Mutant("inputs untouched", "return np.where(x > 0, grad, 0)",
               "grad[x <= 0] = 0\n    return grad"),
        Mutant("dtype", "grad, 0)", "grad, np.float64(0))"),
        Mutant("no return", "return np", "y = np"),
    ),
)  # fmt: skip
