"""Sampling on the CPU, for the output and both gradients together.

    y[n, :, o] = sum over t of weight[n, t, o] x[n, :, index[n, t, o]]

The plain forward and its two gradients each find the taps anew, read x number by number, and write
arrays as large as y for each tap. Here

- the taps are found once, and kept for the backward pass;
- outputs are computed in blocks, whose temporaries stay in the cache;
- x is transposed so that a pixel's channels lie side by side: one index fetches all of them;
- a weight is repeated for all channels of its pixel by a matrix product (outer.py);
- the scatter of the input gradient, `np.add.at`, takes as long for a complex number as for a real
  one: so two channels are added at once, as its real and imaginary parts. It adds in the order of
  the outputs, in one thread (it does not release the interpreter's lock): the same each time. As
  its calls of NumPy are few, other threads can compute the grid's gradient meanwhile.

Shapes: x (N, C, places), index and weight (N, T, outputs) with index = places for outside, which
        reads 0 -> y (N, C, outputs)
"""

import math
from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.fast.outer import outer
from minseg.ops.grid_sample_taps import find_taps, samples, weight_of
from minseg.parallel import later, parallel_for

FEW = 2**14  # elements of y: for up to so many nearest pixels, the plain parts are as quick
ELEMENTS_A_BLOCK = 2**19  # fetched at once: outputs times taps times channels


def fits(x_shape: tuple[int, ...], grid_shape: tuple[int, ...], mode: str) -> bool:
    """Is this quicker? Nearest pixels have little to keep: one tap each, and no slopes."""
    return mode != "nearest" or math.prod(x_shape[:2] + grid_shape[1:-1]) > FEW


def grid_sample(
    x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> tuple[Array, Callable[[Array], Array], Callable[[Array], Array]]:
    """y, and the functions that turn its gradient into that of x and into that of the grid.

    The first of them may return a function instead, which gives the result (parallel.later).
    """
    (N, C, *size), (_, *out, _) = x.shape, grid.shape
    places, outputs = math.prod(size), math.prod(out)
    axes = find_taps(grid, tuple(size), mode, padding_mode, align_corners)
    indices, taps = zip(*samples(axes, tuple(size)), strict=True)
    index = np.stack(indices, axis=1)
    weight = np.stack([weight_of(axes, tap) for tap in taps], axis=1)
    pixels = _pixels_of(x.reshape(N, C, places))

    def grad_input(grad: Array) -> Array:
        flat = grad.reshape(N, C, outputs)
        return later(lambda: _grad_input(flat, index, weight, places).reshape(x.shape))

    def grad_grid(grad: Array) -> Array:
        dgrid = np.zeros(grid.shape, grid.dtype)
        if mode == "nearest":
            return dgrid
        values = _grad_weight(grad.reshape(N, C, outputs), pixels, index).swapaxes(0, 1)
        for d in range(len(size)):
            moved = [v * weight_of(axes, tap, d) for v, tap in zip(values, taps, strict=True)]
            dgrid[..., -1 - d] = sum(moved).reshape(grid.shape[:-1])
        return dgrid

    return _forward(pixels, index, weight).reshape(N, C, *out), grad_input, grad_grid


def _pixels_of(x: Array) -> Array:
    """(N, C, places) -> (N, places + 1, C), the last one 0: what lies outside."""
    N, C, places = x.shape
    pixels = np.zeros((N, places + 1, C), x.dtype)

    def one_image(n: int) -> None:
        pixels[n, :-1] = x[n].T

    parallel_for(one_image, N)
    return pixels


def _forward(pixels: Array, index: Array, weight: Array) -> Array:
    """y (N, C, outputs), from _pixels_of(x)."""
    (N, _, C), (_, T, outputs) = pixels.shape, index.shape
    y = np.empty((N, C, outputs), pixels.dtype)
    blocks = _blocks(N, outputs, T * C)
    ones = np.ones(C, pixels.dtype)

    def one_block(i: int) -> None:
        n, o = blocks[i]
        found = pixels[n].take(index[n, :, o].reshape(-1), axis=0)
        found *= outer(weight[n, :, o].reshape(-1), ones)
        y[n, :, o] = np.add.reduce(found.reshape(T, -1, C), axis=0).T

    parallel_for(one_block, len(blocks))
    return y


def _grad_weight(grad: Array, pixels: Array, index: Array) -> Array:
    """The gradient of the weights (N, T, outputs): the sum over channels of grad * x."""
    (N, _, C), (_, T, outputs) = pixels.shape, index.shape
    result = np.empty(index.shape, pixels.dtype)
    blocks = _blocks(N, outputs, T * C)
    ones = np.ones(C, pixels.dtype)

    def one_block(i: int) -> None:
        n, o = blocks[i]
        found = pixels[n].take(index[n, :, o].reshape(-1), axis=0).reshape(T, -1, C)
        found *= np.ascontiguousarray(grad[n, :, o].T)
        result[n, :, o] = found @ ones

    parallel_for(one_block, len(blocks))
    return result


def _grad_input(grad: Array, index: Array, weight: Array, places: int) -> Array:
    """The gradient of x (N, C, places); what would go outside is left out."""
    (N, C, outputs), T = grad.shape, index.shape[1]
    dx = np.empty((N, C, places), grad.dtype)
    pairs = np.zeros((-(-C // 2), outputs, 2), grad.dtype)  # of channels; an odd one, and 0
    totals = np.empty((len(pairs), places, 2), grad.dtype)
    as_complex = np.result_type(grad.dtype, np.complex64)
    output_of = np.tile(np.arange(outputs), T)
    some = max(1, ELEMENTS_A_BLOCK // max(2 * len(output_of), 1))  # pairs at once

    for n in range(N):
        tap = index[n].reshape(-1)
        inside = np.flatnonzero(tap < places)
        tap, output = tap[inside], output_of[inside]
        twice = np.repeat(weight[n].reshape(-1)[inside], 2)
        for lane in range(2):
            pairs[: len(grad[n, lane::2]), :, lane] = grad[n, lane::2]
        totals[...] = 0
        for first in range(0, len(pairs), some):
            shares = pairs[first : first + some].view(as_complex)[..., 0].take(output, axis=1)
            shares.view(grad.dtype)[...] *= twice
            for total, share in zip(totals[first:].view(as_complex), shares, strict=False):
                np.add.at(total[:, 0], tap, share)
        for lane in range(2):
            dx[n, lane::2] = totals[: len(dx[n, lane::2]), :, lane]
    return dx


def _blocks(images: int, outputs: int, each: int) -> list[tuple[int, slice]]:
    """Blocks: an image and a slice of its outputs, each of which fetches `each` elements."""
    step = max(1, ELEMENTS_A_BLOCK // max(each, 1))
    return [(n, slice(o, o + step)) for n in range(images) for o in range(0, outputs, step)]
