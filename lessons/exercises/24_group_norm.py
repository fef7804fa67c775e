"""Group norm: when a batch is too small

Segmentation images are large, so a batch may hold only two of them, or one: poor statistics. Group
norm takes none over the batch. The channels of *each image* are cut into `groups` equal parts of
neighbours, and each part is normalised by its own mean and variance, over its channels and pixels:

    y = (x - mean) / sqrt(var + eps) * weight[c] + bias[c]

with a weight and a bias for every channel. An image gives the same result alone as in a batch. With
one group of all channels this is a layer norm; with as many groups as channels, an instance norm.

    C = 4, groups = 2:    channels 0 1 share a mean, channels 2 3 share another, in each image
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def group_norm(
    x: np.ndarray, groups: int, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5
) -> np.ndarray:
    """The formula above.

    x (N, C, H, W), weight (C,), bias (C,) -> y (N, C, H, W), of x's dtype
    """
    parts = x.reshape(len(x), groups, -1)  # a group's channels lie side by side
    mean = parts.mean(axis=2, keepdims=True)
    var = parts.var(axis=2, keepdims=True)
    y = ((parts - mean) / np.sqrt(var + eps)).reshape(x.shape)
    return y * weight[:, None, None] + bias[:, None, None]


def right(x, groups, weight, bias, eps=1e-5):
    return F.group_norm(Tensor(x), groups, Tensor(weight), Tensor(bias), eps).numpy()


def normalized(over, spread=np.sqrt, ddof=0):
    """Statistics over other axes of (N, groups, C / groups, H, W), or another divisor."""

    def answer(x, groups, weight, bias, eps=1e-5):
        parts = x.reshape(len(x), groups, -1, *x.shape[2:])
        var = parts.var(over, keepdims=True, ddof=ddof)
        y = (parts - parts.mean(over, keepdims=True)) / spread(var + eps)
        return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]

    return answer


def eps_outside(x, groups, weight, bias, eps=1e-5):
    parts = x.reshape(len(x), groups, -1)
    y = (parts - parts.mean(2, keepdims=True)) / (parts.std(2, keepdims=True) + eps)
    return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def interleaved(x, groups, weight, bias, eps=1e-5):
    """Channel c in group c % groups."""
    order = np.arange(x.shape[1]).reshape(-1, groups).T.ravel()
    y = np.empty(x.shape)
    y[:, order] = right(x[:, order], groups, weight[order], bias[order], eps)
    return y


rng = np.random.default_rng(53)


def case(name, shape, groups, plain=False, **how):
    C = shape[1]
    return Case(name, {
        "x": rng.integers(-9, 10, shape) + 1.0, "groups": groups,
        "weight": np.ones(C) if plain else rng.integers(1, 6, C) / 2 + 1,
        "bias": np.zeros(C) if plain else rng.integers(-4, 5, C) / 2 + 5, **how})  # fmt: skip


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=100,
    cases=(
        Case("two groups of two channels, one pixel", {
            "x": np.array([1.0, 3.0, 10.0, 20.0]).reshape(1, 4, 1, 1), "groups": 2,
            "weight": np.ones(4), "bias": np.zeros(4), "eps": 3.0}),
        case("one group of all channels", (1, 2, 2, 3), 1, plain=True),
        case("two groups", (1, 4, 2, 2), 2, plain=True),
        case("weights and biases", (1, 4, 2, 2), 2),
        case("two images, three groups, eps 0.5", (2, 6, 2, 2), 3, eps=0.5),
    ),
    edge_cases=(
        case("as many groups as channels", (2, 3, 2, 3), 3),
        Case("all numbers are the same", {"x": np.full((1, 2, 2, 2), 7.0), "groups": 1,
                                          "weight": np.ones(2), "bias": np.zeros(2)}),
    ),
    hints=(
        "Reshape so that all numbers that share a mean lie along one axis. Channels of a group are "
        "neighbours, so a reshape is all that it takes, and another brings x's shape back.",
        "parts = x.reshape(N, groups, -1): mean and variance over the last axis. weight and bias "
        "are per channel, not per group: apply them after reshaping back.",
        "y = ((parts - mean) / np.sqrt(var + eps)).reshape(x.shape); return y * weight[:, None, "
        "None] + bias[:, None, None].",
    ),
    slips=(
        Slip("over the batch, too", "The images share their statistics. Group norm takes nothing "
             "from the batch: each image by itself.", normalized((0, 2, 3, 4))),
        Slip("each channel by itself", "Every channel has its own mean: that is instance norm. "
             "The channels of a group share theirs.", normalized((3, 4))),
        Slip("one group of all", "All channels of an image share one mean: that is layer norm. "
             "Cut them into `groups` parts.", normalized((1, 2, 3, 4))),
        Slip("over the channels only", "Every pixel has its own mean: take it over rows and "
             "columns as well.", normalized((2,))),
        Slip("groups interleaved", "Channel c is put into group c % groups; a group's channels are "
             "neighbours: c // (C / groups).", interleaved),
        Slip("divided by the variance", "x - mean is divided by the variance; divide by its square "
             "root.",
             normalized((2, 3, 4), spread=lambda v: v)),
        Slip("unbiased variance", "The sum of squares is divided by m - 1 (which is 1, if m is 2); "
             "divide it by m.",
             normalized((2, 3, 4), ddof=1)),
        Slip("eps outside of the root", "eps is added to the root; it belongs under it.",
             eps_outside),
        Slip("forgot weight and bias", "y is normalised, but not scaled by weight and shifted by "
             "bias.", lambda x, groups, weight, bias, eps=1e-5:
             right(x, groups, np.ones_like(weight), 0 * bias, eps)),
    ),
    mutants=(
        Mutant("over the batch, too", "    parts = x.reshape(len(x), groups, -1)  # a group's "
               "channels lie side by side\n    mean = parts.mean(axis=2, keepdims=True)\n"
               "    var = parts.var(axis=2, keepdims=True)\n",
               "    parts = x.reshape(len(x), groups, -1)\n"
               "    mean = parts.mean(axis=(0, 2), keepdims=True)\n"
               "    var = parts.var(axis=(0, 2), keepdims=True)\n"),
        Mutant("each channel by itself", "x.reshape(len(x), groups, -1)",
               "x.reshape(len(x), x.shape[1], -1)"),
        Mutant("one group of all", "x.reshape(len(x), groups, -1)", "x.reshape(len(x), 1, -1)"),
        Mutant("groups interleaved", "    parts = x.reshape(len(x), groups, -1)",
               "    if groups > 1:\n"
               "        y = np.empty_like(x)\n        for g in range(groups):\n"
               "            p = x[:, g::groups]\n"
               "            y[:, g::groups] = (p - p.mean((1, 2, 3), keepdims=True)) / np.sqrt("
               "p.var((1, 2, 3), keepdims=True) + eps)\n"
               "        return y * weight[:, None, None] + bias[:, None, None]\n"
               "    parts = x.reshape(len(x), groups, -1)"),
        Mutant("divided by the variance", "np.sqrt(var + eps)).reshape", "(var + eps)).reshape"),
        Mutant("unbiased variance", "parts.var(axis=2, keepdims=True)",
               "parts.var(axis=2, keepdims=True, ddof=1)"),
        Mutant("eps outside of the root", "np.sqrt(var + eps)).reshape",
               "(np.sqrt(var) + x.dtype.type(eps))).reshape"),
        Mutant("forgot weight and bias", "return y * weight[:, None, None] + bias[:, None, None]",
               "return y"),
    ),
)  # fmt: skip
