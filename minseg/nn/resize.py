"""Layers without weights that change an image's size or a tensor's shape."""

from collections.abc import Sequence
from typing import Any

import minseg.functional as F
from minseg.nn.module import Module
from minseg.tensor import Tensor


class Upsample(Module):
    """Resizes to `size`, or by `scale_factor`; the modes are those of F.interpolate."""

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )


class PixelShuffle(Module):
    """(N, C r^2, H, W) -> (N, C, H r, W r): r^2 channels become a block of pixels."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)


class ZeroPad2d(Module):
    """Zeros around the image: `padding` is (left, right, top, bottom), or one number for all."""

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 4:
            raise ValueError(f"ZeroPad2d: padding is {padding!r}, needs one or four numbers")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding)


class Flatten(Module):
    """Joins the axes start_dim to end_dim into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)


class Identity(Module):
    """Returns its input; it takes, and ignores, the arguments of the layer whose place it has."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input
