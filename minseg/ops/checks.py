"""Argument checks that ops share: each raises an error that names the op and the argument."""

from collections.abc import Sequence

import numpy as np

from minseg.array import FLOATS
from minseg.device import device_of
from minseg.tensor import Tensor

Pair = tuple[int, int]


def pair(op: str, name: str, value: int | Sequence[int], least: int) -> Pair:
    """An int, or two, as (height, width). Raises TypeError if not ints, ValueError if too small."""
    if type(value) is tuple and [type(v) for v in value] == [int, int] and min(value) >= least:
        return value  # the most common by far
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(values) not in (1, 2) or not all(isinstance(v, int | np.integer) for v in values):
        raise TypeError(f"{op}: {name} is {value!r}, needs an int or a pair of ints")
    if min(values) < least:
        raise ValueError(f"{op}: {name} is {value!r}, needs at least {least}")
    return int(values[0]), int(values[-1])


def check_tensor(
    op: str, name: str, x: Tensor, ndim: int | None, like: Tensor | None = None
) -> None:
    """Raise unless `x` is a float Tensor of `ndim` dimensions, with dtype and device of `like`."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} is a {type(x).__name__}, needs a Tensor")
    data = x.data
    if data.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} is {x.dtype}, needs float32 or float64: use .to(np.float32)")
    if ndim is not None and data.ndim != ndim:
        names = {4: " (N, C, H, W)", 3: " (N, C, L)", 2: " (N, C)", 1: " (C,)"}
        axes = "" if name == "weight" else names.get(ndim, "")
        single = name == "input" and (ndim, x.ndim) == (4, 3)
        hint = "; a single image needs a batch axis: x[None]" if single else ""
        raise ValueError(f"{op}: {name} has shape {x.shape}, needs {ndim} dimensions{axes}{hint}")
    if like is None:
        return
    if data.dtype != like.data.dtype:
        raise TypeError(f"{op}: {name} is {x.dtype} but the input is {like.dtype}: use .to(dtype)")
    if device_of(data) != device_of(like.data):
        raise ValueError(f"{op}: {name} is on {x.device} but the input is on {like.device}")


def check_kernels(op: str, weight: Tensor, groups: int) -> None:
    """Raise unless there is a kernel of at least one pixel and channel, and `groups` is an int."""
    if not isinstance(groups, int | np.integer):
        raise TypeError(f"{op}: groups is {groups!r}, needs an int")
    if min(weight.shape) < 1:
        raise ValueError(f"{op}: weight has shape {weight.shape}, needs at least 1 in each place")


def check_not_inplace(op: str, inplace: bool) -> None:
    """Raise for inplace=True: the tape keeps the arrays that it would overwrite."""
    if inplace:
        raise ValueError(f"{op}: inplace is True, but nothing is done in place: use the result")
