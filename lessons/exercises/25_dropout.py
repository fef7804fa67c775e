"""Dropout, both ways, and in evaluation

In training each number is set to 0 with probability p, so that no part of the network can rely on
any single other part. The survivors are multiplied by 1 / (1 - p), so that the mean stays the same:

    y = x * keep / (1 - p),    keep = 1 where the draw is at least p, else 0

Backwards, the same mask and the same factor apply: grad_x = grad * keep / (1 - p). In evaluation
nothing is dropped, and nothing has to be scaled: y = x, grad_x = grad. The draws are given here,
uniformly distributed in 0..1. Their shape may be (N, C, 1, 1): then whole channels are kept or
dropped.

    p = 0.5,  x = 3 4 5,  draws = 0.7 0.2 0.9    ->    y = 6 0 10
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.ops.dropout import dropout_definition


def dropout(
    x: np.ndarray, draws: np.ndarray, grad: np.ndarray, p: float = 0.5, training: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """y, and the gradient with respect to x for grad = dL/dy.

    x, grad (N, C, H, W), draws (N, C, H, W) or (N, C, 1, 1) -> y and grad_x, both (N, C, H, W) and
    of x's dtype
    """
    if not training or p == 0:
        return x.copy(), grad.copy()
    factor = np.where(draws >= p, 1 / (1 - p) if p < 1 else 0, 0).astype(x.dtype)
    return x * factor, grad * factor


def right(x, draws, grad, p=0.5, training=True):
    keep = draws >= (p if training else 0)
    return tuple(dropout_definition(a, keep, p if training else 0) for a in (x, grad))


def other(factor, grad_factor=None, also_in_evaluation=False):
    """Other factors for x and grad: factor(draws, p)."""

    def answer(x, draws, grad, p=0.5, training=True):
        if not training and not also_in_evaluation:
            return right(x, draws, grad, p, training)
        return x * factor(draws, p), grad * (grad_factor or factor)(draws, p)

    return answer


def in_evaluation(factor):
    def answer(x, draws, grad, p=0.5, training=True):
        if training:
            return right(x, draws, grad, p)
        return x * factor(draws, p), None

    return answer


def scaled(draws, p):
    return (draws >= p) / (1 - p)


def one_draw(x, draws, grad, p=0.5, training=True):
    """The first draw decides for all."""
    return right(x, np.broadcast_to(draws.flat[0], x.shape), grad, p, training)


rng = np.random.default_rng(54)


def case(name, shape, draws=None, **how):
    """x and grad have no zeros: a zero would be kept and dropped alike."""
    x, grad = rng.integers(1, 10, (2, *shape)) * rng.choice([-1.0, 1.0], (2, *shape))
    steps = (rng.permutation(np.prod(draws or shape)) + 0.5) / np.prod(draws or shape)
    return Case(name, {"x": x, "draws": steps.reshape(draws or shape), "grad": grad, **how})


def row(*numbers):
    return np.array(numbers, float).reshape(1, 1, 1, -1)


TASK = Task(
    outputs=("y", "grad_x"),
    reference=right,
    terms=4,
    cases=(
        Case("the example", {"x": row(3, 4, 5), "draws": row(0.7, 0.2, 0.9),
                             "grad": row(1, 1, 1)}),
        case("p = 0.25", (1, 1, 2, 4), p=0.25),
        case("p = 0.75, two images and channels", (2, 2, 2, 3), p=0.75),
        case("whole channels", (2, 3, 2, 2), draws=(2, 3, 1, 1), p=0.4),
        case("evaluation", (1, 2, 2, 2), p=0.25, training=False),
    ),
    edge_cases=(
        Case("a draw of exactly p", {"x": row(3, 4, 5), "draws": row(0.5, 0.25, 0.75),
                                     "grad": row(1, 2, 1)}),
        case("p = 0: all is kept", (1, 1, 2, 2), p=0.0),
        case("p = 1: all is dropped", (1, 1, 2, 2), p=1.0),
    ),
    hints=(
        "One array of factors does it all, 0 for what is dropped, 1 / (1 - p) for the rest: it "
        "multiplies x in the forward pass, and grad in the backward pass.",
        "factor = (draws >= p) / (1 - p), in x's dtype; y = x * factor; grad_x = grad * factor. "
        "If not training, both factors are 1.",
        "np.where(draws >= p, 1 / (1 - p), 0).astype(x.dtype); draws of (N, C, 1, 1) broadcast by "
        "themselves; p = 1 needs a case of its own, since 1 / 0 is not a number.",
    ),
    slips=(
        Slip("0 / 0", "If p = 1, the mask is 0 everywhere, and so is 1 - p: 0 / 0 is no number. "
             "p = 1 needs a case of its own.", other(scaled)),
        Slip("not scaled", "The survivors are not scaled: divide by 1 - p.",
             other(lambda draws, p: draws >= p)),
        Slip("divided by p", "The survivors are divided by p, the share that is dropped; divide by "
             "the share that survives, 1 - p.",
             other(lambda draws, p: (draws >= p) / p)),
        Slip("mask inverted", "What should be dropped is kept, and the other way round: keep where "
             "draws >= p.",
             other(lambda draws, p: (draws < p) / (1 - p))),
        Slip("a draw of p is dropped", "A draw of exactly p is dropped. A number is kept where its "
             "draw is *at least* p.", other(lambda draws, p: (draws > p) / (1 - p))),
        Slip("p for 1 - p", "The share p survives; p is the share that is dropped.",
             other(lambda draws, p: (draws < p) / p)),
        Slip("gradient not masked", "What was dropped did not reach the loss, so its gradient is 0:"
             " multiply grad by the mask, too.",
             other(scaled, lambda draws, p: 1 / (1 - p))),
        Slip("gradient not masked", "grad passes unchanged. What was dropped did not reach the "
             "loss, so its gradient is 0; the rest was scaled, so its gradient is scaled, too.",
             other(scaled, lambda draws, p: 1)),
        Slip("gradient not scaled", "y = x / (1 - p) has the slope 1 / (1 - p): scale the gradient "
             "as well.", other(scaled, lambda draws, p: draws >= p)),
        Slip("dropped in evaluation", "Numbers are dropped in evaluation: look at `training`.",
             other(scaled, also_in_evaluation=True)),
        Slip("scaled in evaluation", "In evaluation y is multiplied by 1 - p. That was the "
             "original form of dropout; here training has done it already, by 1 / (1 - p).",
             in_evaluation(lambda draws, p: 1 - p)),
        Slip("one draw for all", "One draw decides for all numbers; each number has its own.",
             one_draw),
    ),
    mutants=(
        Mutant("0 / 0", "np.where(draws >= p, 1 / (1 - p) if p < 1 else 0, 0)",
               "((draws >= p) / (1 - p))"),
        Mutant("edge cases", "    if not training",
               "    if p == 1:\n        return 0 * x, grad\n    if not training"),
        Mutant("not scaled", "1 / (1 - p) if p < 1 else 0, 0)", "1, 0)"),
        Mutant("mask inverted", "draws >= p, 1 /", "draws < p, 1 /"),
        Mutant("a draw of p is dropped", "draws >= p, 1 /", "draws > p, 1 /"),
        Mutant("divided by p", "1 / (1 - p) if", "1 / p if"),
        Mutant("gradient not masked", "grad * factor", "grad / (1 - p)"),
        Mutant("gradient not scaled", "grad * factor", "grad * (draws >= p)"),
        Mutant("dropped in evaluation", "not training or p == 0", "p == 0"),
        Mutant("scaled in evaluation", "return x.copy(), grad.copy()",
               "return x * (1 - p), grad * (1 - p)"),
        Mutant("edge cases", "1 / (1 - p) if p < 1 else 0, 0)", "1 / (1 - p), 0)"),
        Mutant("dtype", "else 0, 0).astype(x.dtype)", "else 0, 0)"),
    ),
)  # fmt: skip
