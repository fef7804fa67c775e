"""Indexing as PyTorch does it, where NumPy and CuPy do it otherwise.

NumPy differs where numbers or an Ellipsis stand beside index arrays (`numbers_first`,
`without_idle_ellipsis`). CuPy does not check the range of index arrays, and wraps an index beyond
the end around to the start (`check_range`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from minseg.array import Array
from minseg.device import raise_where


def is_number(part: Any) -> bool:
    if isinstance(part, int):
        return not isinstance(part, bool)
    return getattr(part, "ndim", None) == 0 and part.dtype.kind in "iu"


def is_array(part: Any) -> bool:
    return np.ndim(part) > 0


def numbers_first(parts: tuple) -> tuple[tuple, tuple]:
    """x[parts] as x[first][second]: first all that is no array, then the arrays.

    NumPy takes a number beside index arrays for another index array. In x[0, :, [1, 2]] the 0 and
    the list then do not stand side by side, and NumPy puts their common axis in front. To PyTorch,
    a number only picks from its own axis.
    """
    first: list[Any] = []
    second: list[Any] = []
    for part in parts:
        if is_array(part):
            mask = np.asarray(part) if isinstance(part, list) else part
            first += [slice(None)] * (mask.ndim if mask.dtype == bool else 1)
            second.append(part)
        else:
            first.append(part)
            if not is_number(part):
                second.append(part if part is Ellipsis else slice(None))
    return tuple(first), tuple(second)


def without_idle_ellipsis(parts: tuple, ndim: int) -> tuple:
    """The parts without an Ellipsis that stands for no axis.

    NumPy still takes the arrays on its two sides for separated, and puts their axis in front.
    """
    axes = sum(_axes_taken(np.asarray(p) if isinstance(p, list) else p) for p in parts)
    return tuple(p for p in parts if p is not Ellipsis) if axes == ndim else parts


def check_range(parts: Sequence[Any], shape: Sequence[int]) -> None:
    """Raises IndexError for a number that is no integer and for an index array out of range.

    Of an array on a GPU that is raised when something is next read from there.
    """
    parts = [np.asarray(part) if isinstance(part, list) else part for part in parts]
    axes = [_axes_taken(part) for part in parts]
    axis = 0
    for part, taken in zip(parts, axes, strict=True):
        if isinstance(part, float | np.floating):
            raise IndexError(f"index: {part} is no integer")
        if hasattr(part, "dtype") and part.dtype.kind in "iu" and axis < len(shape):
            wrong = (part < -shape[axis]) | (part >= shape[axis])
            raise_where(wrong, partial(_out_of_range, part, wrong, axis, shape[axis]))
        axis += len(shape) - sum(axes) if part is Ellipsis else taken


def _axes_taken(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    return part.ndim if hasattr(part, "dtype") and part.dtype.kind == "b" else 1


def _out_of_range(index: Array, wrong: Array, axis: int, size: int) -> NoReturn:
    first = int(index.reshape(-1)[int(wrong.argmax())])
    raise IndexError(f"index: {first} is out of bounds for dim {axis} with size {size}")
