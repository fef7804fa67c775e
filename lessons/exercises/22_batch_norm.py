"""Batch norm, forward, in training

Every channel is brought to mean 0 and variance 1, then scaled and shifted by two learnt numbers:

    y = (x - mean) / sqrt(var + eps) * weight + bias        mean, var of a channel: over all images
                                                            and all pixels, m = N * H * W numbers
    var = sum of (x - mean)^2 / m

In evaluation there may be a single image, whose own statistics say little. So training keeps
running statistics, which move a little towards those of each batch:

    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var  = (1 - momentum) * running_var  + momentum * var * m / (m - 1)

The last factor makes the variance of a sample an unbiased estimate of the variance over all images.
y is computed with the plain var. (Both as in PyTorch.)
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def batch_norm(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The formulas above; the running statistics are returned as new arrays.

    x (N, C, H, W), all others (C,) -> y (N, C, H, W), running_mean (C,), running_var (C,), of x's
    dtype
    """
    m = x.size // x.shape[1]
    mean = x.mean(axis=(0, 2, 3), keepdims=True)  # (1, C, 1, 1)
    var = ((x - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    y = (x - mean) / np.sqrt(var + eps) * weight[:, None, None] + bias[:, None, None]
    unbiased = var.ravel() * m / (m - 1)
    running_mean = (1 - momentum) * running_mean + momentum * mean.ravel()
    running_var = (1 - momentum) * running_var + momentum * unbiased
    return y, running_mean, running_var


def right(x, weight, bias, running_mean, running_var, momentum=0.1, eps=1e-5):
    running = running_mean.copy(), running_var.copy()
    y = F.batch_norm(Tensor(x), *running, Tensor(weight), Tensor(bias), True, momentum, eps)
    return y.numpy(), *running


def other_y(normalize):
    """normalize(x, axes, eps, the running statistics) -> what is scaled and shifted."""

    def answer(x, weight, bias, running_mean, running_var, momentum=0.1, eps=1e-5):
        old = running_mean[:, None, None], running_var[:, None, None]
        y = normalize(x, (0, 2, 3), eps, *old)
        return y * weight[:, None, None] + bias[:, None, None], None, None

    return answer


def over(axes):
    """Statistics over other axes."""
    return other_y(lambda x, _, eps, *old: (x - x.mean(axes, keepdims=True)) / np.sqrt(
        x.var(axes, keepdims=True) + eps))  # fmt: skip


def centred(x, axes):
    return x - x.mean(axes, keepdims=True)


def other_running(new):
    """new(old, batch's own, momentum, name) -> the running statistic."""

    def answer(x, weight, bias, running_mean, running_var, momentum=0.1, eps=1e-5):
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
        return (None, new(running_mean, mean, momentum), new(running_var, var, momentum))

    return answer


def biased_running_var(x, weight, bias, running_mean, running_var, momentum=0.1, eps=1e-5):
    return None, None, (1 - momentum) * running_var + momentum * x.var((0, 2, 3))


rng = np.random.default_rng(51)


def case(name, shape, plain=False, **how):
    C = shape[1]
    return Case(name, {
        "x": rng.integers(-9, 10, shape) + 2.0,
        "weight": np.ones(C) if plain else rng.integers(1, 6, C) / 2 + 1,
        "bias": np.zeros(C) if plain else rng.integers(-4, 5, C) / 2 + 5,
        "running_mean": np.zeros(C) if plain else rng.integers(-4, 5, C) / 2,
        "running_var": np.ones(C) if plain else rng.integers(2, 6, C) / 2,
        **how})  # fmt: skip


def given_numbers(*numbers, eps):
    x = np.array(numbers, float).reshape(1, 1, 1, -1)
    return {
        "x": x,
        "weight": np.ones(1),
        "bias": np.zeros(1),
        "running_mean": np.zeros(1),
        "running_var": np.ones(1),
        "momentum": 0.5,
        "eps": eps,
    }


TASK = Task(
    outputs=("y", "running_mean", "running_var"),
    reference=right,
    terms=100,
    cases=(
        Case("four numbers: mean 5, variance 4", given_numbers(2, 4, 6, 8, eps=4.0)),
        case("one image, one channel", (1, 1, 2, 3), plain=True),
        case("two images, one channel", (2, 1, 2, 3), plain=True),
        case("weight and bias", (1, 1, 2, 3)),
        case("three channels, two images", (2, 3, 2, 4)),
        case("momentum 0.3, eps 0.5", (3, 2, 2, 3), momentum=0.3, eps=0.5),
    ),
    edge_cases=(
        Case("all numbers are the same", given_numbers(3, 3, 3, eps=1e-5)),
        case("images of one pixel", (4, 2, 1, 1)),
    ),
    hints=(
        "Every channel has one mean and one variance. So average over the axes of images, rows and "
        "columns at once, and let broadcasting do the rest.",
        "mean = x.mean(axis=(0, 2, 3), keepdims=True) has the shape (1, C, 1, 1) and meets x; "
        "weight[:, None, None] does as well. m = N * H * W.",
        "var = ((x - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True); y = (x - mean) / "
        "np.sqrt(var + eps) * weight[:, None, None] + bias[:, None, None]; running statistics from "
        "mean.ravel() and var.ravel() * m / (m - 1).",
    ),
    slips=(
        Slip("each image by itself", "Mean and variance are those of each image alone (this is "
             "instance norm): average over the images, too, axis=(0, 2, 3).", over((2, 3))),
        Slip("over the batch only", "Every pixel has its own mean and variance: average over rows "
             "and columns, too, axis=(0, 2, 3).", over((0,))),
        Slip("channels mixed", "All channels share one mean and variance: leave axis 1 out of "
             "axis=(0, 2, 3).", over((0, 1, 2, 3))),
        Slip("running statistics used", "y is computed with the running statistics. That is for "
             "evaluation; training uses the batch's own.",
             other_y(lambda x, axes, eps, mean, var: (x - mean) / np.sqrt(var + eps))),
        Slip("divided by the variance", "x - mean is divided by the variance; divide by its square "
             "root.",
             other_y(lambda x, axes, eps, *old: centred(x, axes)
                     / (x.var(axes, keepdims=True) + eps))),
        Slip("eps outside of the root", "eps is added to the root; it belongs under it: "
             "sqrt(var + eps).",
             other_y(lambda x, axes, eps, *old: centred(x, axes)
                     / (x.std(axes, keepdims=True) + eps))),
        Slip("forgot eps", "eps is missing under the root: where all numbers are equal, the "
             "variance is 0.",
             other_y(lambda x, axes, eps, *old: centred(x, axes) / x.std(axes, keepdims=True))),
        Slip("y with the unbiased variance", "y is computed with the unbiased variance, whose "
             "divisor is m - 1. That one is for running_var; y takes the one with the divisor m.",
             other_y(lambda x, axes, eps, *old: centred(x, axes)
                     / np.sqrt(x.var(axes, keepdims=True, ddof=1) + eps))),
        Slip("forgot weight and bias", "y is normalised, but not scaled by weight and shifted by "
             "bias.", lambda weight, bias, **given: (
                 right(weight=np.ones_like(weight), bias=0 * bias, **given)[0], None, None)),
        Slip("running_var divided by m", "running_var moves towards the variance with the divisor "
             "m. It should take the unbiased one: times m / (m - 1).", biased_running_var),
        Slip("momentum inverted", "The batch gets the share 1 - momentum. momentum is the share of "
             "the *new*: PyTorch's 0.1 moves a tenth of the way.",
             other_running(lambda old, new, momentum: momentum * old + (1 - momentum) * new)),
        Slip("nothing remembered", "The running statistics are the batch's own: keep the share 1 - "
             "momentum of the old ones.", other_running(lambda old, new, momentum: new)),
        Slip("running statistics not moved", "The running statistics are the old ones.",
             other_running(lambda old, new, momentum: old)),
    ),
    mutants=(
        Mutant("each image by itself", "y = (x - mean) / np.sqrt(var + eps) * weight[",
               "y = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + "
               "eps) * weight["),
        Mutant("running statistics used", "y = (x - mean) / np.sqrt(var + eps)", "y = (x - "
               "running_mean[:, None, None]) / np.sqrt(running_var[:, None, None] + eps)"),
        Mutant("divided by the variance", "/ np.sqrt(var + eps) * weight[", "/ (var + eps) * "
               "weight["),
        Mutant("eps outside of the root", "/ np.sqrt(var + eps) * weight[",
               "/ (np.sqrt(var) + x.dtype.type(eps)) * weight["),
        Mutant("y with the unbiased variance", "/ np.sqrt(var + eps) * weight[",
               "/ np.sqrt(var * m / (m - 1) + eps) * weight["),
        Mutant("forgot weight and bias", " * weight[:, None, None] + bias[:, None, None]\n", "\n"),
        Mutant("running_var divided by m", "var.ravel() * m / (m - 1)\n", "var.ravel()\n"),
        Mutant("momentum inverted", "    m = x.size",
               "    momentum = 1 - momentum\n    m = x.size"),
        Mutant("inputs untouched", "    running_mean = (1 - momentum) * running_mean + "
               "momentum * mean.ravel()", "    running_mean *= 1 - momentum\n"
               "    running_mean += momentum * mean.ravel()"),
    ),
)  # fmt: skip
