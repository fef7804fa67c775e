"""Batch norm, backwards: one number moves the mean of all

With n = (x - mean) / s, s = sqrt(var + eps), the forward pass is y = weight * n + bias. Changing
one x moves its own n, but mean and s as well, and with them the n of all m numbers of its channel.
Worked out, with g = grad * weight and means over the m numbers of a channel (images and pixels):

    grad_x = (g - mean of g - n * mean of (g * n)) / s

Whatever x is, n has mean 0 and (but for eps) variance 1. So the part of g that is the same for all
numbers has no effect, nor has the part along n: the two means remove them. weight and bias act on
every number of their channel, so their gradients are sums: grad_weight = sum of grad * n,
grad_bias = sum of grad.
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def batch_norm_grad(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of batch norm in training, for grad = dL/dy.

    grad, x (N, C, H, W), weight (C,) -> grad_x (N, C, H, W), grad_weight (C,), grad_bias (C,), of
    x's dtype
    """
    axes = (0, 2, 3)
    s = np.sqrt(x.var(axes, keepdims=True) + eps)  # (1, C, 1, 1)
    n = (x - x.mean(axes, keepdims=True)) / s
    g = grad * weight[:, None, None]
    mean_g, mean_gn = g.mean(axes, keepdims=True), (g * n).mean(axes, keepdims=True)
    grad_x = (g - mean_g - n * mean_gn) / s
    return grad_x, (grad * n).sum(axes), grad.sum(axes)


def right(grad, x, weight, eps=1e-5):
    x, weight = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
    bias = Tensor(np.zeros(weight.shape, weight.dtype), requires_grad=True)
    F.batch_norm(x, None, None, weight, bias, True, eps=eps).backward(Tensor(grad))
    return x.grad.numpy(), weight.grad.numpy(), bias.grad.numpy()


def parts(grad, x, weight, eps, axes=(0, 2, 3)):
    s = np.sqrt(x.var(axes, keepdims=True) + eps)
    n = (x - x.mean(axes, keepdims=True)) / s
    return grad * weight[:, None, None], n, s, lambda a: a.mean(axes, keepdims=True)


def of_x(formula):
    """formula(g, n, s, mean) -> another grad_x; nothing is said about the parameters."""

    def answer(grad, x, weight, eps=1e-5):
        return formula(*parts(grad, x, weight, eps)), None, None

    return answer


def of_parameters(formula):
    """formula(grad, n, x, m) -> another grad_weight and grad_bias."""

    def answer(grad, x, weight, eps=1e-5):
        _, n, _, _ = parts(grad, x, weight, eps)
        return (None, *formula(grad, n, x, grad.size // grad.shape[1]))

    return answer


def each_image(grad, x, weight, eps=1e-5):
    g, n, s, mean = parts(grad, x, weight, eps, (2, 3))
    return (g - mean(g) - n * mean(g * n)) / s, None, None


def without_weight(grad, x, weight, eps=1e-5):
    return right(grad, x, np.ones_like(weight), eps)[0], None, None


AXES = (0, 2, 3)
rng = np.random.default_rng(52)


def case(name, shape, plain=False, **how):
    weight = np.ones(shape[1]) if plain else rng.integers(1, 6, shape[1]) / 2 + 1
    x, grad = rng.integers(-9, 10, (2, *shape)).astype(float)
    return Case(name, {"grad": grad + 1, "x": x, "weight": weight, **how})


four = {"grad": np.array([[[[1.0, 0.0, 0.0, 2.0]]]]), "x": np.array([[[[2.0, 4.0, 6.0, 8.0]]]]),
        "weight": np.ones(1), "eps": 4.0}  # fmt: skip
TASK = Task(
    outputs=("grad_x", "grad_weight", "grad_bias"),
    reference=right,
    terms=200,
    cases=(
        Case("four numbers: mean 5, s = 3", four),
        case("one image, one channel", (1, 1, 2, 3), plain=True),
        case("a weight", (1, 1, 2, 3)),
        case("two images", (2, 1, 2, 3)),
        case("three channels, eps 0.5", (2, 3, 2, 3), eps=0.5),
    ),
    edge_cases=(
        case("images of one pixel", (4, 2, 1, 1)),
        Case("all numbers are the same", {**four, "x": np.full((1, 1, 1, 4), 3.0)}),
    ),
    hints=(
        "Compute n and s as the forward pass does. Then grad_x has three terms: what comes straight"
        " through n, what comes through the mean, and what comes through s.",
        "All means run over axes (0, 2, 3), with keepdims=True so that they meet x. g = grad * "
        "weight[:, None, None]; the third term is n times the mean of g * n.",
        "grad_x = (g - g.mean(axes, keepdims=True) - n * (g * n).mean(axes, keepdims=True)) / s; "
        "return grad_x, (grad * n).sum(axes), grad.sum(axes).",
    ),
    slips=(
        Slip("statistics taken for constants", "This is g / s: as if mean and s did not depend on "
             "x (which holds in evaluation). Two terms are missing.",
             of_x(lambda g, n, s, mean: g / s)),
        Slip("variance taken for a constant", "The last term is missing: a change of x changes s, "
             "and s divides all numbers of the channel.",
             of_x(lambda g, n, s, mean: (g - mean(g)) / s)),
        Slip("mean taken for a constant", "The second term is missing: a change of x changes the "
             "mean, which is subtracted from all numbers of the channel.",
             of_x(lambda g, n, s, mean: (g - n * mean(g * n)) / s)),
        Slip("sums, not means", "The two terms are sums over the channel; they should be means.",
             of_x(lambda g, n, s, mean: (
                 g - (mean(g) + n * mean(g * n)) * g[:, 0].size) / s)),
        Slip("x in place of n", "The last term has x - mean where n belongs: divide by s.",
             of_x(lambda g, n, s, mean: (g - mean(g) - n * s * mean(g * n)) / s)),
        Slip("forgot s", "The division by s is missing.",
             of_x(lambda g, n, s, mean: g - mean(g) - n * mean(g * n))),
        Slip("forgot the weight", "grad is not multiplied by the weight on its way to n.",
             without_weight),
        Slip("each image by itself", "The means are those of each image alone; a channel's run "
             "over all images, axes (0, 2, 3).", each_image),
        Slip("weight meets x", "grad_weight multiplies grad by x; the weight was multiplied by the "
             "normalised n.", of_parameters(lambda grad, n, x, m: ((grad * x).sum(AXES), None))),
        Slip("parameters averaged", "grad_weight and grad_bias are means over the channel; they "
             "should be sums.", of_parameters(lambda grad, n, x, m: (
                 (grad * n).mean(AXES), grad.mean(AXES)))),
    ),
    mutants=(
        Mutant("statistics taken for constants", "(g - mean_g - n * mean_gn) / s", "g / s"),
        Mutant("variance taken for a constant", "(g - mean_g - n * mean_gn) / s",
               "(g - mean_g) / s"),
        Mutant("mean taken for a constant", "(g - mean_g - n * mean_gn) / s",
               "(g - n * mean_gn) / s"),
        Mutant("sums, not means", "g.mean(axes, keepdims=True), (g * n).mean(axes, keepdims=True)",
               "g.sum(axes, keepdims=True), (g * n).sum(axes, keepdims=True)"),
        Mutant("forgot s", "(g - mean_g - n * mean_gn) / s", "g - mean_g - n * mean_gn"),
        Mutant("forgot the weight", "g = grad * weight[:, None, None]", "g = grad"),
        Mutant("each image by itself", "    axes = (0, 2, 3)\n    s =", "    axes = (2, 3)\n"
               "    s = np.sqrt(x.var(axes, keepdims=True) + eps)\n"
               "    n = (x - x.mean(axes, keepdims=True)) / s\n"
               "    g = grad * weight[:, None, None]\n"
               "    grad_x = (g - g.mean(axes, keepdims=True) - n * (g * n).mean(axes, "
               "keepdims=True)) / s\n    axes = (0, 2, 3)\n"
               "    return grad_x, (grad * n).sum(axes), grad.sum(axes)\n    s ="),
        Mutant("weight meets x", "(grad * n).sum(axes), grad", "(grad * x).sum(axes), grad"),
        Mutant("parameters averaged", "(grad * n).sum(axes), grad.sum(axes)",
               "(grad * n).mean(axes), grad.mean(axes)"),
    ),
)  # fmt: skip
