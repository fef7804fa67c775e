"""FPN: what the coarse maps know, handed down

A ResNet's maps get smaller and wiser: c3, c4, c5 have strides 8, 16, 32. The feature pyramid takes
what the coarsest knows down to the finest, level by level. A 1x1 convolution brings each map to P
channels; what comes from above is resized to its size, by repeating pixels ("nearest"), and added:

    p5 = w5(c5)
    p4 = w4(c4) + up(p5)
    p3 = w3(c3) + up(p4)

Repeating leaves blocks, which a 3x3 convolution smooths at the end (padding 1). There is no ReLU
anywhere, and no bias. Each map is half as large as the one before, rounded up: up() goes to the
*size* of the finer map, which is not always twice the coarser one's.
"""

import minseg.functional as F
from minseg import Tensor, cat
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task
from minseg.models.fpn import FeaturePyramid


def top_down(
    c3: Tensor, c4: Tensor, c5: Tensor, w3: Tensor, w4: Tensor, w5: Tensor, smooth: Tensor
) -> Tensor:
    """p3 of the formulas above, smoothed.

    c3 (N, A, H, W), c4 (N, B, H / 2, W / 2), c5 (N, C, H / 4, W / 4), each rounded up,
    w3 (P, A, 1, 1), w4 (P, B, 1, 1), w5 (P, C, 1, 1), smooth (P, P, 3, 3) -> y (N, P, H, W)
    """
    p = F.conv2d(c5, w5)
    for c, w in ((c4, w4), (c3, w3)):
        above = F.interpolate(p, size=c.shape[2:], mode="nearest")
        p = F.conv2d(c, w) + above
    return F.conv2d(p, smooth, padding=1)


def right(c3, c4, c5, w3, w4, w5, smooth):
    maps, laterals = (c3, c4, c5), (w3, w4, w5)
    module = FeaturePyramid([c.shape[1] for c in maps], smooth.shape[0])
    weights = {f"lateral.{level}.weight": w for level, w in enumerate(laterals)}
    return with_weights(module, {**weights, "smooth.0.weight": smooth})(maps)[0]


def to(p, c, mode="nearest", **how):
    return F.interpolate(p, size=c.shape[2:], mode=mode, **how)


def added(lateral, above):
    return lateral + above


def smoothed(p, smooth):
    return F.conv2d(p, smooth, padding=1)


def other(up=to, join=added, lateral=F.conv2d, middle=lambda p, smooth: p, end=smoothed):
    """The pyramid with another step."""

    def answer(c3, c4, c5, w3, w4, w5, smooth):
        p = middle(lateral(c5, w5), smooth)
        p = middle(join(lateral(c4, w4), up(p, c4)), smooth)
        return end(join(lateral(c3, w3), up(p, c3)), smooth)

    return answer


def at_once(c3, c4, c5, w3, w4, w5, smooth):
    """Each level goes to the finest size in one step."""
    return smoothed(F.conv2d(c3, w3) + to(F.conv2d(c4, w4), c3) + to(F.conv2d(c5, w5), c3), smooth)


def case(name, N, channels, P, size):
    shapes = {}
    for level, C in enumerate(channels):
        shapes[f"c{3 + level}"] = (N, C, *(-(-n // 2**level) for n in size))
    shapes |= {f"w{3 + level}": (P, C, 1, 1) for level, C in enumerate(channels)}
    return part_case(name, right, {**shapes, "smooth": (P, P, 3, 3)})


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_c3", "grad_c4", "grad_c5", "grad_w3", "grad_w4", "grad_w5", "grad_smooth"),
    reference=right,
    terms=1000,
    cases=(
        case("4x4, one channel each", 1, (1, 1, 1), 1, (4, 4)),
        case("4x8, channels 1, 2, 3", 1, (1, 2, 3), 2, (4, 8)),
        case("two images, 8x4", 2, (1, 1, 2), 2, (8, 4)),
        case("6x4: up(p5) is cut", 1, (2, 1, 2), 2, (6, 4)),
        case("odd sizes, 5x7", 1, (2, 1, 1), 2, (5, 7)),
    ),
    edge_cases=(case("a single pixel", 2, (1, 2, 3), 2, (1, 1)),),
    hints=(
        "Begin at the top, with c5, and keep one map p. Twice the same step: resize p to the next "
        "finer map, add that map's 1x1 convolution.",
        'F.conv2d(c, w) is (N, P, h, w); F.interpolate(p, size=c.shape[2:], mode="nearest") has '
        "this shape, too. After p3, and only there: F.conv2d(p, smooth, padding=1).",
        "p = F.conv2d(c5, w5); for c, w in ((c4, w4), (c3, w3)): p = F.conv2d(c, w) + "
        'F.interpolate(p, size=c.shape[2:], mode="nearest"); return F.conv2d(p, smooth, padding=1).'
    ),
    slips=(
        Slip("bilinear", "What comes from above is interpolated; repeat its pixels instead, "
             'mode="nearest".', other(up=lambda p, c: to(p, c, "bilinear"))),
        Slip("bilinear", "What comes from above is interpolated, with align_corners; repeat its "
             'pixels instead, mode="nearest".',
             other(up=lambda p, c: to(p, c, "bilinear", align_corners=True))),
        Slip("forgot the smoothing", "p3 is not smoothed: a 3x3 convolution comes last.",
             other(end=lambda p, smooth: p)),
        Slip("smoothed at every level", "Each level is smoothed before it is handed down; smooth "
             "only the last one.", other(middle=smoothed)),
        Slip("smoothed without padding", "The smoothing makes the map smaller: padding=1.",
             other(end=F.conv2d)),
        Slip("a ReLU", "There is a ReLU after the 1x1 convolutions. The pyramid has none.",
             other(lateral=lambda c, w: F.relu(F.conv2d(c, w)))),
        Slip("a ReLU", "There is a ReLU after each sum. The pyramid has none.",
             other(join=lambda lateral, above: F.relu(lateral + above))),
        Slip("a ReLU", "There is a ReLU at the end. The pyramid has none.",
             other(end=lambda p, smooth: F.relu(smoothed(p, smooth)))),
        Slip("c5 is lost", "c5 has no effect: p5 has to go into p4.",
             lambda **given: right(**{**given, "c5": 0 * given["c5"]})),
        Slip("c4 is lost", "c4 has no effect: p4 is w4(c4) *and* what comes from above.",
             lambda **given: right(**{**given, "c4": 0 * given["c4"]})),
        Slip("only the finest", "Nothing comes from above: p3 is w3(c3) alone.",
             lambda **given: right(**{**given, "c4": 0 * given["c4"], "c5": 0 * given["c5"]})),
        Slip("all at once", "Each level is resized to the finest in one step. Hand down level by "
             "level: p5 to p4, the sum to p3.", at_once),
        Slip("averaged", "Each level is half of the sum; just add.",
             other(join=lambda lateral, above: 0.5 * (lateral + above))),
        Slip("concatenated", "p3 has the channels of all levels, concatenated; add the levels "
             "instead.",
             lambda c3, c4, c5, w3, w4, w5, smooth: cat(
                 [F.conv2d(c3, w3), to(F.conv2d(c4, w4), c3), to(F.conv2d(c5, w5), c3)], dim=1)),
    ),
    mutants=(
        Mutant("bilinear", 'mode="nearest"', 'mode="bilinear"'),
        Mutant("bilinear", 'mode="nearest"', 'mode="bilinear", align_corners=True'),
        Mutant("values", 'size=c.shape[2:], mode="nearest"', "scale_factor=2"),
        Mutant("forgot the smoothing", "return F.conv2d(p, smooth, padding=1)", "return p"),
        Mutant("smoothed at every level", "        p = F.conv2d(c, w) + above\n"
               "    return F.conv2d(p, smooth, padding=1)",
               "        p = F.conv2d(c, w) + F.interpolate(F.conv2d(p, smooth, padding=1), "
               "size=c.shape[2:])\n    return F.conv2d(p, smooth, padding=1)"),
        Mutant("smoothed without padding", "smooth, padding=1)", "smooth)"),
        Mutant("a ReLU", "F.conv2d(c, w) + above", "F.relu(F.conv2d(c, w) + above)"),
        Mutant("c5 is lost", "p = F.conv2d(c5, w5)", "p = F.conv2d(c5, 0 * w5)"),
        Mutant("c4 is lost", "((c4, w4), (c3, w3))", "((c4, 0 * w4), (c3, w3))"),
        Mutant("only the finest", "F.conv2d(c, w) + above", "F.conv2d(c, w) + 0 * above"),
        Mutant("all at once", "return F.conv2d(p, smooth, padding=1)", "p = F.conv2d(c3, w3) + "
               "F.interpolate(F.conv2d(c4, w4), size=c3.shape[2:]) + F.interpolate(F.conv2d(c5, "
               "w5), size=c3.shape[2:])\n    return F.conv2d(p, smooth, padding=1)"),
    ),
)  # fmt: skip
