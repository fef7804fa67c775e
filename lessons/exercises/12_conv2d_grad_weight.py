"""Convolution, the gradient of its weights

Given grad = dL/dy, how does the loss change with one weight? A weight is used for every output of
its channel, in every image, each time with another pixel. All of these uses add up:

    grad_w[o, k, i, j] = sum over n, r, c of
        grad[n, o, r, c] * x[n, k, r * stride - padding + i, c * stride - padding + j]

where x is 0 outside of the image.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.op import get_op


def conv2d_grad_weight(
    grad: np.ndarray,
    x: np.ndarray,
    kernel_size: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
) -> np.ndarray:
    """The formula above.

    grad (N, O, H', W'), x (N, C, H, W), kernel_size (kh, kw) -> grad_w (O, C, kh, kw), of x's dtype
    """
    kh, kw = kernel_size
    H_out, W_out = grad.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    grad_w = np.empty((grad.shape[1], x.shape[1], kh, kw), x.dtype)
    for i, j in np.ndindex(kh, kw):
        under = x[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
        grad_w[:, :, i, j] = np.einsum("norc,nkrc->ok", grad, under)
    return grad_w


def right(grad, x, kernel_size, stride=1, padding=0):
    shape = (grad.shape[1], x.shape[1], *kernel_size)
    how = [(n, n) for n in (stride, padding, 1)]
    return get_op("conv2d").numpy["grad_weight"](grad, x, shape, *how, 1)


def without_stride(grad, x, kernel_size, stride=1, padding=0):
    """Reads only the corner of the image that gives as many outputs at stride 1."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = (n + k - 1 for n, k in zip(grad.shape[2:], kernel_size, strict=True))
    return right(grad, x[:, :, :height, :width], kernel_size)


def in_op(conv2d_grad_weight, grad, x, w_shape, stride, padding, dilation, groups):
    """Pairs become numbers, and groups come one after the other. The gradient of a kernel with
    dilation d is every d-th row and column of a larger kernel's."""
    if any(rows != cols for rows, cols in (stride, padding, dilation)):
        return NotImplemented
    d = dilation[0]
    size = (d * (w_shape[2] - 1) + 1, d * (w_shape[3] - 1) + 1)
    each = zip(np.split(grad, groups, axis=1), np.split(x, groups, axis=1), strict=True)
    parts = [conv2d_grad_weight(*one, size, stride[0], padding[0]) for one in each]
    return np.concatenate(parts)[:, :, ::d, ::d]


rng = np.random.default_rng(3)


def case(name, x, out, kernel_size, stride=1, padding=0):
    size = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x[2:], kernel_size, strict=True)]
    grad = rng.integers(-3, 4, (x[0], out, *size)).astype(float)
    x = rng.integers(-3, 4, x).astype(float)
    how = {"stride": stride, "padding": padding}
    return Case(name, {"grad": grad, "x": x, "kernel_size": kernel_size, **how})


TASK = Task(
    outputs=("grad_w",),
    reference=right,
    use=Use("conv2d", "grad_weight", in_op, lesson="14"),
    terms=100,
    cases=(
        case("one channel", (1, 1, 3, 4), 1, (2, 2)),
        case("two images", (2, 1, 3, 3), 1, (2, 2)),
        case("two channels in, three out", (1, 2, 3, 4), 3, (3, 2)),
        case("stride 2", (1, 1, 5, 6), 1, (2, 2), stride=2),
        case("padding 1", (1, 1, 3, 4), 1, (3, 3), padding=1),
        case("stride 2, padding 1, two images", (2, 2, 4, 5), 2, (3, 2), stride=2, padding=1),
    ),
    edge_cases=(case("a kernel as large as the image", (2, 1, 2, 3), 1, (2, 3)),),
    hints=(
        "Write the forward pass for a single weight: it multiplies a shifted image. Its gradient is"
        " the sum, over all outputs, of grad times that shifted image.",
        "Pad first. Weight (i, j) meets the padded image at rows i, i + stride, i + 2 stride, ...: "
        "as many as grad has rows.",
        "under = x[:, :, i : i + stride*H_out : stride, j : ...], then "
        'grad_w[:, :, i, j] = np.einsum("norc,nkrc->ok", grad, under).',
    ),
    slips=(
        Slip("flipped kernel", "The result is turned by 180 degrees: weight (i, j) meets the pixel "
             "i rows down and j columns right.",
             lambda **given: right(**given)[:, :, ::-1, ::-1]),
        Slip("averaged over the images", "The mean over the images is taken; take the sum. "
             "Whatever mean the loss takes is in grad already.",
             lambda **given: right(**given) / len(given["x"])),
        Slip("averaged over the outputs", "The mean over the outputs is taken; take the sum.",
             lambda **given: right(**given) / given["grad"][0, 0].size),
        Slip("only the first image", "Only the first image counts; the sum runs over n, too.",
             lambda grad, x, **how: right(grad[:1], x[:1], **how)),
        Slip("only the last image", "Only the last image counts: `=` where `+=` is needed?",
             lambda grad, x, **how: right(grad[-1:], x[-1:], **how)),
        Slip("channels swapped", "Output and input channels have changed places: the shape is (O, "
             "C, kh, kw).",
             lambda **given: right(**given).swapaxes(0, 1)),
        Slip("forgot the stride", "The shifted image is read without its stride.",
             without_stride),
        Slip("padding after the image only", "All padding is below and right of the image.",
             lambda grad, x, kernel_size, stride=1, padding=0: right(
                 grad, np.pad(x, ((0, 0), (0, 0), (0, 2 * padding), (0, 2 * padding))),
                 kernel_size, stride)),
    ),
    mutants=(
        Mutant("flipped kernel", "grad_w[:, :, i, j]", "grad_w[:, :, kh - 1 - i, kw - 1 - j]"),
        Mutant("averaged over the images", "return grad_w", "return grad_w / x.shape[0]"),
        Mutant("averaged over the outputs", "return grad_w", "return grad_w / grad[0, 0].size"),
        Mutant("only the first image", '"norc,nkrc->ok", grad, under', '"orc,krc->ok", grad[0], '
               "under[0]"),
        Mutant("channels swapped", "return grad_w", "return grad_w.swapaxes(0, 1)"),
        Mutant("forgot the stride", "i : i + stride * H_out : stride, j : j + stride * W_out : "
               "stride", "i : i + H_out, j : j + W_out"),
        Mutant("padding after the image only", "(padding, padding), (padding, padding)",
               "(0, 2 * padding), (0, 2 * padding)"),
        Mutant("sign", "return grad_w", "return -grad_w"),
    ),
)  # fmt: skip
