"""Devices: where an array lies, moving it elsewhere, and checks on a GPU that nobody waits for.

CuPy is imported only once an array needs it.
"""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import NoReturn

import numpy as np

from minseg.array import Array

# What a driver alone lacks: NVRTC, cuBLAS, CUDA's headers.
TOOLKIT = 'pip install "cupy-cuda12x[ctk]>=14" (or cupy-cuda13x) brings it'


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
