"""Scores of the outline: IoU hardly notices a ragged border, as few pixels lie there.

Boundary IoU: the IoU of only those pixels of each mask that lie within d of its own contour, with
d = 2 % of the image's diagonal. Cheng, Girshick, Dollar, Berg, Kirillov, "Boundary IoU", CVPR 2021.

Boundary F (BF score) compares the contours themselves: a contour pixel is right if the other map
has one closer than 0.75 % of the diagonal. Csurka, Larlus, Perronnin, "What is a good evaluation
measure for semantic segmentation?", BMVC 2013.

Both take label maps (N, H, W) or (H, W). Where the target is ignored, so is the prediction.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minseg.device import to_device
from minseg.metrics.confusion import PerClass, checked_labels, class_names, label_array

_VOID = -1  # no class: what ignored pixels become in both maps
_OUTSIDE = -2


class BoundaryIoU:
    """Boundary IoU of each class, its intersections and unions summed over all images.

    dilation_ratio: the distance d as a share of the image's diagonal, rounded to whole pixels, at
    least one. "Within d" means: removed by d erosions with a 3x3 square. Beyond the image's edge
    there is no class, so an edge that a mask touches is part of its contour, as in the authors'
    code.
    """

    def __init__(
        self, classes: int | Sequence[str], ignore_index: int = 255, dilation_ratio: float = 0.02
    ) -> None:
        self.classes = class_names(classes)
        self.ignore_index = ignore_index
        self.dilation_ratio = dilation_ratio
        self.intersection = np.zeros(len(self.classes), np.int64)
        self.union = np.zeros(len(self.classes), np.int64)
        _check_share("BoundaryIoU", "dilation_ratio", dilation_ratio)

    def reset(self) -> None:
        self.intersection[:] = self.union[:] = 0

    def update(self, prediction: Any, target: Any) -> None:
        """Count a batch. Raises as `ConfusionMatrix.update`, and ValueError for other shapes."""
        count = len(self.classes)
        for p, t in _images("BoundaryIoU", prediction, target, count, self.ignore_index):
            distance = max(1, round(self.dilation_ratio * math.hypot(*t.shape)))
            p_near, t_near = _near_contour(p, distance), _near_contour(t, distance)
            both = p_near & t_near & (p == t)
            in_both, in_p, in_t = (
                np.bincount(labels[labels != _VOID], minlength=count)
                for labels in (t[both], p[p_near], t[t_near])
            )
            self.intersection += in_both
            self.union += in_p + in_t - in_both

    def compute(self) -> PerClass:
        union = np.where(self.union > 0, self.union, np.nan)
        return PerClass("boundary IoU", self.intersection / union, self.classes)


class BoundaryF:
    """The BF score of each class, averaged over the images where either map has its contour.

    Precision P is the share of an image's predicted contour pixels that have a true one closer than
    theta; recall R is the share of the true ones with a predicted one; F = 2 P R / (P + R).
    A pixel belongs to its class's contour if one of its four neighbours has another class (the
    image's edge and ignored pixels do not count). theta: a share of the image's diagonal.
    """

    def __init__(
        self, classes: int | Sequence[str], ignore_index: int = 255, theta: float = 0.0075
    ) -> None:
        self.classes = class_names(classes)
        self.ignore_index = ignore_index
        self.theta = theta
        self.total = np.zeros(len(self.classes))
        self.images = np.zeros(len(self.classes), np.int64)
        _check_share("BoundaryF", "theta", theta)

    def reset(self) -> None:
        self.total[:] = self.images[:] = 0

    def update(self, prediction: Any, target: Any) -> None:
        """Count a batch. Raises as `ConfusionMatrix.update`, and ValueError for other shapes."""
        count = len(self.classes)
        for p, t in _images("BoundaryF", prediction, target, count, self.ignore_index):
            theta = self.theta * math.hypot(*t.shape)
            p_contour, t_contour = _contour(p), _contour(t)
            for label in np.union1d(p[p_contour], t[t_contour]):
                p_line, t_line = p_contour & (p == label), t_contour & (t == label)
                self.images[label] += 1
                if p_line.any() and t_line.any():
                    precision = _within(t_line, theta)[p_line].mean()
                    recall = _within(p_line, theta)[t_line].mean()
                    self.total[label] += 2 * precision * recall / ((precision + recall) or 1)

    def compute(self) -> PerClass:
        images = np.where(self.images > 0, self.images, np.nan)
        return PerClass("boundary F", self.total / images, self.classes)


def _check_share(metric: str, name: str, share: float) -> None:
    if not share >= 0:
        raise ValueError(f"{metric}: {name} is {share}, needs at least 0")


def _images(metric: str, prediction: Any, target: Any, count: int, ignore_index: int) -> Any:
    """The pairs of label maps (H, W) of a batch, on the CPU; ignored pixels are void in both."""
    prediction, target = (to_device(label_array(labels), "cpu") for labels in (prediction, target))
    prediction, target = checked_labels(metric, prediction, target, count, ignore_index)
    if target.ndim not in (2, 3):
        raise ValueError(f"{metric}: target has shape {target.shape}, needs (N, H, W) or (H, W)")
    if not target.size:
        return ()
    ignored = target == ignore_index
    maps = (np.where(ignored, _VOID, labels) for labels in (prediction, target))
    return zip(*(labels.reshape(-1, *labels.shape[-2:]) for labels in maps), strict=True)


def _near_contour(labels: np.ndarray, distance: int) -> np.ndarray:
    """Where the square of 2 * distance + 1 pixels around a pixel holds another label: (H, W) bool.

    These are the pixels that d erosions with a 3x3 square would remove from their class's mask.
    """
    lowest = highest = np.pad(labels, distance, constant_values=_OUTSIDE)
    for axis in (0, 1):
        lowest = _windows(lowest, 2 * distance + 1, axis, np.minimum)
        highest = _windows(highest, 2 * distance + 1, axis, np.maximum)
    return lowest != highest


def _windows(array: np.ndarray, length: int, axis: int, take: np.ufunc) -> np.ndarray:
    """The minimum or maximum of every window of `length` along an axis, in log(length) steps."""
    array = array.swapaxes(0, axis)
    reach = 1  # array[i] is the minimum or maximum of the `reach` elements from i on
    while reach < length:
        step = min(reach, length - reach)
        array = take(array[:-step], array[step:])
        reach += step
    return array.swapaxes(0, axis)


def _contour(labels: np.ndarray) -> np.ndarray:
    """Where one of the four neighbours has another class: (H, W) bool."""
    contour = np.zeros(labels.shape, bool)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        change = (labels[a] != labels[b]) & (labels[a] != _VOID) & (labels[b] != _VOID)
        contour[a] |= change
        contour[b] |= change
    return contour


def _within(points: np.ndarray, radius: float) -> np.ndarray:
    """Where a point is closer than `radius` (Euclidean): (H, W) bool.

    A disc is a stack of rows: each is a horizontal window of its own width, shifted by dy.
    """
    height, width = points.shape
    reach = max(math.ceil(radius) - 1, 0)  # the largest whole number below the radius
    padded = np.pad(points, reach)
    near = np.zeros(points.shape, bool)
    for dy in range(-reach, reach + 1):
        row = sum(math.hypot(dx, dy) < radius for dx in range(1, reach + 1))
        inner = padded[reach + dy : reach + dy + height, reach - row : reach + row + width]
        near |= _windows(inner, 2 * row + 1, 1, np.logical_or)
    return near
