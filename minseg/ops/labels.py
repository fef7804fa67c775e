"""Checks of what a loss compares scores with: labels, yes or no, and weights of the classes."""

from typing import NoReturn

import numpy as np

from minseg.array import Array, array_module
from minseg.device import raise_where
from minseg.ops.checks import check_tensor
from minseg.tensor import Tensor


def check_labels(op: str, input: Tensor, target: Tensor, ignore_index: int | None) -> Array:
    """The labels (N, ...) for scores (N, C, ...), or () for (C,), as int64.

    Raises TypeError unless `target` is a Tensor of integers; ValueError for another shape, and for
    a label outside 0 .. C - 1 that is not `ignore_index`, naming it and its position. On a GPU that
    is raised when the loss is read; until then such a pixel counts as ignored.
    """
    if not isinstance(target, Tensor):
        raise TypeError(f"{op}: target is a {type(target).__name__}, needs a Tensor")
    check_ignore_index(op, ignore_index)
    classes, shape = classes_and_shape(input)
    if target.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: target is {target.dtype} of shape {target.shape}, needs integer labels of "
            f"shape {shape} for the input {input.shape}"
        )
    if target.shape != shape:
        raise ValueError(
            f"{op}: target has shape {target.shape}, the input {input.shape} needs {shape}"
        )
    if target.device != input.device:
        raise ValueError(f"{op}: target is on {target.device} but the input is on {input.device}")
    labels = target.data.astype(np.int64)
    if isinstance(labels, np.ndarray) and labels.size and labels.view(np.uint64).max() < classes:
        return labels  # as unsigned numbers, negative ones are large
    wrong = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index

    def fail() -> NoReturn:
        position = np.unravel_index(int(wrong.argmax()), shape)
        raise ValueError(
            f"{op}: target has label {int(labels[position])} at {tuple(map(int, position))}, needs "
            f"0 to {classes - 1} or ignore_index ({ignore_index})"
        )

    raise_where(wrong, fail)
    if isinstance(labels, np.ndarray):
        return labels
    return array_module(labels).where(wrong, 0 if ignore_index is None else ignore_index, labels)


def check_ignore_index(op: str, ignore_index: int | None) -> None:
    """Raise TypeError for what equals no label, and so would ignore none without a word."""
    if not isinstance(ignore_index, int | np.integer | None):
        raise TypeError(f"{op}: ignore_index is {ignore_index!r}, needs an int")


def sum_of_weights(w: Array, labels: Array, ignore_index: int) -> Array:
    """The classes' weights `w`, summed over all labels that count: what a "mean" divides by."""
    xp = array_module(w)
    valid = labels != ignore_index
    return xp.where(valid, w[xp.where(valid, labels, 0)], 0).sum()


def check_weight(op: str, input: Tensor, weight: Tensor | None, name: str = "weight") -> Array:
    """The weights of the input's classes, (C,); ones for None. Raises for another shape or type."""
    classes, _ = classes_and_shape(input)
    if classes == 0:
        raise ValueError(f"{op}: input has shape {input.shape}, needs at least one class in dim 1")
    if weight is None:
        return array_module(input.data).ones(classes, input.dtype)
    check_tensor(op, name, weight, ndim=None, like=input)
    if weight.shape != (classes,):
        raise ValueError(
            f"{op}: {name} has shape {weight.shape}, the input {input.shape} needs ({classes},)"
        )
    return weight.data


def classes_and_shape(input: Tensor) -> tuple[int, tuple[int, ...]]:
    """C and the labels' shape for scores of shape (N, C, ...) or (C,)."""
    if input.ndim == 1:
        return input.shape[0], ()
    return (input.shape[1], input.shape[:1] + input.shape[2:]) if input.ndim else (0, ())


def check_segmentation(
    op: str, input: Tensor, target: Tensor, ignore_index: int
) -> tuple[Array, Array]:
    """For scores (N, C, ...): which pixels are of which class (N, C, ...), which count (N, 1, ...).

    Both are bool; an ignored pixel is of no class. Raises as check_classes does.
    """
    labels = check_classes(op, input, target, ignore_index)[:, None]
    xp = array_module(labels)
    classes = xp.arange(input.shape[1]).reshape(-1, *(1,) * (input.ndim - 2))
    valid = labels != ignore_index
    return (labels == classes) & valid, valid


def check_classes(op: str, input: Tensor, target: Tensor, ignore_index: int) -> Array:
    """The labels (N, ...) for scores (N, C, ...), as int64.

    Raises as check_labels does, and ValueError for fewer than two classes: the softmax of one score
    is 1, whatever the score.
    """
    check_tensor(op, "input", input, ndim=None)
    if input.ndim < 2 or input.shape[1] < 2:
        raise ValueError(
            f"{op}: input has shape {input.shape}, needs (N, C, ...) with at least 2 classes"
        )
    return check_labels(op, input, target, ignore_index)


def check_yes_or_no(
    op: str, input: Tensor, target: Tensor, ignore_index: int
) -> tuple[Array, Array]:
    """Where the target is 1, and where it counts. Raises for other values and another shape."""
    if not isinstance(target, Tensor):
        raise TypeError(f"{op}: target is a {type(target).__name__}, needs a Tensor")
    check_ignore_index(op, ignore_index)
    if target.shape != input.shape:
        raise ValueError(f"{op}: target has shape {target.shape}, the input has {input.shape}")
    if target.device != input.device:
        raise ValueError(f"{op}: target is on {target.device} but the input is on {input.device}")
    yes, valid = target.data == 1, target.data != ignore_index
    wrong = valid & ~yes & (target.data != 0)

    def fail() -> NoReturn:
        at = np.unravel_index(int(wrong.argmax()), target.shape)
        raise ValueError(
            f"{op}: target has label {target.data[at]} at {tuple(map(int, at))}, needs 0, 1 or "
            f"ignore_index ({ignore_index})"
        )

    raise_where(wrong, fail)
    return yes & valid, valid
