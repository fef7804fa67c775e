"""What the operands of an operation must agree on: shapes, a device, a dtype, as in PyTorch.

These functions take arrays, not Tensors: tensor.py is built on them.
"""

from typing import Any

import numpy as np

from minseg.array import FLOATS, Array, array_module, as_array
from minseg.device import device_of


def check_broadcast(op: str, a: tuple[int, ...], b: tuple[int, ...], trailing: int = 0) -> None:
    """Raises ValueError if the shapes, without so many trailing axes, do not broadcast."""
    for m, n in zip(a[::-1][trailing:], b[::-1][trailing:], strict=False):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"{op}: shapes {a} and {b} do not broadcast: {m} is not {n}")


def beside(op: str, a: Array, b: Any) -> Array:
    """`b` on the device of `a`. Only a single number is moved there: an array raises ValueError."""
    b = b if hasattr(b, "__cuda_array_interface__") else np.asarray(b)
    if device_of(a) == device_of(b):
        return b
    if b.ndim or device_of(b) != "cpu":
        raise ValueError(f"{op}: one operand is on {device_of(a)}, the other on {device_of(b)}")
    return array_module(a).asarray(b)


def as_operand(op: str, a: Array, value: Any) -> Array:
    """A number, or an array or list of numbers, as an array that an operation can combine with `a`.

    A single number goes to the device of `a` and takes its dtype where that can hold it; integers
    cannot hold 2.5, nor bools 2. Raises TypeError for what is no number, ValueError for an integer
    that does not fit into the bits of an integer `a`.
    """
    if np.ndim(value) or hasattr(value, "__cuda_array_interface__"):
        return as_array(value)
    if not hasattr(value, "__float__"):  # NumPy takes None for NaN, "2" for 2
        raise TypeError(f"{op}: got a {type(value).__name__}, needs a Tensor or numbers")
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()  # a plain number: NumPy's have a dtype, which would count
    # A division gives floats anyway, so a divisor need not fit the integer dtype of `a`.
    whole = a.dtype.kind in "iu" and not isinstance(value, float) and op != "div"
    dtype = a.dtype if a.dtype in FLOATS or whole else as_array(value).dtype
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise ValueError(f"{op}: {dtype} cannot hold {value}: use .to(np.int64)")
    return array_module(a).full((), value, dtype)


def common_dtype(op: str, a: Array, b: Array) -> np.dtype:
    """The dtype in which an operation on both computes.

    A single number, or an integer array beside floats, takes the other's. Raises TypeError for an
    array of float32 and one of float64.
    """
    if a.dtype not in FLOATS and b.dtype not in FLOATS:  # the quotient of integers is a float
        return FLOATS[0] if op == "div" else np.result_type(a.dtype, b.dtype)
    if a.dtype == b.dtype or b.dtype not in FLOATS:
        return a.dtype
    if a.dtype not in FLOATS:
        return b.dtype
    if a.ndim and b.ndim:
        raise TypeError(f"{op}: {a.dtype} and {b.dtype}: convert one with .to(dtype)")
    # A single number takes the array's dtype; of two, float64 wins, so that no digits are lost.
    return FLOATS[1] if a.ndim == b.ndim else (a if a.ndim else b).dtype
