"""Is a gradient right? Central differences

A gradient that is written by hand is a claim. To test it, move one number of x a little to both
sides, and see how far the result moves. f maps an array to an array, so weight its outputs by some
upstream gradient grad, as the chain rule does:

    grad_x[i] = sum over all outputs j of  grad[j] * (f(x + h e_i)[j] - f(x - h e_i)[j]) / (2 h)

where e_i is 1 at place i and 0 elsewhere. A step to one side only has an error of order h; steps to
both sides, one of order h^2. A grad of ones would hide mistakes: the outputs of softmax always sum
to 1, whatever its gradient.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task


def numerical_grad(f, x: np.ndarray, grad: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """The formula above.

    f: maps x to an array of the shape of grad; x, any shape -> grad_x, of x's shape and dtype
    """
    grad_x = np.empty(x.shape, x.dtype)
    for i in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[i] += h
        below[i] -= h
        grad_x[i] = (grad * (f(above) - f(below))).sum() / (2 * h)
    return grad_x


def right(f, x, grad, h=1e-6):
    """f, sampled at both sides of x along every axis of its space at once."""
    steps = h * np.eye(x.size).reshape(x.size, *x.shape)
    above, below = ([f(x + sign * step) for step in steps] for sign in (1, -1))
    return np.array([np.vdot(grad, a - b) / (2 * h) for a, b in zip(above, below, strict=True)]
                    ).reshape(x.shape)  # fmt: skip


def one_sided(sign):
    def answer(f, x, grad, h=1e-6):
        steps = sign * h * np.eye(x.size).reshape(x.size, *x.shape)
        return np.array([np.vdot(grad, f(x + step) - f(x)) / (sign * h) for step in steps]
                        ).reshape(x.shape)  # fmt: skip

    return answer


def all_at_once(f, x, grad, h=1e-6):
    return grad * (f(x + h) - f(x - h)) / (2 * h)


def not_moved_back(sign):
    """Each number stays up, or down, while the next ones are tested."""

    def answer(f, x, grad, h=1e-6):
        result = np.empty(x.shape)
        for i in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[i] = h
            result[i] = np.vdot(grad, f(x + step) - f(x - step)) / (2 * h)
            x = x + sign * step
        return result

    return answer


rng = np.random.default_rng(23)


def case(name, f, x, grad, h):
    """Numbers and steps that are exact in binary, so that differences of products are, too."""
    x, grad = (rng.integers(-4, 5, shape) / 2 for shape in (x, grad))
    return Case(name, {"f": f, "x": x, "grad": grad, "h": h})


MOVED = (
    "A number that was moved stays moved while the next ones are tested: work on a fresh copy each "
    "time, or put the value back."
)
TASK = Task(
    outputs=("grad_x",),
    reference=right,
    terms=100,
    cases=(
        Case("the square of one number", {"f": np.square, "x": np.array([3.0]),
                                          "grad": np.array([1.0]), "h": 0.5}),
        Case("weighted squares", {"f": np.square, "x": np.array([1.0, -2.0, 3.0]),
                                  "grad": np.array([2.0, 1.0, -1.0]), "h": 0.25}),
        case("a table of squares", np.square, (2, 3), (2, 3), 0.125),
        case("running sums: each output has many inputs", np.cumsum, (4,), (4,), 0.25),
        case("running products", np.cumprod, (4,), (4,), 0.25),
        case("fewer outputs than inputs", np.diff, (2, 4), (2, 3), 0.25),
    ),
    edge_cases=(
        case("products of a table, as a row", np.cumprod, (2, 2), (4,), 0.25),
        case("no numbers at all", np.square, (0, 3), (0, 3), 0.5),
    ),
    hints=(
        "For each place i of x in turn, make one copy with x[i] moved up by h and one with it "
        "moved down, and take f of both. How far all outputs move, weighted by grad, is one number "
        "of the answer.",
        "grad_x[i] = (grad * (f(above) - f(below))).sum() / (2 * h), where above and below are x, "
        "but x[i] + h and x[i] - h at place i.",
        "for i in np.ndindex(x.shape): above, below = x.copy(), x.copy(); above[i] += h; "
        "below[i] -= h; then the formula. i is a tuple, and works for any number of axes.",
    ),
    slips=(
        Slip("forgot to divide by h", "The difference is not divided by the distance of the two "
             "points, 2 h.",
             lambda f, x, grad, h=1e-6: right(f, x, grad, h) * 2 * h),
        Slip("divided by h alone", "From x - h to x + h the distance is 2 h, not h.",
             lambda **given: right(**given) * 2),
        Slip("one side only", "This is (f(x + h) - f(x)) / h, with an error of order h. Go to both "
             "sides: (f(x + h) - f(x - h)) / (2 h) has one of order h^2.", one_sided(1)),
        Slip("one side only", "This is (f(x) - f(x - h)) / h, with an error of order h. Go to both "
             "sides.",
             one_sided(-1)),
        Slip("forgot grad", "The outputs are not weighted: multiply each difference by its grad "
             "before the sum.",
             lambda f, x, grad, h=1e-6: right(f, x, np.ones_like(grad), h)),
        Slip("grad outside the sum", "The differences are summed first, then multiplied by "
             "grad[i]. The weight of output j is grad[j], so grad belongs inside the sum.",
             lambda f, x, grad, h=1e-6: right(f, x, np.ones_like(grad), h) * grad),
        Slip("all moved at once", "All numbers of x are moved together. That is right only where "
             "output i depends on x[i] alone: move one at a time.", all_at_once),
        Slip("not moved back", MOVED, not_moved_back(1)),
        Slip("not moved back", MOVED, not_moved_back(-1)),
    ),
    mutants=(
        Mutant("forgot to divide by h", ".sum() / (2 * h)", ".sum()"),
        Mutant("divided by h alone", "/ (2 * h)", "/ h"),
        Mutant("one side only", "(f(above) - f(below))).sum() / (2 * h)",
               "(f(above) - f(x))).sum() / h"),
        Mutant("forgot grad", "(grad * (f(above) - f(below)))", "(f(above) - f(below))"),
        Mutant("grad outside the sum", "(grad * (f(above) - f(below))).sum()",
               "grad[i] * (f(above) - f(below)).sum()"),
        Mutant("all moved at once", "    grad_x = np.empty",
               "    return grad * (f(x + h) - f(x - h)) / (2 * h)\n    grad_x = np.empty"),
        Mutant("not moved back", "above, below = x.copy(), x.copy()", "above, below = x, x.copy()"),
        Mutant("dtype", "np.empty(x.shape, x.dtype)", "np.empty(x.shape)"),
    ),
)  # fmt: skip
