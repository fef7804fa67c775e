"""Atrous separable convolution: each channel by itself, then across

A 3x3 convolution from 256 channels to 256 has 589,824 weights. Split it: first every channel is
filtered by a kernel of its own (depthwise), then a 1x1 convolution mixes the channels of each pixel
(pointwise). Together they have 2,304 + 65,536 weights, about an eighth; and the depthwise half,
like any convolution, can have a rate, as in DeepLabV3+:

    d[n, c, r, q] = sum over i, j of  depthwise[c, 0, i, j] * x[n, c, r + (i - k // 2) * rate,
                                                                      q + (j - k // 2) * rate]
    y[n, o, r, q] = sum over c of     pointwise[o, c, 0, 0] * d[n, c, r, q]

x is 0 outside of the image; k is odd, so the size stays. Between the two there is no ReLU.
"""

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task
from minseg.models.deeplabv3 import SeparableConvBNReLU


def separable_conv2d(x: Tensor, depthwise: Tensor, pointwise: Tensor, rate: int = 1) -> Tensor:
    """The formulas above.

    x (N, C, H, W), depthwise (C, 1, k, k), pointwise (O, C, 1, 1) -> y (N, O, H, W)
    """
    C, _, k, _ = depthwise.shape
    filtered = F.conv2d(x, depthwise, padding=rate * (k // 2), dilation=rate, groups=C)
    return F.conv2d(filtered, pointwise)


def right(x, depthwise, pointwise, rate=1):
    O, C = pointwise.shape[:2]
    both, *_ = SeparableConvBNReLU(C, O, depthwise.shape[2], rate).children()
    return with_weights(both, {"0.weight": depthwise, "1.weight": pointwise})(x)


def filtered(x, depthwise, rate=1, padding=None):
    padding = rate * (depthwise.shape[2] // 2) if padding is None else padding
    groups = depthwise.shape[0]
    return F.conv2d(x, depthwise, padding=padding, dilation=rate, groups=groups)


def same_kernel(x, depthwise, pointwise, rate=1):
    first = depthwise[0:1].expand(*depthwise.shape)
    return right(x, first, pointwise, rate)


def case(name, N, C, O, size, k=3, **rate):
    shapes = {"x": (N, C, *size), "depthwise": (C, 1, k, k), "pointwise": (O, C, 1, 1)}
    return part_case(name, right, shapes, **rate)


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_x", "grad_depthwise", "grad_pointwise"),
    reference=right,
    terms=500,
    cases=(
        case("one channel", 1, 1, 1, (3, 3)),
        case("two channels to two", 1, 2, 2, (3, 4)),
        case("two images, two channels to three", 2, 2, 3, (4, 3)),
        case("rate 2", 1, 2, 2, (5, 6), rate=2),
        case("rate 3, three channels to two", 1, 3, 2, (7, 5), rate=3),
        case("a kernel of 5x5, rate 3", 1, 2, 1, (8, 9), k=5, rate=3),
    ),
    edge_cases=(
        case("a map smaller than the rate", 2, 2, 3, (2, 3), rate=6),
        case("a kernel of 1x1", 1, 2, 2, (3, 2), k=1, rate=2),
    ),
    hints=(
        "F.conv2d can do both: with `groups` it keeps groups of channels apart. How many groups "
        "leave every channel by itself?",
        "groups=C: kernel c sees channel c only, that is why depthwise is (C, 1, k, k). At a rate "
        "the kernel spans rate * (k - 1) + 1 pixels, so padding is rate * (k // 2).",
        "F.conv2d(F.conv2d(x, depthwise, padding=rate * (k // 2), dilation=rate, groups=C), "
        "pointwise).",
    ),
    slips=(
        Slip("forgot the pointwise half", "These are the filtered channels: the 1x1 convolution "
             "that mixes them is missing.",
             lambda x, depthwise, pointwise, rate=1: filtered(x, depthwise, rate)),
        Slip("forgot the depthwise half", "Only the 1x1 convolution is there: the pixels around "
             "count, too.", lambda x, depthwise, pointwise, rate=1: F.conv2d(x, pointwise)),
        Slip("wrong order", "The 1x1 convolution comes first. Filter the channels first, then mix "
             "them.", lambda x, depthwise, pointwise, rate=1:
             filtered(F.conv2d(x, pointwise), depthwise, rate)),
        Slip("forgot the rate", "The kernel's places lie side by side: dilation is left out.",
             lambda x, depthwise, pointwise, rate=1: right(x, depthwise, pointwise)),
        Slip("padding without the rate", "The map gets smaller: a kernel with a rate reaches "
             "further, so padding is rate * (k // 2).",
             lambda x, depthwise, pointwise, rate=1: F.conv2d(
                 filtered(x, depthwise, rate, padding=depthwise.shape[2] // 2), pointwise)),
        Slip("padding for 3x3 only", "The padding is the rate, which is right for k = 3 only: use "
             "rate * (k // 2).", lambda x, depthwise, pointwise, rate=1: F.conv2d(
                 filtered(x, depthwise, rate, padding=rate), pointwise)),
        Slip("forgot the padding", "The map gets smaller: pad with rate * (k // 2) zeros.",
             lambda x, depthwise, pointwise, rate=1: F.conv2d(
                 filtered(x, depthwise, rate, padding=0), pointwise)),
        Slip("a ReLU between", "Yours has a ReLU between the two halves; the formula has none.",
             lambda x, depthwise, pointwise, rate=1:
             F.conv2d(F.relu(filtered(x, depthwise, rate)), pointwise)),
        Slip("a ReLU after", "There is a ReLU at the end. It belongs to the network, after batch "
             "norm, not to the convolution.", lambda **given: F.relu(right(**given))),
        Slip("one kernel for all", "All channels are filtered by the first one's kernel.",
             same_kernel),
        Slip("flipped kernel", "The depthwise kernels are turned by 180 degrees: place (i, j) "
             "looks i - k // 2 rows down, and j - k // 2 columns to the right.",
             lambda x, depthwise, pointwise, rate=1:
             right(x, depthwise[:, :, ::-1, ::-1], pointwise, rate)),
        Slip("transposed kernel", "Rows and columns of the depthwise kernels have changed places.",
             lambda x, depthwise, pointwise, rate=1:
             right(x, depthwise.transpose(2, 3), pointwise, rate)),
        Slip("pointwise transposed", "pointwise[o, c] leads from channel c to o; here it is the "
             "other way round.", lambda x, depthwise, pointwise, rate=1:
             right(x, depthwise, pointwise.transpose(0, 1), rate)),
    ),
    mutants=(
        Mutant("forgot the pointwise half", "return F.conv2d(filtered, pointwise)",
               "return filtered"),
        Mutant("forgot the depthwise half", "F.conv2d(filtered, pointwise)",
               "F.conv2d(x, pointwise)"),
        Mutant("wrong order", "    C, _, k, _ = depthwise.shape\n",
               "    C, _, k, _ = depthwise.shape\n    if C == pointwise.shape[0]:\n        return "
               "F.conv2d(F.conv2d(x, pointwise), depthwise, padding=rate * (k // 2), "
               "dilation=rate, groups=C)\n"),
        Mutant("forgot the rate", "padding=rate * (k // 2), dilation=rate", "padding=k // 2"),
        Mutant("padding without the rate", "padding=rate * (k // 2)", "padding=k // 2"),
        Mutant("padding for 3x3 only", "padding=rate * (k // 2)", "padding=rate"),
        Mutant("forgot the padding", "padding=rate * (k // 2), ", ""),
        Mutant("a ReLU between", "F.conv2d(filtered, pointwise)",
               "F.conv2d(F.relu(filtered), pointwise)"),
        Mutant("one kernel for all", "    filtered =",
               "    depthwise = depthwise[:1].expand(C, 1, k, k)\n    filtered ="),
        Mutant("flipped kernel", "F.conv2d(x, depthwise,", "F.conv2d(x, depthwise[:, :, ::-1, "
               "::-1],"),
        Mutant("values", ", groups=C", ""),
    ),
)  # fmt: skip
