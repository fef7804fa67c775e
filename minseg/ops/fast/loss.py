"""Losses of pairs of numbers, with their slopes: the gradient is then one product.

Value and slope are computed together, block by block on all cores, from the same differences and
exponentials; activation.py says what a pass costs. For flat float32 arrays on the CPU.
"""

from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.fast.activation import product
from minseg.ops.fast.exponential import exp
from minseg.parallel import BLOCK, SMALL, in_blocks, parallel_for

Formula = Callable[[Array, Array, Array, Array], None]


def fits(x: Array) -> bool:
    return x.dtype == np.float32


def squared_error(out: Array, slope: Array, x: Array, t: Array) -> None:
    """(x - t)^2"""
    np.subtract(x, t, out=slope)
    np.multiply(slope, slope, out=out)
    slope *= 2


def bce_with_logits(out: Array, slope: Array, x: Array, t: Array) -> None:
    """(1 - t) x + softplus(-x), with the slope sigmoid(x) - t; softplus(-x) is max(-x, 0) +
    log(1 + e^-|x|), and sigmoid(x) is 1 or e^-|x|, whichever x's sign asks for, over 1 + e^-|x|."""
    e = abs(x)
    np.negative(e, out=e)
    exp(e, out=e)
    np.subtract(1, t, out=out)
    out *= x
    out -= np.minimum(x, np.zeros_like(x), out=slope)
    out += np.log1p(e, out=slope)
    np.maximum(e, x > 0, out=slope)
    e += 1
    slope /= e
    slope -= t


def value_and_slope(formula: Formula, x: Array, t: Array, summed: bool) -> tuple[Array, Array]:
    """The loss of each element, or, `summed`, its sums over blocks; and the slope of each.

    How sums are cut depends on the size alone. A block's values never leave the cache then.
    """
    flat_x, flat_t = (np.ascontiguousarray(a).reshape(-1) for a in (x, t))
    slope = np.empty_like(flat_x)
    pairs = -(-x.size // (2 * BLOCK))
    count = 2 * pairs if x.size > SMALL else 1  # even and equal: two cores' share
    step = -(-x.size // count)
    value = np.empty(count if summed else x.size, x.dtype)

    def one_block(index: int) -> None:
        piece = slice(index * step, (index + 1) * step)
        own = slope[piece]
        values = np.empty_like(own) if summed else value[piece]
        formula(values, own, flat_x[piece], flat_t[piece])
        if summed:
            value[index] = values.sum()

    parallel_for(one_block, count)
    return value if summed else value.reshape(x.shape), slope.reshape(x.shape)


def _times(out: Array, slope: Array, factor: float) -> None:
    np.multiply(slope, factor, out=out)


_scaled = in_blocks(np.multiply, _times, light=True)


def grad_input(grad: Array, slope: Array) -> Array:
    """`grad` may be one number that is broadcast: a sum's or a mean's."""
    if grad.size and not any(grad.strides):
        return _scaled(slope, grad.dtype.type(grad.flat[0]))
    return product(grad, slope)
