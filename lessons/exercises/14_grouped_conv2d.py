"""Convolution in groups, and depthwise

Every output channel of a convolution reads all input channels. With groups it reads its own group
only: the channels of x are cut into `groups` equal parts, those of y as well, and part g of y is a
convolution of part g of x. That takes 1 / groups of the weights and of the work. For output channel
o, in group g = o // (O / groups):

    y[n, o, r, c] = sum over k, i, j of  w[o, k, i, j] * x[n, g * (C / groups) + k, r + i, c + j]

w has only C / groups input channels. With groups = C each channel is filtered by itself, which is
the depthwise convolution of MobileNet, SegFormer's Mix-FFN and DeepLabV3+'s decoder.

    C = 4, O = 6, groups = 2:   y's channels 0 1 2 read x's 0 1,    y's 3 4 5 read x's 2 3
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.ops.op import get_op


def grouped_conv2d(x: np.ndarray, w: np.ndarray, groups: int, padding: int = 0) -> np.ndarray:
    """The formula above, with a stride of 1.

    x (N, C, H, W), w (O, C / groups, kh, kw) -> y (N, O, H', W'), of x's dtype, with
    H' = H + 2 * padding - kh + 1, and W' likewise
    """
    N, _, H, W = x.shape
    O, K, kh, kw = w.shape
    H_out, W_out = H + 2 * padding - kh + 1, W + 2 * padding - kw + 1
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    x = x.reshape(N, groups, K, *x.shape[2:])  # a group's channels lie side by side
    w = w.reshape(groups, O // groups, K, kh, kw)
    y = np.zeros((N, groups, O // groups, H_out, W_out), x.dtype)
    for i, j in np.ndindex(kh, kw):
        under = x[..., i : i + H_out, j : j + W_out]
        y += np.einsum("gok,ngkrc->ngorc", w[..., i, j], under)
    return y.reshape(N, O, H_out, W_out)


def right(x, w, groups, padding=0):
    return get_op("conv2d").definition(x, w, None, (1, 1), (padding, padding), (1, 1), groups)


def interleaved(channels, groups):
    """Channel c in group c % groups: where the channels are, group by group."""
    return np.arange(channels).reshape(-1, groups).T.ravel()


def x_interleaved(x, w, groups, padding=0):
    return right(x[:, interleaved(x.shape[1], groups)], w, groups, padding)


def w_interleaved(x, w, groups, padding=0):
    """Output channel o reads group o % groups."""
    order = interleaved(len(w), groups)
    y = np.empty_like(right(x, w, groups, padding))
    y[:, order] = right(x, w[order], groups, padding)
    return y


def w_interleaved_y_not(x, w, groups, padding=0):
    return right(x, w[interleaved(len(w), groups)], groups, padding)


def first_channels(x, w, groups, padding=0):
    return right(x[:, : w.shape[1]], w, 1, padding)


def all_channels(x, w, groups, padding=0):
    return right(x, np.tile(w, (1, groups, 1, 1)), 1, padding)


rng = np.random.default_rng(33)


def case(name, x, out, kernel_size, groups, **how):
    x, w = (rng.integers(-3, 4, shape).astype(float)
            for shape in (x, (out, x[1] // groups, *kernel_size)))  # fmt: skip
    return Case(name, {"x": x, "w": w, "groups": groups, **how})


INTERLEAVED = (
    "Output channel o belongs to group o // (O / groups), not to o % groups: a group's outputs, "
    "and its rows of w, are neighbours."
)
TASK = Task(
    outputs=("y",),
    reference=right,
    terms=100,
    cases=(
        case("two groups of one channel", (1, 2, 2, 3), 2, (1, 2), 2),
        case("one group: all channels", (1, 2, 3, 3), 3, (2, 2), 1),
        case("two groups of two channels", (1, 4, 2, 3), 2, (2, 2), 2),
        case("two groups, 4 to 6 channels", (1, 4, 3, 2), 6, (2, 1), 2),
        case("depthwise, padding 1", (1, 3, 3, 4), 3, (3, 3), 3, padding=1),
        case("depthwise, two outputs per channel", (2, 3, 2, 3), 6, (2, 2), 3),
        case("three groups, two images", (2, 6, 3, 2), 3, (2, 2), 3, padding=1),
    ),
    edge_cases=(case("a kernel as large as the image", (2, 2, 2, 3), 4, (2, 3), 2),),
    hints=(
        "A group is a convolution of its own, with fewer channels. Loop over the groups and call "
        "what you wrote for conv2d, or give x, w and y an axis of groups.",
        "Group g reads channels g * K .. (g + 1) * K of x, K = w.shape[1]; its outputs, and its "
        "rows of w, are those from g * O / groups to (g + 1) * O / groups.",
        "x.reshape(N, groups, K, H, W), w.reshape(groups, O // groups, K, kh, kw), then for each "
        'i, j: y += np.einsum("gok,ngkrc->ngorc", w[..., i, j], under); reshape y to (N, O, ...).',
    ),
    slips=(
        Slip("input channels interleaved", "Group g reads every groups-th channel of x; a group's "
             "channels are neighbours: g * K .. (g + 1) * K.", x_interleaved),
        Slip("output channels interleaved", INTERLEAVED, w_interleaved),
        Slip("output channels interleaved", INTERLEAVED, w_interleaved_y_not),
        Slip("only the first group is read", "All outputs read the channels of group 0: shift k "
             "by g * C / groups.", first_channels),
        Slip("reads all channels", "Every output reads all channels of x, with the same weights "
             "again for each group.", all_channels),
        Slip("groups added up", "The groups' results are added; they are different channels of y.",
             lambda x, w, groups, padding=0: right(x, w, groups, padding).reshape(
                 len(x), groups, len(w) // groups, x.shape[2] + 2 * padding - w.shape[2] + 1, -1)
             .sum(axis=1)),
        Slip("flipped kernel", "The kernel is turned by 180 degrees.",
             lambda x, w, groups, padding=0: right(x, w[:, :, ::-1, ::-1], groups, padding)),
        Slip("forgot the padding", "The padding is left out.",
             lambda x, w, groups, padding=0: right(x, w, groups)),
    ),
    mutants=(
        Mutant("input channels interleaved", "x.reshape(N, groups, K, *x.shape[2:])",
               "x.reshape(N, K, groups, *x.shape[2:]).swapaxes(1, 2)"),
        Mutant("output channels interleaved", "    w = w.reshape(groups, O // groups, K, kh, kw)",
               "    w = w.reshape(O // groups, groups, K, kh, kw).swapaxes(0, 1)"),
        Mutant("only the first group is read", "x[..., i : i + H_out, j : j + W_out]",
               "x[:, :1, :, i : i + H_out, j : j + W_out].repeat(groups, 1)"),
        Mutant("reads all channels", '"gok,ngkrc->ngorc", w[..., i, j], under',
               '"gok,nhkrc->ngorc", w[..., i, j], under'),
        Mutant("groups added up", "y.reshape(N, O, H_out, W_out)", "y.sum(axis=1)"),
        Mutant("flipped kernel", "w[..., i, j]", "w[..., kh - 1 - i, kw - 1 - j]"),
        Mutant("dtype", "W_out), x.dtype)", "W_out))"),
    ),
)  # fmt: skip
