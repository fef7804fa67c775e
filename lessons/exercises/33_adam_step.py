"""Adam, one step

Plain gradient descent moves every weight by lr times its gradient: far where gradients are large,
hardly at all where they are small. Adam moves every weight by about lr, because it divides the
gradient's running mean by the gradient's typical size. In step t = 1, 2, 3, ...:

    m = beta1 * m + (1 - beta1) * grad             running mean
    v = beta2 * v + (1 - beta2) * grad^2           running mean of the squares
    p = p - lr * m' / (sqrt(v') + eps)             m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t)

m and v begin at 0, and are too small at first (v, with a beta2 of 0.999, for some thousand steps);
m' and v' correct for that. What is kept for the next step are m and v themselves.

    grad = 4 in the first step:   m = 0.4, v = 0.016;   m' = 4, v' = 16;   p moves by lr
"""

import numpy as np

from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.optim import Adam


def adam_step(
    p: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: int,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The formulas above; p, m and v are returned as new arrays.

    p, grad, m, v: the same shape, any; t: this step's number, 1 for the first -> p, m, v, of p's
    dtype
    """
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_corrected = m / (1 - beta1**t)
    v_corrected = v / (1 - beta2**t)
    return p - lr * m_corrected / (np.sqrt(v_corrected) + eps), m, v


def right(p, grad, m, v, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    weight = Tensor(p.copy(), requires_grad=True)
    weight.grad = Tensor(grad)
    optimizer = Adam([weight], lr, (beta1, beta2), eps)
    state = {"step": t - 1, "exp_avg": m.copy(), "exp_avg_sq": v.copy()}
    optimizer.state[weight] = state
    optimizer.step()
    return weight.numpy(), state["exp_avg"], state["exp_avg_sq"]


def other_move(move):
    """move(m, v, t, lr, beta1, beta2, eps, grad) -> how far p moves."""

    def answer(p, grad, m, v, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad**2
        return p - move(m, v, t, lr, beta1, beta2, eps, grad), None, None

    return answer


def corrected(m, v, t, beta1, beta2):
    return m / (1 - beta1**t), v / (1 - beta2**t)


def fraction(mean, square, lr, eps):
    return lr * mean / (np.sqrt(square) + eps)


def corrected_kept(p, grad, m, v, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    p, m, v = right(p, grad, m, v, t, lr, beta1, beta2, eps)
    return None, *corrected(m, v, t, beta1, beta2)


def by_old_mean(p, grad, m, v, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    _, _, new_v = right(p, grad, m, v, t, lr, beta1, beta2, eps)
    return p - fraction(*corrected(m, new_v, t, beta1, beta2), lr, eps), None, None


def betas_inverted(beta1=0.9, beta2=0.999, **given):
    _, m, v = right(beta1=1 - beta1, beta2=1 - beta2, **given)
    return None, m, v


def means_of(square):
    """Another second mean."""

    def answer(p, grad, m, v, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
        return None, beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * square(grad, m)

    return answer


rng = np.random.default_rng(63)


def case(name, shape, t, **how):
    p, grad = rng.integers(1, 9, (2, *shape)) * rng.choice([-0.5, 0.5], (2, *shape))
    m = rng.integers(-4, 5, shape) / 4 * (t > 1)
    v = rng.integers(1, 9, shape) / 4 * (t > 1)
    arrays = {"p": p, "grad": grad, "m": m, "v": v}
    return Case(name, {name: np.asarray(a) for name, a in arrays.items()} | {"t": t} | how)


TASK = Task(
    outputs=("p", "m", "v"),
    reference=right,
    terms=20,
    cases=(
        Case("the example", {"p": np.array([1.0]), "grad": np.array([4.0]), "m": np.zeros(1),
                             "v": np.zeros(1), "t": 1, "lr": 0.5}),
        case("the first step of a table", (2, 3), 1, lr=0.5),
        case("the third step", (4,), 3, lr=0.5),
        case("other betas, a large eps", (2, 2), 2, lr=0.5, beta1=0.5, beta2=0.75, eps=0.5),
        case("step 1000", (3,), 1000, lr=0.125),
    ),
    edge_cases=(
        Case("a gradient of 0", {"p": np.array([1.0, 2.0]), "grad": np.zeros(2), "m": np.zeros(2),
                                 "v": np.zeros(2), "t": 1}),
        case("a single number", (), 2),
    ),
    hints=(
        "Three lines and two corrections, each number by itself. Mind what is returned: the "
        "uncorrected m and v, which the next step goes on with.",
        "m' = m / (1 - beta1 ** t) and v' = v / (1 - beta2 ** t), from the *new* m and v; eps is "
        "added to the root, not under it.",
        "m = beta1 * m + (1 - beta1) * grad; v = beta2 * v + (1 - beta2) * grad ** 2; p - lr * "
        "(m / (1 - beta1 ** t)) / (np.sqrt(v / (1 - beta2 ** t)) + eps).",
    ),
    slips=(
        Slip("not corrected", "m and v are used as they are. In the first steps they are too "
             "small, since they began at 0: divide by 1 - beta^t.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: fraction(m, v, lr, eps))),
        Slip("only m is corrected", "v is used as it is: divide it by 1 - beta2^t.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: fraction(
                 corrected(m, v, t, b1, b2)[0], v, lr, eps))),
        Slip("only v is corrected", "m is used as it is: divide it by 1 - beta1^t.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: fraction(
                 m, corrected(m, v, t, b1, b2)[1], lr, eps))),
        Slip("correction without t", "The correction is always that of the first step: use 1 - "
             "beta^t.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: fraction(
                 *corrected(m, v, 1, b1, b2), lr, eps))),
        Slip("steps counted from 0", "The correction is that of the next step: t already begins at "
             "1.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: fraction(
                 *corrected(m, v, t + 1, b1, b2), lr, eps))),
        Slip("eps under the root", "eps is under the root; add it to the root.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: lr * corrected(m, v, t, b1, b2)[0]
                        / np.sqrt(corrected(m, v, t, b1, b2)[1] + eps))),
        Slip("eps before the correction", "eps is added to sqrt(v), and the sum is corrected; add "
             "it to sqrt(v') instead.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: lr * corrected(m, v, t, b1, b2)[0]
                        / ((np.sqrt(v) + eps) / np.sqrt(1 - b2**t)))),
        Slip("forgot the root", "m' is divided by v', the mean of the *squares*: take the root.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: lr * corrected(m, v, t, b1, b2)[0]
                        / (corrected(m, v, t, b1, b2)[1] + eps))),
        Slip("grad in place of m", "grad itself is divided (this is RMSprop); Adam divides its "
             "running mean, m'.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: fraction(
                 g, corrected(m, v, t, b1, b2)[1], lr, eps))),
        Slip("uphill", "p moves up the slope: subtract.",
             other_move(lambda m, v, t, lr, b1, b2, eps, g: -fraction(
                 *corrected(m, v, t, b1, b2), lr, eps))),
        Slip("the old mean", "p moves by the old m, from before this step. Update m with grad "
             "first, then move p by the new m.", by_old_mean),
        Slip("corrected means kept", "The m and v that are returned are the corrected ones; the "
             "next step needs m and v themselves.", corrected_kept),
        Slip("betas inverted", "The new gradient gets the share beta; that is the share of the "
             "old mean.", betas_inverted),
        Slip("gradient not squared", "v is a running mean of grad; it should be one of grad^2.",
             means_of(lambda grad, m: grad)),
    ),
    mutants=(
        Mutant("eps before the correction", "np.sqrt(v_corrected) + eps",
               "(np.sqrt(v) + eps) / (1 - beta2**t) ** 0.5"),
        Mutant("the old mean", "m_corrected = m /",
               "m_corrected = (m - (1 - beta1) * grad) / beta1 /"),
        Mutant("not corrected", "lr * m_corrected / (np.sqrt(v_corrected) + eps)",
               "lr * m / (np.sqrt(v) + eps)"),
        Mutant("only m is corrected", "np.sqrt(v_corrected)", "np.sqrt(v)"),
        Mutant("correction without t", "    m_corrected = m", "    t = 1\n    m_corrected = m"),
        Mutant("steps counted from 0", "    m_corrected = m",
               "    t = t + 1\n    m_corrected = m"),
        Mutant("eps under the root", "(np.sqrt(v_corrected) + eps)", "np.sqrt(v_corrected + eps)"),
        Mutant("forgot the root", "np.sqrt(v_corrected)", "v_corrected"),
        Mutant("uphill", "return p - lr", "return p + lr"),
        Mutant("grad in place of m", "lr * m_corrected /", "lr * grad /"),
        Mutant("corrected means kept", "+ eps), m, v", "+ eps), m_corrected, v_corrected"),
        Mutant("inputs untouched", "    m = beta1 * m + (1 - beta1) * grad\n    v",
               "    m *= beta1\n    m += (1 - beta1) * grad\n    v"),
    ),
)  # fmt: skip
