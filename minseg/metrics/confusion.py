"""The confusion matrix, and every score that is a quotient of its sums.

Entry [t, p] of the matrix counts the pixels of true class t that were predicted as class p. With
n_tp for that entry, t_c = sum_p n_cp (pixels of class c) and p_c = sum_t n_tc (pixels predicted c):

    pixel accuracy          sum_c n_cc / sum_c t_c
    class accuracy          n_cc / t_c
    IoU (Jaccard index)     n_cc / (t_c + p_c - n_cc)
    Dice (F1 score)         2 n_cc / (t_c + p_c)
    frequency-weighted IoU  sum_c t_c IoU_c / sum_c t_c

All pixels of all images go into one matrix; IoU is not averaged over images.
Source: Long, Shelhamer, Darrell, "Fully convolutional networks", CVPR 2015, section 5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np

from minseg.array import Array, array_module
from minseg.device import device_of, raise_where, to_device
from minseg.ops.op import Op, launch
from minseg.tensor import Tensor

SHARED_BINS = 48 * 1024 // 4  # counters that fit into a block's shared memory on every GPU


@dataclass(frozen=True)
class PerClass:
    """One score for each class, NaN for a class that occurs nowhere, and their mean.

    `str()` says over how many classes the mean is taken, and which ones are absent.
    """

    metric: str
    values: np.ndarray  # (K,) float64
    classes: tuple[str, ...]

    @property
    def mean(self) -> float:
        """The mean over the classes that occur; NaN if none does."""
        present = self.values[~np.isnan(self.values)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes without a score, which the mean leaves out."""
        return tuple(np.array(self.classes, object)[np.isnan(self.values)])

    def __str__(self) -> str:
        total, absent = len(self.classes), self.absent
        text = f"mean {self.metric} {self.mean:.4f} (mean over "
        if not absent:
            return f"{text}all {total} classes)"
        return f"{text}{total - len(absent)} of {total} classes; absent: {', '.join(absent)})"

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[float]:
        return iter(self.values.tolist())

    def __getitem__(self, key: int | str) -> float:
        """The score of a class, by its index or its name. Raises KeyError for an unknown name."""
        if isinstance(key, str) and key not in self.classes:
            raise KeyError(f"{self.metric}: no class {key!r}, only {', '.join(self.classes)}")
        return float(self.values[self.classes.index(key) if isinstance(key, str) else key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype)


def confusion_definition(
    prediction: Array, target: Array, classes: int, ignore_index: int
) -> Array:
    """The matrix, pixel by pixel."""
    matrix = np.zeros((classes, classes), np.int64)
    for p, t in zip(prediction.flat, target.flat, strict=True):
        if t != ignore_index:
            matrix[t, p] += 1
    return matrix


def _forward_numpy(prediction: Array, target: Array, classes: int, ignore_index: int) -> Array:
    valid = target != ignore_index
    code = target[valid] * classes + prediction[valid]
    return np.bincount(code, minlength=classes**2).reshape(classes, classes)


def _forward_cuda(prediction: Array, target: Array, classes: int, ignore_index: int) -> Array:
    """kernels/confusion.cu: each block counts for itself, and adds its counts to the matrix."""
    xp = array_module(prediction)
    matrix = xp.zeros((classes, classes), np.uint64)
    prediction, target = xp.ascontiguousarray(prediction), xp.ascontiguousarray(target)
    bins = classes**2 if classes**2 <= SHARED_BINS else 0
    how = (prediction.size, classes, bins, ignore_index)
    launch("confusion_matrix", prediction, target, matrix, *how)
    return matrix.astype(np.int64)


op = Op(
    "confusion_matrix",
    definition=confusion_definition,
    numpy={"forward": _forward_numpy},
    cuda={"forward": _forward_cuda},
)


class ConfusionMatrix:
    """Counts which class was predicted as which, over any number of batches.

    classes: their number, or their names. ignore_index: pixels whose target is this are not
    counted, whatever was predicted there.
    """

    def __init__(self, classes: int | Sequence[str], ignore_index: int = 255) -> None:
        self.classes = class_names(classes)
        self.ignore_index = ignore_index
        self._matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self._on_gpu: Array | None = None  # counts that nobody has waited for yet

    @property
    def matrix(self) -> np.ndarray:
        """(K, K) int64: entry [t, p] counts pixels of class t that were predicted as class p."""
        if self._on_gpu is not None:
            counts, self._on_gpu = self._on_gpu, None
            self._matrix += to_device(counts, "cpu")
        return self._matrix

    def reset(self) -> None:
        self._matrix[:] = 0
        self._on_gpu = None

    def update(self, prediction: Any, target: Any) -> None:
        """Count the pixels of two integer label maps of one shape, arrays or Tensors.

        Raises TypeError for labels that are not integers, ValueError for shapes or devices that
        differ and for a label that is no class; on a GPU that is raised when a score is read.
        """
        name, count = "ConfusionMatrix", len(self.classes)
        prediction, target = checked_labels(name, prediction, target, count, self.ignore_index)
        counts = op.forward(prediction, target, count, self.ignore_index)
        if isinstance(counts, np.ndarray):
            self._matrix += counts
        else:
            self._on_gpu = counts if self._on_gpu is None else self._on_gpu + counts

    def pixel_accuracy(self) -> float:
        """The share of the pixels that got their class; NaN where nothing was counted."""
        return float(_quotient(self._right().sum(), self.matrix.sum()))

    def class_accuracy(self) -> PerClass:
        """The share of each class's pixels that was found (recall); its mean is mean accuracy."""
        return self._per_class("accuracy", _quotient(self._right(), self._true()))

    def mean_pixel_accuracy(self) -> float:
        return self.class_accuracy().mean

    def iou(self) -> PerClass:
        """Intersection over union of each class; its mean is mIoU."""
        union = self._true() + self._predicted() - self._right()
        return self._per_class("IoU", _quotient(self._right(), union))

    def mean_iou(self) -> float:
        return self.iou().mean

    def frequency_weighted_iou(self) -> float:
        """The mean of the IoU, each class weighted by its number of true pixels."""
        iou = np.nan_to_num(self.iou().values)  # an absent class has no pixels, so weight 0
        return float(_quotient((self._true() * iou).sum(), self._true().sum()))

    def dice(self) -> PerClass:
        """Twice the intersection over the sum of both areas, of each class."""
        return self._per_class(
            "Dice", _quotient(2 * self._right(), self._true() + self._predicted())
        )

    def mean_dice(self) -> float:
        return self.dice().mean

    def _right(self) -> np.ndarray:
        return self.matrix.diagonal()

    def _true(self) -> np.ndarray:
        return self.matrix.sum(axis=1)

    def _predicted(self) -> np.ndarray:
        return self.matrix.sum(axis=0)

    def _per_class(self, metric: str, values: np.ndarray) -> PerClass:
        return PerClass(metric, values, self.classes)


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """The names of the classes; for a number, "class 0", "class 1", ..."""
    if isinstance(classes, str) or not isinstance(classes, int | np.integer | Sequence):
        raise TypeError(f"classes: got a {type(classes).__name__}, needs their number or names")
    if isinstance(classes, int | np.integer):
        classes = [f"class {index}" for index in range(classes)]
    if not classes:
        raise ValueError("classes: got none, needs at least one")
    return tuple(classes)


def checked_labels(
    metric: str, prediction: Any, target: Any, count: int, ignore_index: int
) -> tuple[Array, Array]:
    """Both label maps as int64 arrays. Raises what `ConfusionMatrix.update` says."""
    prediction, target = label_array(prediction), label_array(target)
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.dtype.kind not in "iub":
            hint = "; of scores, take the argmax over the classes" if name == "prediction" else ""
            raise TypeError(f"{metric}: {name} is {labels.dtype}, needs integer labels{hint}")
    if prediction.shape != target.shape:
        raise ValueError(
            f"{metric}: prediction has shape {prediction.shape}, target {target.shape}; "
            f"they need to be equal"
        )
    if device_of(prediction) != device_of(target):
        raise ValueError(
            f"{metric}: prediction is on {device_of(prediction)}, target on {device_of(target)}"
        )
    prediction, target = prediction.astype(np.int64), target.astype(np.int64)
    valid = target != ignore_index
    for name, labels in (("prediction", prediction), ("target", target)):
        wrong = valid & ((labels < 0) | (labels >= count))
        needs = f"0..{count - 1}" + (f" or {ignore_index} (ignored)" if name == "target" else "")
        raise_where(wrong, partial(_no_class, f"{metric}: {name}", labels, wrong, needs))
        if not isinstance(target, np.ndarray):
            target = array_module(target).where(wrong, ignore_index, target)
    return prediction, target


def _no_class(what: str, labels: Array, wrong: Array, needs: str) -> NoReturn:
    raise ValueError(f"{what} has label {labels[wrong][0]}, needs {needs}")


def label_array(labels: Any) -> Array:
    """Labels on their own device; anything else that NumPy can read becomes an array on the CPU."""
    data = labels.data if isinstance(labels, Tensor) else labels
    return data if hasattr(data, "__cuda_array_interface__") else np.asarray(data)


def _quotient(part: Any, whole: Any) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    whole = np.asarray(whole)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
