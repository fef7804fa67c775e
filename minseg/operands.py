"""What the operands of an operation must agree on: shapes, a device, a dtype, as in PyTorch.

On arrays only, and so below Tensor in the house.
"""

from typing import Any

import numpy as np

from minseg.array import FLOATS, Array, array_module, as_array, device_of


def check_broadcast(op: str, a: tuple[int, ...], b: tuple[int, ...], trailing: int = 0) -> None:
    """Raises ValueError if the shapes, without so many trailing axes, do not broadcast."""
    for m, n in zip(a[::-1][trailing:], b[::-1][trailing:], strict=False):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"{op}: shapes {a} and {b} do not broadcast: {m} is not {n}")


def beside(op: str, a: Array, b: Any) -> Array:
    """`b` where `a` is: a number is taken there. Raises ValueError for an array that is not."""
    b = b if hasattr(b, "__cuda_array_interface__") else np.asarray(b)
    if device_of(a) == device_of(b):
        return b
    if b.ndim or device_of(b) != "cpu":
        raise ValueError(f"{op}: one operand is on {device_of(a)}, the other on {device_of(b)}")
    return array_module(a).asarray(b)


def as_operand(op: str, a: Array, value: Any) -> Array:
    """Numbers as an array; a single one where `a` is, and of its dtype if that can hold it.

    Integers cannot hold 2.5, nor bools 2. Raises TypeError for what is no number, ValueError for an
    integer that those of `a` have too few bits for.
    """
    if np.ndim(value) or hasattr(value, "__cuda_array_interface__"):
        return as_array(value)
    if not hasattr(value, "__float__"):  # NumPy takes None for NaN, "2" for 2
        raise TypeError(f"{op}: got a {type(value).__name__}, needs a Tensor or numbers")
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()  # else its dtype would count
    # No quotient is an integer: a divisor need not be one of a's.
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
    if a.dtype not in FLOATS and b.dtype not in FLOATS:  # a quotient of integers is none
        return FLOATS[0] if op == "div" else np.result_type(a.dtype, b.dtype)
    if a.dtype == b.dtype or b.dtype not in FLOATS:
        return a.dtype
    if a.dtype not in FLOATS:
        return b.dtype
    if a.ndim and b.ndim:
        raise TypeError(f"{op}: {a.dtype} and {b.dtype}: convert one with .to(dtype)")
    # Of two single numbers, neither gives way: digits would be lost.
    return FLOATS[1] if a.ndim == b.ndim else (a if a.ndim else b).dtype
