"""Layers that mix neighbouring pixels with learnt weights."""

import math
from collections.abc import Sequence

import numpy as np

import minseg.functional as F
from minseg.nn import init
from minseg.nn.module import Module, Parameter
from minseg.ops.checks import check_tensor, pair
from minseg.tensor import Tensor

Size = int | Sequence[int]


def default_init(weight: Parameter, bias: Parameter | None) -> None:
    """Both uniform within 1 / sqrt(fan_in): PyTorch's default for linear and convolution layers."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))  # gain sqrt(1/3), so that the bound is as said
    if bias is not None:
        bound = 1 / math.sqrt(init.fans(weight)[0])
        init.uniform_(bias, -bound, bound)


def empty(*shape: int) -> Parameter:
    """A parameter that an initialiser is going to fill."""
    return Parameter(np.empty(shape, np.float32))


def check_groups(layer: str, in_channels: int, out_channels: int, groups: int) -> None:
    numbers = (in_channels, out_channels, groups)
    if not all(isinstance(n, int | np.integer) for n in numbers):
        raise TypeError(f"{layer}: in_channels, out_channels, groups are {numbers}, need ints")
    if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{layer}: groups is {groups}, needs to divide in_channels {in_channels} and "
            f"out_channels {out_channels}, all at least 1"
        )


class Conv2d(Module):
    """2-D convolution: (N, in_channels, H, W) -> (N, out_channels, H', W').

    weight (out_channels, in_channels / groups, kh, kw), bias (out_channels,). `padding` may be
    "same" or "valid"; `padding_mode` is "zeros", "reflect", "replicate" or "circular".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        check_groups("Conv2d", in_channels, out_channels, groups)
        modes = ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(f"Conv2d: padding_mode is {padding_mode!r}, needs one of {modes}")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f'Conv2d: padding is {padding!r}, needs "same", "valid" or numbers')
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, least=1)
        self.stride = pair("Conv2d", "stride", stride, least=1)
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f'Conv2d: padding="same" needs stride 1, got {self.stride}')
        self.padding = (
            padding if isinstance(padding, str) else pair("Conv2d", "padding", padding, least=0)
        )
        self.dilation = pair("Conv2d", "dilation", dilation, least=1)
        self.groups, self.padding_mode = groups, padding_mode
        self.weight = empty(out_channels, in_channels // groups, *self.kernel_size)
        self.bias = empty(out_channels) if bias else None
        default_init(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        padding: Size | str = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._border(), self.padding_mode), 0
        return F.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _border(self) -> list[int]:
        """`padding` as [left, right, top, bottom]; an odd "same" has more right, below."""
        if self.padding == "valid":
            return [0, 0, 0, 0]
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
        rows, cols = pair("Conv2d", "padding", self.padding, least=0)  # type: ignore[arg-type]
        return [cols, cols, rows, rows]


class ConvTranspose2d(Module):
    """Transposed convolution, the adjoint of a Conv2d: it enlarges by `stride`.

    weight (in_channels, out_channels / groups, kh, kw), bias (out_channels,).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        name = "ConvTranspose2d"
        if padding_mode != "zeros":
            raise ValueError(f'{name}: padding_mode is {padding_mode!r}, needs "zeros"')
        check_groups(name, in_channels, out_channels, groups)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair(name, "kernel_size", kernel_size, least=1)
        self.stride = pair(name, "stride", stride, least=1)
        self.padding = pair(name, "padding", padding, least=0)
        self.output_padding = pair(name, "output_padding", output_padding, least=0)
        self.dilation = pair(name, "dilation", dilation, least=1)
        self.groups = groups
        self.weight = empty(in_channels, out_channels // groups, *self.kernel_size)
        self.bias = empty(out_channels) if bias else None
        default_init(self.weight, self.bias)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """`output_size`, (.., H', W'), picks among the sizes that a Conv2d maps to the input's.

        Raises ValueError for a size that is none of these.
        """
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding(input, output_size)
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
        )

    def _output_padding(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, int]:
        if not isinstance(output_size, Sequence) or len(output_size) not in (2, 4):
            raise ValueError(f"ConvTranspose2d: output_size is {output_size!r}, needs (H', W')")
        check_tensor("ConvTranspose2d", "input", input, ndim=4)
        size, wanted = input.shape[2:], tuple(output_size)[-2:]
        window = zip(self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, (s, p, d, k) in zip(size, window, strict=True)
        ]
        extra = [w - n for w, n in zip(wanted, least, strict=True)]
        if not all(0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
            raise ValueError(f"ConvTranspose2d: output_size is {wanted}, needs {least} to {most}")
        return extra[0], extra[1]
