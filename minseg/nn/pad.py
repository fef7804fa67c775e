"""Layers that put a frame around the image: `padding` is one width, or left, right, top, bottom."""

from collections.abc import Sequence

import minseg.functional as F
from minseg.nn.module import Module
from minseg.tensor import Tensor

Widths = int | Sequence[int]


class _Pad2d(Module):
    """What the layers have in common: the mode of F.pad, the widths, and the constant's value."""

    mode: str

    def __init__(self, padding: Widths) -> None:
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, Sequence) else (padding,) * 4
        if len(self.padding) != 4:
            raise ValueError(f"{type(self).__name__}: padding is {padding!r}, needs 1 or 4 numbers")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)


class ZeroPad2d(_Pad2d):
    """Zeros around the image."""

    mode = "constant"


class ConstantPad2d(_Pad2d):
    """`value` around the image."""

    def __init__(self, padding: Widths, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)


class ReflectionPad2d(_Pad2d):
    """The image mirrored at its edge pixels, which are not repeated."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """The nearest pixel of the image."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """The image's opposite side, as if it were tiled."""

    mode = "circular"
