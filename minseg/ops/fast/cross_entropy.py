"""Cross-entropy of class indices without smoothing, the usual case, in few passes over the scores.

The loss needs log p of one class of each pixel, not of all: w (log(sum_c e^z_c) - z_t), with
z = x - max(x). The gradient is g w (p - [c = t]), so the label takes off one number a pixel. The
powers e^z are computed once and kept from the loss to the gradient, where they are p times a factor
for each pixel. (A gradient of that size has to be stored then in any case.)
"""

from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.fast.exponential import exp
from minseg.parallel import PASS, parallel_for

ELEMENTS_A_BLOCK = 2**20  # few calls on much: they hand the interpreter's lock to and fro less


def fits(target: Array, smoothing: float) -> bool:
    """Is this the usual case: class indices (N, P), of which nothing goes to other classes?"""
    return target.ndim == 2 and not smoothing


def cross_entropy(
    x: Array, target: Array, w: Array, ignore_index: int
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """The loss (N, P) of x (N, C, P), target (N, P) and w (C,).

    Also the pixels' weights (N, P), 0 for those that are ignored, and the function that turns the
    gradient of the loss into that of x.
    """
    N, C, P = x.shape
    x = np.ascontiguousarray(x)
    powers = np.empty_like(x)
    loss, total, weight = np.empty((3, N, P), x.dtype)
    valid = target != ignore_index
    places = np.empty((N, P), np.intp)  # of the labels' scores, in the flat array
    starts = C * P * np.arange(N)[:, None] + np.arange(P)  # of the scores of class 0
    blocks = _blocks(*x.shape)

    def forward(index: int) -> None:
        n, p = blocks[index]
        label = np.where(valid[n, p], target[n, p], 0)
        weight[n, p] = np.where(valid[n, p], w.take(label), 0)
        label *= P
        label += starts[n, p]
        places[n, p] = label

        scores, part = x[n, :, p], powers[n, :, p]
        top = scores.max(axis=1)
        with np.errstate(invalid="ignore"):  # scores that are -inf throughout have no softmax: NaN
            np.subtract(scores, top[:, None], out=part)
            top -= x.reshape(-1).take(label)
        exp(part, out=part)
        np.add.reduce(part, axis=1, out=total[n, p])
        top += np.log(total[n, p])
        top *= weight[n, p]
        loss[n, p] = np.where(valid[n, p], top, 0)

    def grad_input(grad: Array) -> Array:
        dx = np.empty_like(x)
        flat = dx.reshape(-1)

        def one_block(index: int) -> None:
            n, p = blocks[index]
            with np.errstate(invalid="ignore"):  # no pixel is left: the mean's gradient is NaN
                g = np.where(valid[n, p], grad[n, p] * weight[n, p], 0)
            np.multiply(powers[n, :, p], (g / total[n, p])[:, None], out=dx[n, :, p])
            flat[places[n, p]] -= g

        parallel_for(one_block, len(blocks), PASS * x.size)
        return dx

    parallel_for(forward, len(blocks), PASS * x.size)
    return loss, weight, grad_input


def _blocks(images: int, classes: int, pixels: int) -> list[tuple[slice, slice]]:
    """Slices of images and pixels: many images while these are small, parts of one that is large.

    An even number, about equal, for two cores and more.
    """
    if not images * pixels:
        return []
    count = 2 * -(-images * classes * pixels // (2 * ELEMENTS_A_BLOCK))
    many = max(1, images // count)
    parts = max(1, count // images)
    step = -(-pixels // parts)
    return [
        (slice(n, n + many), slice(p, p + step))
        for n in range(0, images, many)
        for p in range(0, pixels, step)
    ]
