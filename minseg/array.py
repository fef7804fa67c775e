"""Which array library an array belongs to, which dtypes there are, and a few helpers on arrays.

An op never asks "am I on a GPU?": it asks its array for the library that made it and calls that
library's functions, which NumPy and CuPy name alike.
"""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

# What an op computes on: numpy.ndarray or cupy.ndarray. CuPy is optional, hence no union type.
Array = Any

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def array_module(array: Array) -> ModuleType:
    """The module (numpy or cupy) whose functions work on `array`."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    return np


def as_array(data: Any) -> Array:
    """`data` as an array that a Tensor may hold; an array is shared, Python floats become float32.

    Raises TypeError for a dtype other than float32, float64, an integer or bool.
    """
    if isinstance(data, np.ndarray) and data.dtype in FLOATS:
        return data  # the most common by far
    if not hasattr(data, "dtype"):
        data = np.asarray(data)
        data = data.astype(np.float32) if data.dtype == np.float64 else data
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if data.dtype not in FLOATS and data.dtype.kind not in "iub":
        raise TypeError(f"Tensor: dtype is {data.dtype}, needs float32, float64, integer or bool")
    return data


def contiguous(*arrays: Array | None) -> list[Array | None]:
    """Each array, or its copy in C order where it is strided, which no kernel takes."""
    return [None if a is None else array_module(a).ascontiguousarray(a) for a in arrays]


def unbroadcast(grad: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an operand of `shape` was repeated."""
    lead = tuple(range(grad.ndim - len(shape)))
    grad = grad.sum(axis=lead) if lead else grad
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and grad.shape[i] != 1)
    return grad.sum(axis=stretched, keepdims=True) if stretched else grad


def axes_of(op: str, dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """`dim` as a tuple of axes, none negative; None means all. Raises for others."""
    if type(dim) is int and -ndim <= dim < ndim:
        return (dim % ndim,)  # the most common by far
    dims = range(ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    if not all(isinstance(d, int | np.integer) for d in dims):
        raise TypeError(f"{op}: dim is {dim!r}, needs an int or several")
    if not all(-ndim <= d < ndim for d in dims):
        raise ValueError(f"{op}: dim is {dim}: the tensor has {ndim} dimensions")
    axes = tuple(int(d) % ndim for d in dims)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{op}: dim is {dim}, which names a dimension twice")
    return axes
