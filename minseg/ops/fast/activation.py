"""Activations in few passes over flat float32 arrays, with the results written into `out`.

A pass (one NumPy call) over elements in the cache costs about 0.13 ns an element and core, whatever
it computes, and an exponential two to four times that. The formulas of activation.py and gelu.py
are written here to need few passes, few new arrays and no exponential twice:

- `out` is the result's memory, and the first place for what is computed on the way;
- where a gradient with exponentials will be wanted, the slope is computed along with the value,
  from the same ones; the backward pass is then one product. It is kept in the place of the input;
- a comparison with the number 0 is SIMD in NumPy, but maximum(x, 0) is not: maximum(x, zeros) is,
  and clip(x, 0, inf);
- a bool factor is cast as it is multiplied, twice as costly as a float one; `where` ten times.

Each function is tested against the formula in the op's own file.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.array import Array
from minseg.ops.fast.exponential import POWER, UNIT
from minseg.parallel import BLOCK, blas_on_one_thread, cut, in_blocks, parallel_for

_ZEROS = np.zeros(BLOCK, np.float32)
_ZEROS.flags.writeable = False


def _zeros(x: Array) -> Array:
    return _ZEROS[: x.size]


def relu(out: Array, x: Array) -> None:
    np.clip(x, 0, np.inf, out=out)


def relu_grad(out: Array, grad: Array, y: Array) -> None:
    """grad where y is not 0 (but positive, or NaN), else 0."""
    _all_but(y == 0, out, grad)


def leaky_relu(out: Array, x: Array, negative_slope: float) -> None:
    if negative_slope > 0:  # the line that is the higher one on the right, the lower on the left
        np.multiply(x, negative_slope, out=out)
        (np.maximum if negative_slope <= 1 else np.minimum)(x, out, out=out)
    else:
        np.minimum(x, _zeros(x), out=out)
        out *= negative_slope
        out += np.maximum(x, _zeros(x))


def leaky_relu_grad(out: Array, grad: Array, x: Array, negative_slope: float) -> None:
    np.greater(x, 0, out=out)
    if 0 <= negative_slope <= 1:
        np.clip(out, negative_slope, 1, out=out)
    else:
        out += (1 - out) * negative_slope
    out *= grad


def _all_but(zero: Array, out: Array, grad: Array) -> None:
    """out = 0 where `zero`, else grad, by a mask of bits: infinity times 0 would be NaN.

    The bool array `zero` is overwritten.
    """
    mask = zero.view(np.int8)
    mask -= 1  # True: no bit, False: every bit
    integer = f"i{out.itemsize}"
    bits = out.view(integer)
    bits[:] = mask
    bits &= grad.view(integer)


def relu6_grad(out: Array, grad: Array, y: Array) -> None:
    _all_but((y <= 0) | (y >= 6), out, grad)


def hardsigmoid_grad(out: Array, grad: Array, x: Array) -> None:
    _all_but((x <= -3) | (x >= 3), out, grad)
    out /= 6


def elu(out: Array, x: Array, alpha: float, slope: Array | None = None) -> None:
    """e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2), also close to 0."""
    t = np.fmin(x, _zeros(x))  # 0 for a NaN: its slope is 1, PyTorch's choice
    t *= 0.5
    np.tanh(t, out=t)
    np.subtract(1, t, out=out)
    np.divide(t, out, out=out)
    out *= 2 * alpha
    if slope is not None:
        np.add(out, alpha, out=slope)  # alpha e^x; alpha where x > 0
        if alpha != 1:
            right = ~(x <= 0)
            slope *= ~right
            slope += right
    out += np.maximum(x, _zeros(x), out=t)


def one_plus_power(x: Array) -> None:
    """x = UNIT z becomes 1 + e^z. That may be infinite: a quotient by it is 0, as it should be."""
    with np.errstate(over="ignore"):
        POWER(x, out=x)
    x += 1


def one_over_one_plus_power(x: Array) -> None:
    one_plus_power(x)
    np.divide(1, x, out=x)


def sigmoid(out: Array, x: Array) -> None:
    np.multiply(x, -UNIT, out=out)
    one_over_one_plus_power(out)


def sigmoid_grad(out: Array, grad: Array, y: Array) -> None:
    np.subtract(1, y, out=out)
    out *= y
    out *= grad


def tanh(out: Array, x: Array) -> None:
    np.tanh(x, out=out)


def tanh_grad(out: Array, grad: Array, y: Array) -> None:
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    out *= grad


def silu(out: Array, x: Array, slope: Array | None = None) -> None:
    """y = x / u, u = 1 + e^-x; dy/dx = (x - y + 1) / u, summed in this order: x - y may be 0."""
    u = np.empty_like(x) if slope is None else slope
    np.multiply(x, -UNIT, out=u)
    one_plus_power(u)
    np.divide(x, u, out=out)
    if slope is not None:
        rest = x - out
        rest += 1
        np.divide(rest, u, out=slope)


def hardswish(out: Array, x: Array) -> None:
    np.clip(x, -3, 3, out=out)
    out += 3
    out *= 1 / 6
    out *= x


def hardswish_grad(out: Array, grad: Array, x: Array) -> None:
    """The slope t + 1/2, t = clip(x / 3, -1, 1), would end at -1/2 and 3/2; it is 0 and 1 there.

    From the input again, as PyTorch does it: a slope kept since the forward pass costs as much
    in memory that is written and read as these operations in the cache.
    """
    np.clip(x, -3, 3, out=out)
    out *= 1 / 3
    ends = np.trunc(out)  # -1, 1, or between the kinks 0
    ends *= -0.5
    out += ends
    out += 0.5
    out *= grad
    with blas_on_one_thread():
        total = np.dot(out, out)
    if np.isnan(total):  # rare: an infinite gradient times 0, to be 0 on the left
        np.copyto(out, 0, where=x <= -3)


# Phi(x) = 1 / (1 + e^(x p(x^2))): p, of 1, s, s^2, ... The odd polynomial fitted to
# log(Phi(-x) / Phi(x)) so that the largest error of x Phi(x) is least: 6.8e-8, about float32's own
# (computed so, 1.9e-7 max(1, |x|)). It falls for all x: nothing has to be cut off.
LOG_ODDS = (
    -1.59576899,
    -0.0726678227,
    6.59095272e-05,
    0.00011055588,
    -7.94622593e-06,
    2.67293705e-07,
    -3.61872582e-09,
)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def gelu(out: Array, x: Array, approximate: str, slope: Array | None = None) -> None:
    """y = x Phi; dy/dx = Phi + x e^(-x^2 / 2) / sqrt(2 pi), or the like of tanh's Phi."""
    square = x * x
    phi = np.empty_like(x) if slope is None else slope
    if approximate == "tanh":  # (1 + tanh(u)) / 2 = 1 / (1 + e^(-2 u))
        np.multiply(square, -2 * 0.044715 * SQRT_2_OVER_PI * UNIT, out=phi)
        phi -= 2 * SQRT_2_OVER_PI * UNIT
    else:
        np.multiply(square, LOG_ODDS[-1] * UNIT, out=phi)
        for c in LOG_ODDS[-2:0:-1]:  # Horner
            phi += c * UNIT
            phi *= square
        phi += LOG_ODDS[0] * UNIT
    phi *= x
    if approximate == "tanh" and slope is not None:
        rest = -phi  # 1 - Phi, with all its digits
        one_over_one_plus_power(rest)
    one_over_one_plus_power(phi)
    np.multiply(x, phi, out=out)
    if slope is None:
        return
    if approximate == "tanh":  # y (1 - Phi) times the derivative of 2 u
        square *= 6 * 0.044715 * SQRT_2_OVER_PI
        square += 2 * SQRT_2_OVER_PI
        square *= out
        square *= rest
    else:
        square *= -0.5 * UNIT
        POWER(square, out=square)
        square *= 1 / math.sqrt(2 * math.pi)
        square *= x
    slope += square


# Of an op whose gradient is one of its input: the value and, on request, the slope.
WITH_SLOPE: dict[str, Callable[..., None]] = {
    "elu": elu,
    "silu": silu,
    "gelu": gelu,
}


def has_slope(op: str, x: Array) -> bool:
    return op in WITH_SLOPE and isinstance(x, np.ndarray) and x.dtype == np.float32


def value_and_slope(op: str, x: Array, *constants: Any) -> tuple[Array, Array]:
    """An activation's values and its derivatives, block by block."""
    formula = WITH_SLOPE[op]
    flat = np.ascontiguousarray(x).reshape(-1)
    y, slope = np.empty_like(flat), np.empty_like(flat)
    pieces = cut(flat.size)

    def one_block(index: int) -> None:
        piece = pieces[index]
        formula(y[piece], flat[piece], *constants, slope=slope[piece])

    parallel_for(one_block, len(pieces))
    return y.reshape(x.shape), slope.reshape(x.shape)


def _product(out: Array, a: Array, b: Array) -> None:
    np.multiply(a, b, out=out)


product = in_blocks(np.multiply, _product, light=True)
