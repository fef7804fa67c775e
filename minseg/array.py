"""Which array library an array belongs to, the devices, and the dtype rules.

An op never asks "am I on a GPU?": it asks its array for the library that made it and calls that
library's functions, which NumPy and CuPy name alike. CuPy is imported only once an array needs it.
"""

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

# What an op computes on: numpy.ndarray or cupy.ndarray. CuPy is optional, hence no union type.
Array = Any

# What a driver alone lacks: NVRTC, cuBLAS, CUDA's headers.
TOOLKIT = 'pip install "cupy-cuda12x[ctk]>=14" (or cupy-cuda13x) brings it'

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def array_module(array: Array) -> ModuleType:
    """The module (numpy or cupy) whose functions work on `array`."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    return np


def device_of(array: Array) -> str:
    """ "cpu" for a NumPy array, "cuda" or "cuda:1" for a CuPy array."""
    if isinstance(array, np.ndarray):
        return "cpu"
    return "cuda" if array.device.id == 0 else f"cuda:{array.device.id}"


def to_device(array: Array, device: str) -> Array:
    """`array` itself when it is on `device` already, else a copy there.

    A GPU that something goes to becomes CuPy's current device, for this thread: there it makes new
    arrays, such as the results of all that is computed next.

    Raises ValueError for a device with another name than "cpu", "cuda" or "cuda:<number>", and
    RuntimeError where CuPy or the GPU is missing.
    """
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise ValueError(f'device: got {device!r}, needs "cpu", "cuda" or "cuda:<number>"')
    if kind == "cpu":
        if isinstance(array, np.ndarray):
            return array
        _raise_unread()
        return array.get()
    cupy, count = _cupy()
    if int(number or 0) >= count:
        raise RuntimeError(f'device: got {device!r}, the last GPU here is "cuda:{count - 1}"')
    cupy.cuda.Device(int(number or 0)).use()
    return cupy.asarray(array)


# Checks of values on a GPU whose outcome nobody has read: (is it wrong, a bool array; what raises).
_unread: list[tuple[Array, Callable[[], NoReturn]]] = []


def raise_where(wrong: Array, fail: Callable[[], NoReturn]) -> None:
    """Call `fail`, which raises, if `wrong` holds anywhere: at once for a NumPy array.

    On a GPU, looking would mean to wait for all work queued before. There `fail` is called when
    something else, such as the loss, is next read from the GPU; until then the caller must see to
    it that what is wrong does no harm.
    """
    if isinstance(wrong, np.ndarray | np.generic):
        if wrong.any():
            fail()
        return
    _unread.append((wrong.any(), fail))
    if len(_unread) > 100:  # nothing is ever read, and these keep arrays in memory
        _raise_unread()


def _raise_unread() -> None:
    checks = _unread[:]
    _unread.clear()
    for wrong, fail in checks:
        if wrong:
            fail()


def has_gpu() -> bool:
    """Whether `to_device(array, "cuda")` would work."""
    try:
        _cupy()
    except RuntimeError:
        return False
    return True


@lru_cache(maxsize=1)
def _cupy() -> tuple[ModuleType, int]:
    """CuPy, and the number of GPUs. RuntimeError where something that they need is missing."""
    try:
        import cupy
    except ImportError as error:
        broken = "" if error.name == "cupy" else f" ({error.__cause__ or error})"
        raise RuntimeError(
            f'device "cuda" needs CuPy: pip install "minseg[cuda12]" or "minseg[cuda13]"{broken}'
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        raise RuntimeError(f'device "cuda": CuPy finds no usable GPU ({error})') from error
    try:
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(
            f'device "cuda": CuPy finds no NVRTC, which compiles kernels; {TOOLKIT} ({error})'
        ) from error
    return cupy, count


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
