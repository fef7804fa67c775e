"""Matrix product, backwards: two gradients by shapes alone

A linear layer is y = a @ b: every image n has a matrix a[n], all share the weights b:

    y[n, m, p] = sum over k of a[n, m, k] * b[k, p]

a[n, m, k] is multiplied by every number of row k of b, and b[k, p] by every number of column k of
a[n], in every image:

    grad_a[n, m, k] = sum over p of grad[n, m, p] * b[k, p]
    grad_b[k, p]    = sum over n and m of a[n, m, k] * grad[n, m, p]

Write the shapes beside each other, and only one product of grad and b has the shape of a.
"""

import numpy as np

from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def matmul_grad(grad: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of y = a @ b with respect to a and to b, for grad = dL/dy.

    grad (N, M, P), a (N, M, K), b (K, P) -> grad_a (N, M, K) and grad_b (K, P), of their dtype
    """
    grad_a = grad @ b.T
    grad_b = (a.swapaxes(1, 2) @ grad).sum(axis=0)  # (N, K, P) -> (K, P)
    return grad_a, grad_b


def right(grad, a, b):
    a, b = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    (a @ b).backward(Tensor(grad))
    return a.grad.numpy(), b.grad.numpy()


def of_a(answer):
    return lambda grad, a, b: (answer(grad, a, b), None)


def of_b(answer):
    return lambda grad, a, b: (None, answer(grad, a, b))


rng = np.random.default_rng(22)


def case(name, N, M, K, P):
    shapes = {"grad": (N, M, P), "a": (N, M, K), "b": (K, P)}
    return Case(name, {n: rng.integers(-4, 5, s).astype(float) for n, s in shapes.items()})


TASK = Task(
    outputs=("grad_a", "grad_b"),
    reference=right,
    terms=100,
    cases=(
        Case("square matrices", {"grad": np.array([[[1.0, 2.0], [3.0, 5.0]]]),
                                 "a": np.array([[[1.0, 4.0], [0.0, 2.0]]]),
                                 "b": np.array([[3.0, 1.0], [2.0, 6.0]])}),
        case("one image, 2x3 times 3x4", 1, 2, 3, 4),
        case("two images share b", 2, 2, 3, 2),
        case("three images", 3, 2, 2, 4),
    ),
    edge_cases=(case("rows of one number", 2, 1, 1, 3), case("no images", 0, 2, 3, 2)),
    hints=(
        "Which product of grad (M, P) and b (K, P) has the shape (M, K) of a? And which one of a "
        "(M, K) and grad (M, P) has the shape (K, P) of b? One of the two is transposed each time.",
        "The formulas, as matrices: grad_a = grad b^T, for each image; grad_b = a^T grad, summed "
        "over the images, since all of them use the same b.",
        "grad_a = grad @ b.T; grad_b = (a.swapaxes(1, 2) @ grad).sum(axis=0); or "
        'np.einsum("nmk,nmp->kp", a, grad).',
    ),
    slips=(
        Slip("b not transposed", "grad_a is grad @ b: a[m, k] meets the *row* k of b. Transpose b.",
             of_a(lambda grad, a, b: grad @ b)),
        Slip("a not transposed", "grad_b is a @ grad: b[k, p] meets the *column* k of a. Transpose "
             "each a[n].", of_b(lambda grad, a, b: (a @ grad).sum(axis=0))),
        Slip("wrong order", "The factors of grad_a have changed places: grad on the left, b "
             "transposed on the right.", of_a(lambda grad, a, b: b.T @ grad)),
        Slip("wrong order", "The factors of grad_b have changed places: a transposed on the left, "
             "grad on the right.",
             of_b(lambda grad, a, b: (grad @ a.swapaxes(1, 2)).sum(axis=0))),
        Slip("not summed over the images", "grad_b has an axis of images. All images use the same "
             "b, so their gradients add up.", of_b(lambda grad, a, b: a.swapaxes(1, 2) @ grad)),
        Slip("averaged over the images", "grad_b is the mean over the images; it should be the "
             "sum. Whatever mean the loss takes is in grad already.",
             of_b(lambda grad, a, b: right(grad, a, b)[1] / len(a))),
        Slip("only the first image", "grad_b is the first image's share alone; the shares of all "
             "images add up.",
             of_b(lambda grad, a, b: a[0].T @ grad[0])),
    ),
    mutants=(
        Mutant("b not transposed", "grad @ b.T", "grad @ b.reshape(b.shape[::-1]) if b.shape[0] "
               "!= b.shape[1] else grad @ b"),
        Mutant("a not transposed", "a.swapaxes(1, 2)", "(a if a.shape[1] == a.shape[2] else "
               "a.swapaxes(1, 2))"),
        Mutant("wrong order", "grad_a = grad @ b.T", "grad_a = b.T @ grad"),
        Mutant("wrong order", "a.swapaxes(1, 2) @ grad", "grad @ a.swapaxes(1, 2)"),
        Mutant("order of outputs", "return grad_a, grad_b", "return grad_b, grad_a"),
        Mutant("not summed over the images", ".sum(axis=0)", ""),
        Mutant("averaged over the images", ".sum(axis=0)", ".mean(axis=0)"),
        Mutant("only the first image", "(a.swapaxes(1, 2) @ grad).sum(axis=0)",
               "a[0].T @ grad[0]"),
    ),
)  # fmt: skip
