"""What is measured: ops at the shapes that the networks use, networks at three sizes of image.

A case is written once, for both engines: `F` is minseg.functional or torch.nn.functional, whose
names and arguments agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OpCase:
    """An op, the shapes of its tensors (drawn from N(0, 1)) and how it is called.

    call(F, *tensors) -> output. The time is that of the output and of all gradients, except those
    of the last `constants` tensors.
    """

    name: str
    shapes: tuple[Shape, ...]
    call: Callable[..., Any]
    constants: int = 0


@dataclass(frozen=True)
class LabelCase(OpCase):
    """An op whose last tensor is a map of labels below `classes`."""

    classes: int = 0


@dataclass(frozen=True)
class ModelCase:
    """A network, as `minseg train` builds it by default, on images (N, 3, H, W)."""

    model: str
    batch: int
    height: int
    width: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.height}x{self.width} batch {self.batch}"


def _conv(name: str, x: Shape, w: Shape, **options: Any) -> OpCase:
    return OpCase(f"conv2d {name}", (x, w), lambda F, x, w: F.conv2d(x, w, **options))


def _unary(name: str, shape: Shape, function: str | None = None, **options: Any) -> OpCase:
    return OpCase(name, (shape,), lambda F, x: getattr(F, function or name)(x, **options))


_MAPS = (8, 64, 60, 80)  # of the first stage of a network 64 wide, at half of 120x160
_DEEP = (8, 256, 15, 20)  # of the last stage of a ResNet with output stride 8
_LOGITS = (8, 11, 120, 160)
_TOKENS = (8, 1200, 64)  # of SegFormer's second stage: (N, H W, C)

OPS: tuple[OpCase, ...] = (
    _conv("3x3, 3 -> 64", (8, 3, 120, 160), (64, 3, 3, 3), padding=1),
    _conv("3x3, 16 -> 16", (8, 16, 120, 160), (16, 16, 3, 3), padding=1),
    _conv("3x3, 64 -> 64", _MAPS, (64, 64, 3, 3), padding=1),
    _conv("3x3, 128 -> 128", (8, 128, 30, 40), (128, 128, 3, 3), padding=1),
    _conv("3x3, 256 -> 256", _DEEP, (256, 256, 3, 3), padding=1),
    _conv("3x3, rate 12", _DEEP, (256, 256, 3, 3), padding=12, dilation=12),
    _conv("3x3, stride 2", _MAPS, (128, 64, 3, 3), padding=1, stride=2),
    _conv("7x7, stride 2", (8, 3, 120, 160), (64, 3, 7, 7), padding=3, stride=2),
    _conv("1x1, 64 -> 256", _MAPS, (256, 64, 1, 1)),
    _conv("1x1, 1280 -> 256", (8, 1280, 15, 20), (256, 1280, 1, 1)),
    _conv("depthwise 3x3", _MAPS, (64, 1, 3, 3), padding=1, groups=64),
    OpCase("conv_transpose2d 2x2", ((8, 128, 30, 40), (128, 64, 2, 2)),
           lambda F, x, w: F.conv_transpose2d(x, w, stride=2)),
    OpCase("conv_transpose2d 16x16", ((8, 11, 15, 20), (11, 11, 16, 16)),
           lambda F, x, w: F.conv_transpose2d(x, w, stride=8, padding=4)),
    OpCase("linear", (_TOKENS, (256, 64), (256,)), lambda F, x, w, b: F.linear(x, w, b)),
    OpCase("matmul", (_TOKENS, (8, 64, 300)), lambda F, x, y: x @ y),
    _unary("max_pool2d", _MAPS, kernel_size=2),
    _unary("avg_pool2d", _MAPS, kernel_size=2),
    _unary("adaptive_avg_pool2d", _DEEP, output_size=(6, 6)),
    _unary("interpolate, bilinear", (8, 64, 30, 40), "interpolate", size=(120, 160),
           mode="bilinear", align_corners=False),
    _unary("interpolate, nearest", (8, 64, 30, 40), "interpolate", scale_factor=2),
    _unary("interpolate, bicubic", (8, 11, 30, 40), "interpolate", scale_factor=4, mode="bicubic"),
    _unary("pixel_shuffle", _MAPS, upscale_factor=2),
    _unary("pad, reflect", _MAPS, "pad", pad=(4, 4, 4, 4), mode="reflect"),
    OpCase("grid_sample", ((8, 16, 60, 80), (8, 60, 80, 2)),
           lambda F, x, grid: F.grid_sample(x, grid, align_corners=False)),
    OpCase("batch_norm", (_MAPS, (64,), (64,)),
           lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    OpCase("group_norm", (_MAPS, (64,), (64,)), lambda F, x, w, b: F.group_norm(x, 32, w, b)),
    _unary("instance_norm", _MAPS),
    OpCase("layer_norm", (_TOKENS, (64,), (64,)), lambda F, x, w, b: F.layer_norm(x, (64,), w, b)),
    _unary("relu", _MAPS),
    _unary("leaky_relu", _MAPS),
    _unary("elu", _MAPS),
    _unary("gelu", (8, 1200, 256)),
    _unary("silu", _MAPS),
    _unary("sigmoid", _MAPS),
    _unary("tanh", _MAPS),
    _unary("hardswish", _MAPS),
    _unary("softmax", _LOGITS, dim=1),
    _unary("log_softmax", _LOGITS, dim=1),
    _unary("dropout", _MAPS, p=0.5),
    OpCase("scaled_dot_product_attention", ((8, 2, 1200, 32), (8, 2, 75, 32), (8, 2, 75, 32)),
           lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v)),
    LabelCase("cross_entropy", (_LOGITS, (8, 120, 160)),
              lambda F, x, labels: F.cross_entropy(x, labels), 1, classes=11),
    OpCase("binary_cross_entropy_with_logits", (_LOGITS, _LOGITS),
           lambda F, x, y: F.binary_cross_entropy_with_logits(x, y * 0 + 0.5), 1),
    OpCase("mse_loss", (_LOGITS, _LOGITS), lambda F, x, y: F.mse_loss(x, y), 1),
    OpCase("add and multiply", (_MAPS, _MAPS), lambda F, x, y: x * y + x),
)  # fmt: skip

NETWORKS = ("unet", "fcn8s", "deeplabv3plus", "segformer_b0")
# Image pooling leaves one value a channel and image, and batch norm cannot train on a single one.
MODELS: tuple[ModelCase, ...] = tuple(
    ModelCase(name, batch, height, width)
    for name in NETWORKS
    for batch, height, width in (
        (8, 64, 64),
        (8, 120, 160),
        (2 if name == "deeplabv3plus" else 1, 360, 480),
    )
)

# At a constant number of pixels in a step: does the step's time depend on the images' size?
GROWTH_PIXELS = 512 * 512  # one image of the largest side
GROWTH_SIDES = (64, 128, 256, 512)
GROWTH_WIDTHS = (8, 16, 32, 64)
