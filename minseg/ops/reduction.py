"""How a loss per element becomes one number, and how that number's gradient goes back."""

import numpy as np

from minseg.array import Array, array_module
from minseg.tensor import Tensor


def check_reduction(op: str, reduction: str) -> None:
    """Raise ValueError unless `reduction` is "mean", "sum" or "none"."""
    given = reduction if isinstance(reduction, str) else type(reduction)  # weights, by position
    if given not in ("mean", "sum", "none"):
        raise ValueError(f'{op}: reduction is {given!r}, needs "mean", "sum" or "none"')


def reduce(loss: Array, reduction: str, denominator: float | Array) -> Array:
    """The loss itself ("none"), its sum, or its sum / `denominator` ("mean": 0 / 0 is NaN)."""
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else _divide(total, denominator)


def spread(
    grad: Array, shape: tuple[int, ...], reduction: str, denominator: float | Array
) -> Array:
    """The gradient for each element of a loss of `shape`, from that of the reduced loss."""
    if reduction == "none":
        return grad.reshape(shape)
    if reduction == "mean":
        grad = _divide(grad, denominator)
    return array_module(grad).broadcast_to(grad, shape)


def at_least_one(count: Array, dtype: np.dtype) -> Tensor:
    """A count, as a number to divide by. It stays on its device: nobody waits for it there."""
    return Tensor(array_module(count).maximum(count, 1).astype(dtype))


def _divide(a: Array, b: float | Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return a / (a.dtype.type(b) if isinstance(b, int | float) else b.astype(a.dtype))
