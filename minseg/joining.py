"""Joining tensors along a dimension, and cutting them up along one."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from minseg.array import axes_of
from minseg.ops.fast.concatenate import concatenate
from minseg.tensor import Tensor, record


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join along an existing dimension; all other sizes must agree."""
    _check_tensors("cat", tensors)
    if tensors and not -tensors[0].ndim <= dim < tensors[0].ndim:
        raise ValueError(f"cat: dim is {dim}, the tensors have shape {tensors[0].shape}")
    kinds = {(t.dtype, t.shape[:dim], t.shape[dim:][1:]) for t in tensors}
    if len(kinds) != 1:
        found = ", ".join(f"{t.shape} {t.dtype}" for t in tensors) or "nothing"
        raise ValueError(f"cat: got {found}; needs one dtype, and one shape but for dim {dim}")
    ends = list(accumulate(t.shape[dim] for t in tensors[:-1]))
    joined = concatenate([t.data for t in tensors], dim)
    return record("cat", joined, tuple(tensors), lambda grad: np.split(grad, ends, axis=dim))


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join along a new dimension; all sizes must agree."""
    _check_tensors("stack", tensors)
    if len({t.shape for t in tensors}) != 1:
        found = ", ".join(f"{t.shape}" for t in tensors) or "nothing"
        raise ValueError(f"stack: got {found}; needs one shape")
    return cat([t.unsqueeze(dim) for t in tensors], dim)


def split(x: Tensor, sizes: int | Sequence[int], dim: int = 0) -> list[Tensor]:
    """Cut into pieces of `sizes` along `dim`; of an int, into pieces of that size and a rest."""
    axes_of("split", dim, x.ndim)
    length = x.shape[dim]
    parts = sizes if isinstance(sizes, Sequence) else (sizes,)
    if not all(isinstance(size, int | np.integer) for size in parts):
        raise TypeError(f"split: sizes is {sizes!r}, needs an int or several")
    if isinstance(sizes, int | np.integer):
        if sizes < 1:
            raise ValueError(f"split: sizes is {sizes}, needs at least 1")
        sizes = [min(sizes, length - start) for start in range(0, length or 1, sizes)]
    if min(sizes, default=0) < 0:
        raise ValueError(f"split: sizes are {list(sizes)}, needs at least 0 each")
    if sum(sizes) != length:
        raise ValueError(f"split: sizes {list(sizes)} sum to {sum(sizes)}, dim {dim} has {length}")
    whole = (slice(None),) * (dim % x.ndim)
    pieces = zip(np.cumsum(sizes).tolist(), sizes, strict=True)
    return [x[whole + (slice(end - size, end),)] for end, size in pieces]  # noqa: RUF005


def _check_tensors(op: str, tensors: Sequence[Tensor]) -> None:
    if isinstance(tensors, Tensor) or not all(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"{op}: tensors needs to be a list of Tensors")
    devices = sorted({t.device for t in tensors})
    if len(devices) > 1:
        raise ValueError(f"{op}: the tensors are on {' and '.join(devices)}, needs one device")
