"""Softmax on the CPU, block by block: whole lines, as many as the cache holds.

The formulas are those of softmax.py. There, each operation reads and writes whole arrays; here an
array is seen as (outer, C, inner), with lines along C, and a block is some places of `inner`, of
one or several of the outer: its passes find in the cache what the last one wrote. The results'
memory is the first place for what is computed on the way.

How lines are put together depends on the shape alone, so the bits do not depend on the threads.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minseg.array import Array
from minseg.ops.fast.exponential import exp
from minseg.parallel import BLOCK, SMALL, parallel_for


def softmax(out: Array, x: Array) -> None:
    _below_top(out, x)
    exp(out, out)
    out /= _sum(out)


def softmax_grad(out: Array, grad: Array, y: Array) -> None:
    np.multiply(grad, y, out=out)
    np.subtract(grad, _sum(out), out=out)
    out *= y


def log_softmax(out: Array, x: Array) -> None:
    _below_top(out, x)
    powers = np.empty_like(out)
    exp(out, powers)
    out -= np.log(_sum(powers))


def log_softmax_grad(out: Array, grad: Array, y: Array) -> None:
    exp(y, out)
    out *= -_sum(grad)
    out += grad


def _below_top(out: Array, x: Array) -> None:
    with np.errstate(invalid="ignore"):  # -inf throughout: NaN
        np.subtract(x, x.max(axis=1, keepdims=True), out=out)


def _sum(x: Array) -> Array:
    return np.add.reduce(x, axis=1, keepdims=True)


def by_blocks(plain: Callable[..., Array], fast: Callable[..., None]) -> Callable[..., Array]:
    """plain(a, b, ..., axis) of small arrays; of others fast(out, a, b, ...), block by block."""

    @wraps(plain)
    def either(*arguments: Any) -> Array:
        *arrays, axis = arguments
        shape = arrays[0].shape
        if arrays[0].size <= SMALL:
            return plain(*arguments)
        lines = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        y = np.empty(lines, arrays[0].dtype)
        flat = [a.reshape(lines) for a in arrays]
        blocks = _blocks(*lines)
        parallel_for(lambda i: fast(y[blocks[i]], *(a[blocks[i]] for a in flat)), len(blocks))
        return y.reshape(shape)

    return either


def _blocks(outer: int, C: int, inner: int) -> list[tuple[slice, slice, slice]]:
    """Of (outer, C, inner), in equal pieces, an even number of them: two cores' share."""
    count = 2 * -(-outer * C * inner // (2 * BLOCK))
    images = max(1, outer // count)
    places = -(-inner // -(-images * count // outer))
    return [
        (slice(n, n + images), slice(None), slice(p, p + places))
        for n in range(0, outer, images)
        for p in range(0, inner, places)
    ]
