"""Bilinear upsampling

Every output looks at a place of the input, and mixes the two rows and two columns around it. An
image of `size` pixels becomes `out` pixels; along either axis, output o looks at the place

    (o + 1/2) * size / out - 1/2          pixels are squares, corners meet corners
    o * (size - 1) / (out - 1)            with align_corners: pixels are points, ends meet ends

A place below 0 is taken as 0: beyond the edge there is only the edge; and with align_corners, if
`out` is 1, the place is 0. At the place p, with f = p - floor(p), the pixel floor(p) has the weight
1 - f, and the next one (at the edge, the same one) the weight f.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.interpolate import interpolate_definition


def places(size: int, out: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output of an axis: the pixel before its place, the one after, and f."""
    if align_corners:
        place = np.arange(out) * (size - 1) / max(out - 1, 1)
    else:
        place = np.maximum((np.arange(out) + 0.5) * size / out - 0.5, 0)
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, size - 1)
    return before, after, place - before


def bilinear(x: np.ndarray, size: tuple[int, int], align_corners: bool = False) -> np.ndarray:
    """x, resized to `size`.

    x (N, C, H, W), size (H', W') -> y (N, C, H', W'), of x's dtype
    """
    top, bottom, f = places(x.shape[2], size[0], align_corners)
    f = f[:, None].astype(x.dtype)
    x = x[:, :, top] * (1 - f) + x[:, :, bottom] * f  # (N, C, H', W)
    left, right, f = places(x.shape[3], size[1], align_corners)
    f = f.astype(x.dtype)
    return x[..., left] * (1 - f) + x[..., right] * f


def reference(x, size, align_corners=False):
    return interpolate_definition(x, size, (None, None), "linear", align_corners)


def mixed(x, size, place, weight=lambda f: f, before=lambda p, n: np.clip(np.floor(p), 0, n - 1)):
    """Bilinear with another rule for the places, the weights, or the pixel before a place."""
    for axis in (2, 3):
        n, out = x.shape[axis], size[axis - 2]
        p = np.array([place(o, n, out) for o in range(out)])
        low = before(p, n).astype(int)
        f = weight(p - np.floor(p)).reshape(-1, *[1] * (3 - axis))
        x = (
            x.take(low, axis) * (1 - f)
            + x.take(np.clip(np.floor(p).astype(int) + 1, 0, n - 1), axis) * f
        )
    return x


def centre(o, n, out):
    return (o + 0.5) * n / out - 0.5


def clamped(o, n, out):
    return max(centre(o, n, out), 0)


def right_place(align_corners):
    return (lambda o, n, out: o * (n - 1) / max(out - 1, 1)) if align_corners else clamped


def in_op(bilinear, x, size, scales, how, align_corners):
    """The op resizes in other ways, too, and by a scale that is not the ratio of the sizes."""
    ratios = [b / a for a, b in zip(x.shape[2:], size, strict=True)]
    by_ratio = all(given in (None, ratio) for given, ratio in zip(scales, ratios, strict=True))
    if how != "linear" or x.ndim != 4 or not by_ratio:
        return NotImplemented
    return bilinear(x, size, align_corners)


rng = np.random.default_rng(5)


def case(name, shape, size, **how):
    return Case(name, {"x": rng.integers(-9, 10, shape).astype(float), "size": size, **how})


TASK = Task(
    outputs=("y",),
    reference=reference,
    use=Use("interpolate", "forward", in_op, lesson="18"),
    terms=16,
    cases=(
        Case("a row of two", {"x": np.array([[[[0.0, 8.0]]]]), "size": (1, 4)}),
        case("twice as large", (1, 1, 2, 3), (4, 6)),
        case("two images, two channels", (2, 2, 2, 2), (3, 5)),
        case("no whole multiple", (1, 1, 3, 4), (5, 7)),
        case("smaller", (1, 1, 5, 6), (3, 4)),
        case("align_corners", (1, 1, 3, 3), (5, 6), align_corners=True),
    ),
    edge_cases=(
        case("one pixel", (1, 2, 1, 1), (3, 2)),
        case("to one pixel, align_corners", (1, 1, 3, 4), (1, 1), align_corners=True),
        case("the same size", (1, 1, 2, 3), (2, 3)),
    ),
    hints=(
        "Two axes are two resizings, one after the other: rows first, then columns. So think of one"
        " axis: which two pixels does each output mix, with which weights?",
        "place = (o + 1/2) * size / out - 1/2, not below 0; before = floor(place), after = before "
        "+ 1 but not beyond the last; the weights are 1 - f and f with f = place - before.",
        "Arrays of indices do it for all outputs: x[:, :, top] * (1 - f) + x[:, :, bottom] * f, "
        "with f[:, None] along the rows; then x[..., left] and x[..., right] likewise.",
    ),
    slips=(
        Slip("align_corners inverted", "This is right for the other value of align_corners.",
             lambda x, size, align_corners=False: reference(x, size, not align_corners)),
        Slip("half a pixel off", "Your place is o * size / out. Pixels are squares: their centres "
             "are half a pixel in, on both sides: (o + 1/2) * size / out - 1/2.",
             lambda x, size, align_corners=False: mixed(x, size, lambda o, n, out: o * n / out)),
        Slip("weights swapped", "The nearer pixel gets the smaller weight: floor(p) has the weight "
             "1 - f.",
             lambda x, size, align_corners=False:
             mixed(x, size, right_place(align_corners), weight=lambda f: 1 - f)),
        Slip("nearest", "Each output is a copy of one pixel: the fraction f is lost on the way. Is "
             "it rounded, or is there an integer division?",
             lambda x, size, align_corners=False:
             mixed(x, size, right_place(align_corners), weight=np.round)),
        Slip("the pixel before only", "Each output is a copy of the pixel before its place: f is 0 "
             "everywhere. An integer division, or a place that was rounded down?",
             lambda x, size, align_corners=False:
             mixed(x, size, right_place(align_corners), weight=lambda f: 0 * f)),
        Slip("place below 0", "At the upper and left border the place is below 0, and index -1 is "
             "the *last* pixel in Python. Take np.maximum(place, 0).",
             lambda x, size, align_corners=False:
             mixed(x, size, centre, before=lambda p, n: np.floor(p) % n)),
    ),
    mutants=(
        Mutant("align_corners inverted", "if align_corners:", "if not align_corners:"),
        Mutant("half a pixel off", "(np.arange(out) + 0.5) * size / out - 0.5",
               "np.arange(out) * size / out"),
        Mutant("weights swapped", "return before, after, place - before",
               "return before, after, 1 - (place - before)"),
        Mutant("nearest", "return before, after, place - before",
               "return before, after, np.round(place - before)"),
        Mutant("the pixel before only", "before = np.floor(place)",
               "before = place = np.floor(place)"),
        Mutant("place below 0", "np.maximum((np.arange(out) + 0.5) * size / out - 0.5, 0)",
               "(np.arange(out) + 0.5) * size / out - 0.5"),
        Mutant("dtype", "    f = f[:, None].astype(x.dtype)", "    f = f[:, None]"),
        Mutant("edge cases", "max(out - 1, 1)", "(out - 1)"),
    ),
)  # fmt: skip
