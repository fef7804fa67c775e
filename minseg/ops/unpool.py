"""Max-unpooling: every value returns to the place that max-pooling took it from; the rest is 0.

    y[n, c].flat[indices[n, c, h, w]] = x[n, c, h, w]

Where several values return to one place (pooling windows that overlap), the last in row-major order
stays. The gradient is PyTorch's: each x gets that of its place, even if it was overwritten there.

Shapes: x, indices (N, C, H, W) -> y (N, C, H', W'), by default
        H' = (H - 1) stride - 2 padding + kernel height, W' likewise
Source: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 2.1;
        in segmentation: Badrinarayanan et al., "SegNet", 2017, section 3
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from minseg.array import Array, array_module
from minseg.device import raise_where
from minseg.ops.checks import Pair, check_tensor, pair
from minseg.ops.fast.planes import for_planes
from minseg.ops.max_pool import put_at_indices
from minseg.ops.op import Op, launch
from minseg.tensor import Tensor, record


def max_unpool2d_definition(x: Array, indices: Array, size: Pair) -> Array:
    """The formula above, as loops."""
    y = np.zeros((*x.shape[:2], *size), x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        row, col = divmod(int(indices[n, c, h, w]), size[1])
        y[n, c, row, col] = x[n, c, h, w]
    return y


def _forward_numpy(x: Array, indices: Array, size: Pair) -> Array:
    return put_at_indices(x, indices, (*x.shape[:2], *size))


def _grad_input_numpy(grad: Array, indices: Array) -> Array:
    """Each x gets the gradient of its place."""
    dx = np.empty(indices.shape, grad.dtype)

    def take(grad: Array, indices: Array, dx: Array) -> None:
        for plane, places, values in zip(grad, indices, dx, strict=True):
            plane.take(places, out=values, mode="clip")  # all are in range: no second check

    for_planes(take, grad, indices, dx)
    return dx


def _forward_cuda(x: Array, indices: Array, size: Pair) -> Array:
    """kernels/unpool.cu: first find out which value wins each place, then fetch the winners."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    winner = xp.zeros(y.shape, np.int32)
    sizes = (x.shape[0] * x.shape[1], x.shape[2] * x.shape[3], size[0] * size[1])
    launch("max_unpool2d_claim", xp.ascontiguousarray(indices, np.int64), winner, *sizes)
    launch("max_unpool2d_forward", xp.ascontiguousarray(x), winner, y, *sizes)
    return y


def _grad_input_cuda(grad: Array, indices: Array) -> Array:
    xp = array_module(grad)
    dx = xp.empty(indices.shape, grad.dtype)
    N, C, H, W = indices.shape
    grad, indices = xp.ascontiguousarray(grad), xp.ascontiguousarray(indices, np.int64)
    launch(
        "max_unpool2d_grad_input", grad, indices, dx, N * C, H * W, grad.shape[2] * grad.shape[3]
    )
    return dx


op = Op(
    "max_unpool2d",
    definition=max_unpool2d_definition,
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
    cuda={"forward": _forward_cuda, "grad_input": _grad_input_cuda},
)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Undo max_pool2d(..., return_indices=True), as far as its maxima allow.

    Several sizes pool to the same size: `output_size`, (H', W') or (N, C, H', W'), chooses one that
    is less than a stride off the default. Raises ValueError or TypeError for arguments that do not
    fit together, and for an index outside the output.
    """
    check_tensor("max_unpool2d", "input", input, ndim=4)
    kernel = pair("max_unpool2d", "kernel_size", kernel_size, least=1)
    step = kernel if stride is None else pair("max_unpool2d", "stride", stride, least=1)
    border = pair("max_unpool2d", "padding", padding, least=0)
    size = _output_size(input, kernel, step, border, output_size)
    x, places = input.data, _check_indices(input, indices, size)
    y = op.forward(x, places, size)

    def backward(grad: Array) -> tuple[Array, None]:
        return op.grad_input(grad, places), None

    return record("max_unpool2d", y, (input, indices), backward)


def _output_size(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, wanted: Sequence[int] | None
) -> Pair:
    default = tuple(
        (n - 1) * s - 2 * p + k
        for n, k, s, p in zip(input.shape[2:], kernel, stride, padding, strict=True)
    )
    if wanted is None:
        size = default
    elif len(wanted) in (2, 4):
        size = tuple(wanted)[-2:]
    else:
        raise ValueError(
            f"max_unpool2d: output_size is {tuple(wanted)}, needs (H', W') or (N, C, H', W')"
        )
    if any(abs(a - b) >= s for a, b, s in zip(size, default, stride, strict=True)):
        raise ValueError(
            f"max_unpool2d: output_size is {size}, needs to be less than a stride {stride} from "
            f"{default}"
        )
    if min(size) < 1 or 0 in input.shape[1:]:
        raise ValueError(
            f"max_unpool2d: the output would be {size[0]}x{size[1]} for the input {input.shape}"
        )
    return size[0], size[1]


def _check_indices(input: Tensor, indices: Tensor, size: Pair) -> Array:
    """The indices, int64. On a GPU, where the error is raised later, wrong ones become 0."""
    if not isinstance(indices, Tensor) or indices.dtype.kind not in "iu":
        found = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
        raise TypeError(f"max_unpool2d: indices is {found}, needs a Tensor of integers")
    if indices.shape != input.shape or indices.device != input.device:
        raise ValueError(
            f"max_unpool2d: indices has shape {indices.shape} on {indices.device}, the input "
            f"{input.shape} on {input.device}"
        )
    area = size[0] * size[1]
    wrong = (indices.data < 0) | (indices.data >= area)

    def fail() -> NoReturn:
        raise ValueError(
            f"max_unpool2d: indices are in {indices.data.min()} ... {indices.data.max()}, the "
            f"output {size[0]}x{size[1]} has the places 0 ... {area - 1}"
        )

    raise_where(wrong, fail)
    known = indices.data if isinstance(wrong, np.ndarray) else indices.data * ~wrong
    return known.astype(np.int64, copy=False)
