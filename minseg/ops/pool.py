"""What the pooling ops share: their arguments, and where their windows are."""

from collections.abc import Sequence

import numpy as np

from minseg.ops.checks import Pair, check_tensor, pair
from minseg.ops.window import Window
from minseg.tensor import Tensor


def check_window(
    op: str,
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    ceil_mode: bool,
) -> Window:
    """The arguments of a pooling op as a Window. Raises ValueError or TypeError for bad ones."""
    check_tensor(op, "input", input, ndim=4)
    kernel = pair(op, "kernel_size", kernel_size, least=1)
    no_stride = stride is None or (isinstance(stride, Sequence) and not stride)
    window = Window(
        kernel,
        kernel if no_stride else pair(op, "stride", stride, least=1),  # type: ignore[arg-type]
        pair(op, "padding", padding, least=0),
        pair(op, "dilation", dilation, least=1),
    )
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, window.dilation, strict=True))
    if any(2 * p > r for p, r in zip(window.padding, reach, strict=True)):
        raise ValueError(
            f"{op}: padding is {window.padding}, needs at most half of the kernel's extent {reach}"
        )
    if 0 in input.shape[1:]:
        raise ValueError(f"{op}: input has shape {input.shape}, only N may be 0")
    if min(number_of_windows(window, input.shape[2:], ceil_mode)) < 1:
        raise ValueError(
            f"{op}: no window fits: kernel {kernel}, dilation {window.dilation}, on the input "
            f"{input.shape[2]}x{input.shape[3]}, padding {window.padding}"
        )
    return window


def number_of_windows(window: Window, size: Pair, ceil_mode: bool) -> Pair:
    """Windows along each axis; `ceil_mode` adds one that hangs over the end, if it starts inside.

    The left padding counts as inside, the right padding does not.
    """
    if not ceil_mode:
        return window.output_size(*size)
    hanging = (s - 1 for s in window.stride)
    h_out, w_out = window.output_size(*(n + more for n, more in zip(size, hanging, strict=True)))
    height, width = (n + p for n, p in zip(size, window.padding, strict=True))
    return (
        h_out - ((h_out - 1) * window.stride[0] >= height),
        w_out - ((w_out - 1) * window.stride[1] >= width),
    )


def starts(count: int, stride: int, padding: int) -> np.ndarray:
    """The first place, padding counted as negative, of each window along an axis."""
    return np.arange(count) * stride - padding
