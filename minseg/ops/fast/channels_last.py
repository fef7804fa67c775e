"""A depthwise convolution of many channels on small maps: channels side by side, one einsum.

Tap by tap, NumPy goes along the rows of each channel's map. Deep in a network these are short,
and it takes as long to begin one as to multiply some 50 numbers; but there are hundreds of
channels. So they are laid side by side in memory, (N, H, W, C), as the tokens of a transformer are
anyway. (For tokens this is the quicker way however long the rows are.) A row of the image, with all
channels of all its pixels, is then one long line, and each tap multiplies whole lines,

    y[n, r, :] = sum over i, j of  w[i, j, :] * padded[n, r + i * dilation, j * dilation * C + :]

with the channels' weights repeated for each pixel. The lines that the taps read are a view of
`padded`, so one call of einsum does it all. The gradient of the weights sums over n, rows and
pixels instead. The gradient of the input is a convolution by the kernel turned round (turned.py).

The result's channels lie side by side if the input's do: the layers that follow may want that.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minseg.array import Array
from minseg.ops.fast.turned import turned, turns
from minseg.ops.window import Window
from minseg.parallel import parallel_for

SHORT = 12  # rows of fewer elements take several times as long to begin as to multiply
MULTIPLICATIONS = 2**19  # about so many in a block; with fewer, the calls of NumPy are too short
EINSUM = 8  # einsum takes at least as long for one multiplication as BLAS for so many


def fits(x: Array, window: Window) -> bool:
    """Is this the quicker way? It is if the channels lie side by side, or if rows are short."""
    return turns(window) and (_has_short_rows(x) or _side_by_side(x))


def forward(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    """conv2d's forward, for groups = C and stride 1."""
    (N, C), (height, width) = x.shape[:2], window.output_size(*x.shape[2:])
    y = np.empty((N, height, width * C), x.dtype)
    taps = np.tile(w[:, 0].transpose(1, 2, 0), width)  # (kh, kw, W' C), for all of a row
    biases = None if b is None else np.tile(b, width)

    def some_images(n: slice) -> None:
        np.einsum("nhijx,ijx->nhx", _windows(x[n], window), taps, out=y[n])
        if biases is not None:
            y[n] += biases
        if relu:
            np.clip(y[n], 0, np.inf, out=y[n])

    _for_images(some_images, N, taps.size * height)
    maps = y.reshape(N, height, width, C).transpose(0, 3, 1, 2)
    return maps if _side_by_side(x) else np.ascontiguousarray(maps)


def grad_input(grad: Array, w: Array, window: Window) -> Array:
    return forward(grad, w[..., ::-1, ::-1], None, turned(window))


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    """The gradient of each image by itself, so that threads share no sum; then their sum."""
    N, C, height, width = grad.shape
    sums = np.empty((N, *window.kernel, C), x.dtype)  # of each image

    def some_images(n: slice) -> None:
        g = np.ascontiguousarray(grad[n].transpose(0, 2, 3, 1))
        windows = _windows(x[n], window).reshape(len(g), height, *window.kernel, width, C)
        np.einsum("nhwc,nhijwc->nijc", g, windows, out=sums[n])

    _for_images(some_images, N, sums[:1].size * height * width)
    return sums.sum(axis=0).transpose(2, 0, 1).reshape(w_shape)


def _windows(x: Array, window: Window) -> Array:
    """The line that each tap reads for each row, (N, H', kh, kw, W' C): a view of padded x."""
    (N, C, H, W), (top, left) = x.shape, window.padding
    padded = np.zeros((N, H + 2 * top, W + 2 * left, C), x.dtype)
    padded[:, top : top + H, left : left + W] = x.transpose(0, 2, 3, 1)
    image, row, column, channel = padded.strides
    (down, right), (height, width) = window.dilation, window.output_size(H, W)
    return as_strided(
        padded,
        (N, height, *window.kernel, width * C),
        (image, row, down * row, right * column, channel),
        writeable=False,
    )


def _for_images(body: Callable[[slice], None], images: int, multiplications: int) -> None:
    """Call body(slice of images) until it has had all; each takes so many multiplications."""
    step = max(1, -(-MULTIPLICATIONS // max(multiplications, 1)))
    parallel_for(
        lambda i: body(slice(i * step, (i + 1) * step)),
        -(-images // step),
        EINSUM * images * multiplications,
    )


def _has_short_rows(x: Array) -> bool:
    return x.shape[3] < SHORT and x.shape[1] >= 2 * x.shape[3]


def _side_by_side(x: Array) -> bool:
    return x.strides[1] == x.itemsize
