"""Where numbers stand beside index arrays, NumPy and PyTorch differ: this is PyTorch's way."""

from typing import Any

import numpy as np


def is_number(part: Any) -> bool:
    if isinstance(part, int):
        return not isinstance(part, bool)
    return getattr(part, "ndim", None) == 0 and part.dtype.kind in "iu"


def is_array(part: Any) -> bool:
    return np.ndim(part) > 0


def numbers_first(parts: tuple) -> tuple[tuple, tuple]:
    """x[first][second] for x[parts]: what is no array, then the arrays.

    To NumPy a number beside arrays is one of them. Then x[0, :, [1, 2]] has the axis of its arrays
    in front, as these do not stand side by side. PyTorch takes numbers for slices of length one.
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
