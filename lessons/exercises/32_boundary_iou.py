"""Boundary IoU: a score that sees ragged borders

A large mask has few border pixels, so its IoU hardly falls when they are all wrong. Boundary IoU
looks at them alone. The boundary of a mask is what lies *inside* of it, at most `distance` pixels
from what is outside (diagonal steps count as one). Beyond the image's edge is outside, too:

    (r, c) is on the boundary   if mask[r, c], and somewhere in the square of rows r - d .. r + d
                                and columns c - d .. c + d the mask is False, or the image ends

The score is the IoU of both masks' boundaries, over all images together:

    (pixels of both boundaries) / (pixels of either boundary);    NaN if there are none

    1 1 1 1 0        1 1 1 1 0
    1 1 1 1 0   ->   1 0 0 1 0       with distance 1
    1 1 1 1 0        1 1 1 1 0
"""

import math

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.metrics import BoundaryIoU


def boundary_iou(
    prediction: np.ndarray, target: np.ndarray, distance: int
) -> tuple[np.ndarray, np.ndarray]:
    """The boundary of the prediction, and the boundary IoU of both.

    prediction, target (N, H, W) of bools -> boundary (N, H, W) of bools, and score, a number
    """

    def boundary_of(mask):
        H, W = mask.shape[1:]
        padded = np.pad(mask, ((0, 0), (distance, distance), (distance, distance)))
        inner = mask
        for i, j in np.ndindex(2 * distance + 1, 2 * distance + 1):
            inner = inner & padded[:, i : i + H, j : j + W]
        return mask & ~inner

    a, b = boundary_of(prediction), boundary_of(target)
    either = (a | b).sum()
    return a, (a & b).sum() / either if either else np.nan


def by_definition(mask, near):
    """near(dr, dc, distance): does a place outside, that far away, make it a boundary?"""

    def boundary(distance):
        result = np.zeros_like(mask)
        reach = range(-2 * distance, 2 * distance + 1)
        steps = [(i, j) for i in reach for j in reach if near(abs(i), abs(j), distance)]
        for n, r, c in zip(*np.nonzero(mask), strict=True):
            result[n, r, c] = any(not inside(mask[n], r + i, c + j) for i, j in steps)
        return result

    return boundary


def inside(mask, r, c):
    return 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]


def square(i, j, d):
    return max(i, j) <= d


def band(mask, distance, near=square):
    return by_definition(mask, near)(distance)


def quotient(a, b):
    with np.errstate(invalid="ignore"):
        return (a & b).sum() / (a | b).sum()


def right(prediction, target, distance):
    metric = BoundaryIoU(2, dilation_ratio=distance / math.hypot(*target.shape[1:]))
    metric.update(prediction.astype(int), target.astype(int))
    return band(prediction, distance), metric.compute().values[1]


def other(boundary):
    """boundary(mask, distance), another one."""

    def answer(prediction, target, distance):
        a, b = boundary(prediction, distance), boundary(target, distance)
        return a, quotient(a, b)

    return answer


def other_score(score):
    def answer(prediction, target, distance):
        return None, score(band(prediction, distance), band(target, distance), prediction, target)

    return answer


def image_continues(mask, d):
    """The image's edge does not count as outside."""
    padded = np.pad(mask, ((0, 0), (d, d), (d, d)), mode="edge")
    return mask & band(padded, d)[:, d:-d, d:-d]


def where_empty(score):
    """Another score where there is no boundary."""

    def answer(a, b, *masks):
        return quotient(a, b) if (a | b).any() else score

    return other_score(answer)


def mean_of_images(a, b, *masks):
    return np.mean([quotient(x, y) for x, y in zip(a, b, strict=True)])


def disc(row, col, radius, height, width):
    r, c = np.mgrid[:height, :width]
    return (abs(r - row) <= radius) & (abs(c - col) <= radius + 0.5) & (
        abs(r - row) + abs(c - col) < 2 * radius + 0.6)  # fmt: skip


example = np.array([[[1, 1, 1, 1, 0]] * 3], bool)
narrower = np.array([[[0, 1, 1, 1, 0]] * 3], bool)
pair = np.array([disc(3, 3, 3, 7, 9), disc(3, 5, 2, 7, 9)])
other_pair = np.array([disc(3, 4, 3, 7, 9), disc(3, 5, 3, 7, 9)])
large, larger = disc(5, 5, 4, 11, 12)[None], disc(5, 6, 4, 11, 12)[None]
TASK = Task(
    outputs=("boundary", "score"),
    reference=right,
    terms=10,
    cases=(
        Case("the example, and a narrower mask", {
            "prediction": example, "target": narrower, "distance": 1}),
        Case("round corners", {"prediction": pair[:1], "target": other_pair[:1], "distance": 1}),
        Case("two images", {"prediction": pair, "target": other_pair, "distance": 1}),
        Case("distance 2", {"prediction": large, "target": larger, "distance": 2}),
    ),
    edge_cases=(
        Case("two empty masks", {"prediction": np.zeros((1, 3, 4), bool),
                                 "target": np.zeros((1, 3, 4), bool), "distance": 1}),
        Case("nothing but boundary", {"prediction": np.ones((1, 2, 3), bool),
                                      "target": example[:, :2, :3], "distance": 1}),
        Case("a hole", {"prediction": np.arange(25).reshape(1, 5, 5) != 12,
                        "target": np.ones((1, 5, 5), bool), "distance": 1}),
    ),
    hints=(
        "Turn the question round: a pixel is *interior* if the whole square around it is in the "
        "mask. The mask without its interior is the boundary.",
        "Pad with False by `distance` on every side. A pixel is interior if all (2 d + 1)^2 "
        "shifted copies of the padded mask are True there.",
        "inner = inner & padded[:, i : i + H, j : j + W], for i and j in range(2 * distance + 1); "
        "boundary = mask & ~inner; score = (a & b).sum() / (a | b).sum(), NaN if that is 0 / 0.",
    ),
    slips=(
        Slip("no corners", "Your boundary counts a diagonal step as two: pixels that touch the "
             "outside only across a corner are missing. Look through the whole square.",
             other(lambda mask, d: band(mask, d, lambda i, j, d: i + j <= d))),
        Slip("the image's edge forgotten", "A mask that touches the image's edge ends there: "
             "beyond the edge is outside. Pad with False.", other(image_continues)),
        Slip("around the mask", "This is the ring around the mask; the boundary lies inside of it.",
             other(lambda mask, d: band(np.pad(~mask, ((0, 0), (d, d), (d, d)), constant_values=True
                                               ), d)[:, d:-d, d:-d] & ~mask)),
        Slip("interior", "This is the interior, what is left without the boundary: return mask & "
             "~inner.",
             other(lambda mask, d: mask & ~band(mask, d))),
        Slip("one pixel too wide", "The boundary is one pixel too wide: the square reaches from "
             "r - d to r + d.", other(lambda mask, d: band(mask, d + 1))),
        Slip("always one pixel", "The boundary is one pixel wide whatever `distance` is.",
             other(lambda mask, d: band(mask, 1))),
        Slip("one pixel too narrow", "The boundary is one pixel too narrow: the square reaches "
             "from r - d to r + d, both included.",
             other(lambda mask, d: band(mask, d - 1) if d > 1 else np.zeros_like(mask))),
        Slip("IoU of the masks", "This is the IoU of the whole masks; that of their boundaries is "
             "wanted.", other_score(lambda a, b, p, t: quotient(p, t))),
        Slip("this is Dice", "2 |A and B| / (|A| + |B|) is Dice; IoU divides by |A or B|.",
             other_score(lambda a, b, p, t: 2 * (a & b).sum() / (a.sum() + b.sum()))),
        Slip("this is recall", "The intersection is divided by the target's boundary alone; the "
             "union contains the prediction's as well.",
             other_score(lambda a, b, p, t: (a & b).sum() / b.sum())),
        Slip("mean over images", "This is the mean of each image's score; the pixels of all images "
             "are counted together.", other_score(mean_of_images)),
        Slip("no boundary counts as 0", "Where there is no boundary, there is no score: "
             "NaN, not 0.",
             where_empty(0.0)),
        Slip("no boundary counts as 1", "Where there is no boundary, there is no score: "
             "NaN, not 1.",
             where_empty(1.0)),
    ),
    mutants=(
        Mutant("no corners", "            inner = inner &",
               "            if abs(i - distance) + abs(j - distance) > distance:\n"
               "                continue\n            inner = inner &"),
        Mutant("the image's edge forgotten", "(distance, distance)))",
               '(distance, distance)), mode="edge")'),
        Mutant("interior", "return mask & ~inner", "return inner"),
        Mutant("one pixel too wide", "    def boundary_of(mask):\n",
               "    distance = distance + 1\n\n    def boundary_of(mask):\n"),
        Mutant("always one pixel", "    def boundary_of(mask):\n",
               "    distance = 1\n\n    def boundary_of(mask):\n"),
        Mutant("IoU of the masks", "    either = (a | b).sum()\n", "    p, t = prediction, target\n"
               "    return a, (p & t).sum() / (p | t).sum()\n    either = 1\n"),
        Mutant("this is Dice", "(a & b).sum() / either if", "2 * (a & b).sum() / (a.sum() + "
               "b.sum()) if"),
        Mutant("mean over images", "(a & b).sum() / either if", "np.mean((a & b).sum((1, 2)) / "
               "(a | b).sum((1, 2))) if"),
        Mutant("no boundary counts as 1", " if either else np.nan", " if either else 1.0"),
        Mutant("no boundary counts as 0", " if either else np.nan", " if either else 0.0"),
        Mutant("one pixel too narrow", "    def boundary_of(mask):\n",
               "    distance = distance - 1\n\n    def boundary_of(mask):\n"),
    ),
)  # fmt: skip
