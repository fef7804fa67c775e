"""Instances: how many objects were found, where an object is found if IoU > threshold.

    AP = TP / (TP + FP + FN)      for each image; then the mean over the images

If the objects of a map do not overlap, an object can have an IoU above 1/2 with only one of the
other map: |A & B| is then more than half of both. So the match is unique: TP counts the pairs above
the threshold, FP the predicted objects without a partner, FN the true ones. The field calls this
"average precision", though it is no area under a curve, as a segmentation does not rank its
objects. F1 = 2 TP / (2 TP + FP + FN).

A semantic segmentation has no objects; its connected components take their place. Two objects that
touch count as one, which AP shows and the foreground's IoU does not.

Source: Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science
        Bowl", Nature Methods 2019; Schmidt et al., "Cell detection with star-convex polygons",
        MICCAI 2018, section 3
"""

from dataclasses import dataclass

import numpy as np

from minseg.tensor import Tensor


def connected_components(mask: np.ndarray | Tensor) -> np.ndarray:
    """Number the parts of a mask (H, W) bool: (H, W) int32, 0 outside, 1..n in reading order.

    Pixels are connected along rows and columns (4-neighbours). Each run of pixels in a row is
    joined with the runs above that it touches (Rosenfeld, Pfaltz 1966).
    Raises ValueError for another shape, TypeError for another dtype.
    """
    mask = np.asarray(mask)  # a Tensor's values
    if mask.ndim != 2:
        raise ValueError(f"connected_components: mask has shape {mask.shape}, needs (H, W)")
    if mask.dtype != bool:
        raise TypeError(f"connected_components: mask is {mask.dtype}, needs bool")
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)  # in reading order
    ends = np.nonzero(edges == -1)[1]
    parent = np.arange(len(rows))  # for each run, an earlier run that it is joined with, or itself

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1))  # the first run of each row
    for row in range(1, mask.shape[0]):
        above, below = first[row - 1], first[row]
        while above < first[row] and below < first[row + 1]:
            if starts[above] < ends[below] and starts[below] < ends[above]:
                low, high = sorted((root(above), root(below)))
                parent[high] = low
            if ends[above] < ends[below]:
                above += 1
            else:
                below += 1
    roots = np.array([root(run) for run in range(len(rows))], np.int64)
    numbers = np.unique(roots, return_inverse=True)[1] + 1
    labels = np.zeros(mask.size, np.int32)
    lengths = ends - starts
    places = np.repeat(rows * mask.shape[1] + starts - np.cumsum(lengths) + lengths, lengths)
    labels[places + np.arange(lengths.sum())] = np.repeat(numbers, lengths)
    return labels.reshape(mask.shape)


@dataclass(frozen=True)
class Matches:
    """For one image: the objects found (TP), invented (FP) and missed (FN)."""

    tp: int
    fp: int
    fn: int

    @property
    def ap(self) -> float:
        """NaN where there is no object, neither true nor predicted."""
        count = self.tp + self.fp + self.fn
        return self.tp / count if count else float("nan")

    @property
    def f1(self) -> float:
        count = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / count if count else float("nan")


def match_instances(prediction: np.ndarray, target: np.ndarray, threshold: float = 0.5) -> Matches:
    """Match two maps of instances (H, W), 0 for none.

    Raises ValueError for shapes that differ and for a threshold outside 0.5 <= t < 1, TypeError for
    maps that are not integers.
    """
    if prediction.shape != target.shape or prediction.ndim != 2:
        raise ValueError(
            f"match_instances: prediction has shape {prediction.shape}, target {target.shape}; "
            f"they need to be equal, (H, W)"
        )
    if prediction.dtype.kind not in "iu" or target.dtype.kind not in "iu":
        raise TypeError(
            f"match_instances: got {prediction.dtype} and {target.dtype}, needs integers"
        )
    if not 0.5 <= threshold < 1:
        raise ValueError(f"match_instances: threshold is {threshold}, needs 0.5 <= t < 1")
    p_ids, p = np.unique(prediction, return_inverse=True)
    t_ids, t = np.unique(target, return_inverse=True)
    shared = np.zeros((len(p_ids), len(t_ids)), np.int64)  # pixels of each pair
    np.add.at(shared, (p.reshape(-1), t.reshape(-1)), 1)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    objects = np.ix_(p_ids != 0, t_ids != 0)
    # The quotient: by the rounding of threshold * union, an IoU of 0.7 might count as above 0.7.
    tp = int((shared[objects] / union[objects] > threshold).sum())
    return Matches(tp, int((p_ids != 0).sum()) - tp, int((t_ids != 0).sum()) - tp)


class InstanceAP:
    """AP and F1 at one threshold, each the mean over the images that have an object."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self.images: list[Matches] = []

    def reset(self) -> None:
        self.images.clear()

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Count one image: instances (H, W), 0 for none. Raises as `match_instances`."""
        self.images.append(match_instances(prediction, target, self.threshold))

    @property
    def ap(self) -> float:
        return _mean([image.ap for image in self.images])

    @property
    def f1(self) -> float:
        return _mean([image.f1 for image in self.images])


def _mean(values: list[float]) -> float:
    """The mean without the NaNs; NaN if all are."""
    numbers = [value for value in values if not np.isnan(value)]
    return float(np.mean(numbers)) if numbers else float("nan")
