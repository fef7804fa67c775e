"""Tensor: an array on the tape, with the operations that everything else is made of.

The tape itself is tape.py, the whole autograd engine. Every operation has the same form: compute
the result, write its backward function beneath, `record` both. Results and gradients keep the dtype
of the inputs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from types import EllipsisType
from typing import Any

import numpy as np

from minseg import tape
from minseg.array import FLOATS, Array, array_module, as_array, axes_of, unbroadcast
from minseg.device import device_of, to_device
from minseg.indexing import (
    check_range,
    is_array,
    is_number,
    numbers_first,
    without_idle_ellipsis,
)
from minseg.operands import as_operand, beside, check_broadcast, common_dtype
from minseg.ops.matmul import op as matmul
from minseg.tape import Backward, Node

Dim = int | Sequence[int] | None


class Tensor(Node):
    """An n-dimensional array with a gradient.

    Args:
        data: an array, which is shared and not copied, or numbers and nested lists of them, whose
            floats become float32.
        requires_grad: whether `backward` fills `grad`, a Tensor of the same shape.

    Raises TypeError for a dtype other than float32, float64, an integer or bool.
    """

    __slots__ = ("grad",)
    __array_ufunc__ = None  # so that `array * tensor` asks Tensor.__rmul__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        super().__init__(as_array(_unwrap(data)))
        self.grad: Tensor | None = None
        if requires_grad:
            self.requires_grad_()

    # -- what it is --------------------------------------------------------------------------------
    shape = property(attrgetter("data.shape"))  # half the time of a lambda
    dtype = property(attrgetter("data.dtype"))
    ndim = property(attrgetter("data.ndim"))
    device = property(lambda self: device_of(self.data))

    def numel(self) -> int:
        return math.prod(self.shape)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: the tensor's own on the CPU, a copy of them from a GPU."""
        return to_device(self.data, "cpu")

    def item(self) -> Any:
        """The only value, as a Python number. Raises ValueError where there are several."""
        if self.numel() != 1:
            raise ValueError(f"item: the tensor has shape {self.shape}, needs exactly one value")
        return to_device(self.data, "cpu").item()

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), precision=4, threshold=20, separator=", ")
        made_by = f", made by {self._op}" if self._op else ""
        return f"Tensor({text}, shape={self.shape}, {self.dtype}{made_by})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len: the tensor is a single number, it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec else repr(self), spec)  # f"{loss:.3f}"

    __hash__ = object.__hash__  # == compares values, so sets and dicts go by identity

    # -- the tape ----------------------------------------------------------------------------------
    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Set `requires_grad`, and return the tensor. Raises TypeError for integers and bools."""
        if requires_grad and self.dtype not in FLOATS:
            raise TypeError(f"requires_grad: dtype is {self.dtype}; only floats have gradients")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> "Tensor":
        """The same values, cut off the tape."""
        return Tensor(self.data)

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add to the `grad` of every leaf its gradient of sum(self * gradient).

        `gradient` has this tensor's shape; for a single value it may be left out (it is 1 then).
        The record is released on the way, unless `retain_graph`. Raises RuntimeError for a tensor
        without a record, ValueError for a gradient that is missing, or of another shape or device.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: nothing this tensor was made from requires a gradient")
        if gradient is None and self.numel() != 1:
            raise ValueError(f"backward: shape is {self.shape}: pass a gradient of that shape")
        gradient = np.ones_like(self.data) if gradient is None else as_array(_unwrap(gradient))
        if gradient.shape != self.shape:
            raise ValueError(f"backward: gradient has shape {gradient.shape}, needs {self.shape}")
        gradient = beside("backward", self.data, gradient)

        # Where this is itself a leaf, it keeps the gradient: not the caller's array, but a copy.
        gradient = gradient.astype(self.dtype, copy=not self._op)
        for leaf, grad in tape.backward(self, gradient, retain_graph):
            leaf.grad = Tensor(grad if leaf.grad is None else leaf.grad.data + grad)

    def to(self, target: Any) -> "Tensor":
        """This tensor on a device ("cpu", "cuda", "cuda:1") or as a dtype; itself if it is so."""
        if isinstance(target, str) and target.startswith(("cpu", "cuda")):
            source, moved = self.device, to_device(self.data, target)
            if moved is self.data:
                return self
            return record("to", moved, (self,), lambda grad: (to_device(grad, source),))
        if self.dtype == target:
            return self
        cast = self.data.astype(target)
        if cast.dtype not in FLOATS:  # rounding has slope 0: the gradient ends here
            return Tensor(cast)
        return record("to", cast, (self,), lambda grad: (grad.astype(self.dtype),))

    # -- arithmetic, with broadcasting -------------------------------------------------------------
    def __add__(self, other: Any) -> "Tensor":
        a, b = _operands("add", self, other)

        def backward(grad: Array) -> tuple[Array, Array]:
            return unbroadcast(grad, a.shape), unbroadcast(grad, b.shape)

        return record("add", a.data + b.data, (a, b), backward)

    def __mul__(self, other: Any) -> "Tensor":
        a, b = _operands("mul", self, other)

        def backward(grad: Array) -> tuple[Array, Array]:
            return unbroadcast(grad * b.data, a.shape), unbroadcast(grad * a.data, b.shape)

        return record("mul", a.data * b.data, (a, b), backward)

    def __truediv__(self, other: Any) -> "Tensor":
        a, b = _operands("div", self, other)

        def backward(grad: Array) -> tuple[Array, Array]:
            to_a = grad / b.data
            return unbroadcast(to_a, a.shape), unbroadcast(-to_a * a.data / b.data, b.shape)

        return record("div", a.data / b.data, (a, b), backward)

    def __matmul__(self, other: Any) -> "Tensor":
        a, b = _operands("matmul", self, other)
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2:][0]:  # k of (k, m), or of (k,)
            raise ValueError(f"matmul: {a.shape} @ {b.shape}, needs (.., n, k) @ (.., k, m)")

        def backward(grad: Array) -> tuple[Array, Array]:
            # A vector is a matrix of one row (left) or one column (right), which the result lacks.
            left = a.data[None, :] if a.ndim == 1 else a.data
            right = b.data[:, None] if b.ndim == 1 else b.data
            grad = grad[..., None] if b.ndim == 1 else grad
            grad = grad[..., None, :] if a.ndim == 1 else grad
            to_left = unbroadcast(matmul.forward(grad, right.swapaxes(-1, -2)), left.shape)
            to_right = unbroadcast(matmul.forward(left.swapaxes(-1, -2), grad), right.shape)
            return to_left.reshape(a.shape), to_right.reshape(b.shape)

        return record("matmul", matmul.forward(a.data, b.data), (a, b), backward)

    def __pow__(self, n: float) -> "Tensor":
        self, n = _with_numbers("pow", self, n)
        if n < 0 and self.dtype not in FLOATS:
            raise ValueError(f"pow: {self.dtype} to the power of {n} is no integer: use {n}.0")
        x = self.data
        # x^0 is 1 everywhere: without its case, the slope at 0 would be 0 * 0^-1 = NaN.
        return record(
            "pow", x**n, (self,), lambda grad: (grad * (n * x ** (n - 1)) if n else grad * 0,)
        )

    def __neg__(self) -> "Tensor":
        return record("neg", -self.data, (self,), lambda grad: (-grad,))

    def __sub__(self, other: Any) -> "Tensor":
        a, b = _operands("sub", self, other)

        def backward(grad: Array) -> tuple[Array, Array]:
            return unbroadcast(grad, a.shape), unbroadcast(-grad, b.shape)

        return record("sub", a.data - b.data, (a, b), backward)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> "Tensor":
        return _operands("sub", self, other)[1] - self

    def __rtruediv__(self, other: Any) -> "Tensor":
        return _operands("div", self, other)[1] / self

    def __rmatmul__(self, other: Any) -> "Tensor":
        return Tensor(other) @ self

    def _elementwise(name: str, function: Callable, derivative: Callable) -> Callable:  # type: ignore
        def method(self: "Tensor") -> "Tensor":
            self = self if name == "abs" else _floating(self)
            x, y = self.data, function(self.data)
            return record(name, y, (self,), lambda grad: (grad * derivative(x, y),))

        return method

    exp = _elementwise("exp", np.exp, lambda x, y: y)
    log = _elementwise("log", np.log, lambda x, y: 1 / x)
    sqrt = _elementwise("sqrt", np.sqrt, lambda x, y: 0.5 / y)
    abs = _elementwise("abs", np.abs, lambda x, y: np.sign(x))

    def clamp(self, min: float | None = None, max: float | None = None) -> "Tensor":
        """No value below `min` or above `max`; the gradient passes where none was cut off."""
        if min is None and max is None:
            raise ValueError("clamp: got neither min nor max")
        self, low, high = _with_numbers("clamp", self, min, max)
        y = self.data.clip(low, high)
        return record("clamp", y, (self,), lambda grad: (np.where(y == self.data, grad, 0),))

    def where(self, condition: Any, other: Any) -> "Tensor":
        """This tensor's values where `condition` holds, `other`'s elsewhere."""
        a, b = _operands("where", self, other)
        mask = beside("where", a.data, _unwrap(condition))

        def backward(grad: Array) -> tuple[Array, Array]:
            # Not grad * mask: an infinite slope of what was not chosen would give NaN.
            to_a, to_b = np.where(mask, grad, 0), np.where(mask, 0, grad)
            return unbroadcast(to_a, a.shape), unbroadcast(to_b, b.shape)

        return record("where", np.where(mask, a.data, b.data), (a, b), backward)

    # -- comparison and masks: never on the tape ---------------------------------------------------
    def _compare(function: Callable) -> Callable:  # type: ignore
        def compare(self: "Tensor", other: Any) -> "Tensor":
            other = _unwrap(other)
            check_broadcast(function.__name__, self.shape, np.shape(other))
            other = beside(function.__name__, self.data, other) if np.ndim(other) else other
            return Tensor(function(self.data, other))

        return compare

    __eq__, __ne__ = _compare(np.equal), _compare(np.not_equal)  # type: ignore[assignment]
    __lt__, __le__ = _compare(np.less), _compare(np.less_equal)
    __gt__, __ge__ = _compare(np.greater), _compare(np.greater_equal)
    __and__ = __rand__ = _compare(np.bitwise_and)
    __or__ = __ror__ = _compare(np.bitwise_or)

    def __invert__(self) -> "Tensor":
        return Tensor(~self.data)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        """Where the largest value is, the first of several; without `dim`, once flattened."""
        self._axes("argmax", dim)  # raises for a dimension that does not exist
        return Tensor(self.data.argmax(axis=dim, keepdims=keepdim))

    # -- reductions, over all dimensions where none is named ---------------------------------------
    def sum(self, dim: Dim = None, keepdim: bool = False) -> "Tensor":
        axes = self._axes("sum", dim)

        def backward(grad: Array) -> tuple[Array]:
            grad = grad if keepdim else np.expand_dims(grad, axes)
            return (np.broadcast_to(grad, self.shape),)

        # Of uint8 NumPy would make uint64, and of that beside int64 a float.
        dtype = np.int64 if self.dtype.kind == "u" else None
        total = self.data.sum(axis=axes, dtype=dtype, keepdims=keepdim)
        return record("sum", total, (self,), backward)

    def mean(self, dim: Dim = None, keepdim: bool = False) -> "Tensor":
        count = math.prod(self.shape[axis] for axis in self._axes("mean", dim))
        return self.sum(dim, keepdim) / (count or math.nan)  # the mean of nothing is NaN

    def var(self, dim: Dim = None, keepdim: bool = False, correction: int = 1) -> "Tensor":
        """The sum of squared deviations from the mean, over their number less `correction`."""
        count = math.prod(self.shape[axis] for axis in self._axes("var", dim))
        deviation = self - self.mean(dim, keepdim=True)
        return (deviation * deviation).sum(dim, keepdim) / (max(count - correction, 0) or math.nan)

    def amax(self, dim: Dim = None, keepdim: bool = False) -> "Tensor":
        """The largest value; where several are equal, they share the gradient."""
        return self._extreme("amax", np.max, dim, keepdim)

    def amin(self, dim: Dim = None, keepdim: bool = False) -> "Tensor":
        """The smallest value; where several are equal, they share the gradient."""
        return self._extreme("amin", np.min, dim, keepdim)

    def _extreme(self, op: str, function: Callable, dim: Dim, keepdim: bool) -> "Tensor":
        axes = self._axes(op, dim)
        if not math.prod(self.shape[axis] for axis in axes):
            raise ValueError(f"{op}: shape {self.shape} has nothing along dim {dim}")
        best = function(self.data, axis=axes, keepdims=True)

        def backward(grad: Array) -> tuple[Array]:
            share = (self.data == best).astype(self.dtype)
            return (grad.reshape(best.shape) * (share / share.sum(axis=axes, keepdims=True)),)

        return record(op, best if keepdim else best.squeeze(axes), (self,), backward)

    def _axes(self, op: str, dim: Dim) -> tuple[int, ...]:
        """The axes that a reduction over `dim` runs along."""
        axes = axes_of(op, dim, max(self.ndim, 1))  # a single number counts as a line of one
        return axes if axes and self.ndim else tuple(range(self.ndim))

    def max(self) -> "Tensor":
        return self.amax()

    def min(self) -> "Tensor":
        return self.amin()

    # -- shape -------------------------------------------------------------------------------------
    def reshape(self, *shape: Any) -> "Tensor":
        y = self.data.reshape(*shape)
        return record("reshape", y, (self,), lambda grad: (grad.reshape(self.shape),))

    def permute(self, *dims: Any) -> "Tensor":
        """The dimensions in the order of `dims`: (2, 0, 1) puts the last one in front."""
        axes = axes_of("permute", dims if len(dims) != 1 else dims[0], self.ndim)
        if len(axes) != self.ndim:
            raise ValueError(f"permute: dims are {dims}, needs each of {self.ndim} once")
        y = self.data.transpose(axes)
        return record("permute", y, (self,), lambda grad: (grad.transpose(*np.argsort(axes)),))

    def transpose(self, dim0: int, dim1: int) -> "Tensor":
        """Two dimensions change places."""
        for dim in (dim0, dim1):
            axes_of("transpose", dim, self.ndim)
        y = self.data.swapaxes(dim0, dim1)
        return record("transpose", y, (self,), lambda grad: (grad.swapaxes(dim0, dim1),))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        """Dimensions `start_dim` to `end_dim`, this one included, become one."""
        ndim = max(self.ndim, 1)  # a single number counts as a line of one
        start, end = start_dim % ndim, end_dim % ndim
        if not (-ndim <= start_dim < ndim and -ndim <= end_dim < ndim and start <= end):
            raise ValueError(f"flatten: dims {start_dim} to {end_dim} of a tensor {self.shape}")
        flat = math.prod(self.shape[start : end + 1])
        return self.reshape(*self.shape[:start], flat, *self.shape[end + 1 :])

    def squeeze(self, dim: int) -> "Tensor":
        """Without this dimension if its size is 1, else itself."""
        axes_of("squeeze", dim, self.ndim)
        return self.reshape(self.data.squeeze(dim).shape) if self.shape[dim] == 1 else self

    def unsqueeze(self, dim: int) -> "Tensor":
        """With a dimension of size 1 more, which is `dim` of the result."""
        if not -self.ndim - 1 <= dim <= self.ndim:
            raise ValueError(f"unsqueeze: dim is {dim}, needs {-self.ndim - 1} to {self.ndim}")
        return self.reshape(np.expand_dims(self.data, dim).shape)

    def expand(self, *shape: Any) -> "Tensor":
        """Repeat dimensions of size 1, and new ones in front; -1 keeps a dimension's size."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        new = len(sizes) - self.ndim
        old = (1,) * new + self.shape
        sizes = tuple(old[i] if n == -1 and i >= new else n for i, n in enumerate(sizes))
        if new < 0 or not all(n >= 0 and m in (1, n) for m, n in zip(old, sizes, strict=True)):
            raise ValueError(f"expand: shape is {self.shape}, which does not repeat to {shape}")
        y = np.broadcast_to(self.data, sizes)
        return record("expand", y, (self,), lambda grad: (unbroadcast(grad, self.shape),))

    def __getitem__(self, index: Any) -> "Tensor":
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(_unwrap(part) for part in parts)
        if any(map(is_array, parts)):
            parts = without_idle_ellipsis(parts, self.ndim)
            if any(map(is_number, parts)):
                first, second = numbers_first(parts)
                return self[first][second]

        if self.device != "cpu":
            check_range(parts, self.shape)
        y = self.data[parts]
        in_order = all(isinstance(part, slice) and part.step in (None, 1) for part in parts)
        if in_order and y.shape == self.shape:  # all of it is taken
            return record("getitem", y, (self,), lambda grad: (grad,))

        def backward(grad: Array) -> tuple[Array]:
            whole = np.zeros_like(self.data)
            if all(part is None or isinstance(part, int | slice | EllipsisType) for part in parts):
                whole[parts] = grad
            else:
                xp = array_module(whole)
                xp.add.at(whole, parts, grad)  # an element that was taken twice gets both
            return (whole,)

        return record("getitem", y, (self,), backward)


# -- how operations reach the tape -----------------------------------------------------------------
def record(op: str, data: Array, parents: tuple[Tensor | None, ...], backward: Backward) -> Tensor:
    """The result of an operation; with its record where a parent requires a gradient."""
    out = Tensor(data)
    out._record(op, parents, backward)
    return out


def _floating(x: Tensor) -> Tensor:
    """Itself; integers as float32, in which PyTorch computes what is no integer."""
    return x if x.dtype in FLOATS else x.to(np.float32)


def _with_numbers(op: str, x: Tensor, *values: Any) -> tuple[Any, ...]:
    """x and Python numbers, or None; where one is a float, so is x.

    Not NumPy's scalars: their dtype would become the result's. Nor integers of more than 16 bits
    beside floats, from which CuPy 13 makes float64; smaller ones stay, as x ** 2 is quicker so.
    """
    for value in values:
        if np.ndim(value) or isinstance(value, Tensor):
            raise TypeError(f"{op}: got a {type(value).__name__}, needs a number")
    numbers = [value.item() if hasattr(value, "dtype") else value for value in values]
    x = _floating(x) if any(isinstance(number, float) for number in numbers) else x
    if x.dtype in FLOATS:
        numbers = [n if n is None or abs(n) < 2**15 else float(n) for n in numbers]
    return x, *numbers


def _unwrap(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _operands(op: str, a: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    """Both operands as tensors of one dtype. Raises unless devices and shapes fit together."""
    b = other if isinstance(other, Tensor) else Tensor(as_operand(op, a.data, other))
    if a.device != b.device:
        raise ValueError(f"{op}: one operand is on {a.device}, the other on {b.device}")
    if a.shape != b.shape:
        check_broadcast(op, a.shape, b.shape, trailing=2 if op == "matmul" else 0)
    dtype = common_dtype(op, a.data, b.data)
    return a.to(dtype), b.to(dtype)
