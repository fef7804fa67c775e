"""FPN: a pyramid whose every level is semantically strong, and a light head that reads them all.

A ResNet is a pyramid already, but its fine maps know little. FPN hands what the coarse maps know
down, level by level: upsampled by 2 (nearest) and added to the next finer map, which a 1x1
convolution has brought to the same channels (figure 3). It is the U-Net's way back up with addition
in place of concatenation, as light as it can be, and it gives a map a level: detectors look for
large things in P5 and small ones in P2.

For segmentation, the head of "Panoptic FPN" brings every level to stride 4 in steps of (3x3
convolution, group norm, ReLU, upsampling by 2) and adds them up (figure 3 there).

Source: Lin et al. 2017, "Feature Pyramid Networks for Object Detection", arXiv:1612.03144, section
        3. Head: Kirillov, Girshick, He, Dollar 2019, "Panoptic Feature Pyramid Networks",
        arXiv:1901.02446, section 3.
"""

import math
from collections.abc import Sequence

import minseg.functional as F
from minseg import nn
from minseg.backbones.initial import he, zero_bias
from minseg.backbones.resnet import ResNet
from minseg.models.resize import resize
from minseg.tensor import Tensor


class FeaturePyramid(nn.Module):
    """C2, ..., C5 -> P2, ..., P5: maps of the same sizes, all with `channels` channels.

    `smooth`: whether each sum goes through a 3x3 convolution, against what nearest upsampling
    leaves (section 3). No ReLU anywhere, as in the paper.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, smooth: bool = True) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(linear(c, channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(linear(channels, channels, 3) for _ in in_channels if smooth)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        pyramid = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(len(pyramid) - 1)):
            finer = pyramid[level]
            above = F.interpolate(pyramid[level + 1], size=finer.shape[2:], mode="nearest")
            pyramid[level] = finer + above
        if not len(self.smooth):
            return pyramid
        return [smooth(x) for smooth, x in zip(self.smooth, pyramid, strict=True)]


class SemanticBranch(nn.Module):
    """P2, ..., P5 -> (N, channels, H/4, W/4): each level brought to the first one's size, summed.

    Level k is upsampled k times, after a convolution each time; the first level, which needs none,
    has one convolution. Figure 3 of Kirillov et al.
    """

    def __init__(self, in_channels: int, channels: int, levels: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ConvGNReLU(in_channels if i == 0 else channels, channels)
                for i in range(max(level, 1))
            )
            for level in range(levels)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        at_quarter = []
        for level, convs in enumerate(self.levels):
            x = pyramid[level]
            for i, conv in enumerate(convs.children(), start=1):
                x = conv(x)
                if level > 0:
                    x = resize(x, pyramid[level - i], self.align_corners)
            at_quarter.append(x)
        return sum(at_quarter[1:], at_quarter[0])


class ConvGNReLU(nn.Sequential):
    """3x3 convolution, group norm, ReLU; a group has 4 channels, as 128 in 32 groups have."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        groups = out_channels // math.gcd(out_channels, 4)
        super().__init__(
            he(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)),
            nn.GroupNorm(groups, out_channels),
            nn.ReLU(),
        )


def linear(in_channels: int, out_channels: int, k: int) -> nn.Conv2d:
    """A k x k convolution that keeps the size; no ReLU follows: variance 1 / fan_in."""
    conv = nn.Conv2d(in_channels, out_channels, k, padding=k // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    return zero_bias(conv)


class FPN(nn.Module):
    """FPN with the semantic head of Panoptic FPN.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the ResNet's first stage, 64 in the papers; the pyramid has 4 * width,
            the head 2 * width.
        depth: layers of the ResNet: 18, 34, 50 or 101.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W: the ResNet rounds sizes up, and
    each upsampling ends at the size of the next finer map.
    Raises ValueError for an unknown depth or a width below 1.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 64, depth: int = 50
    ) -> None:
        super().__init__()
        self.backbone = ResNet(depth, in_channels, width)
        self.fpn = FeaturePyramid(self.backbone.channels, 4 * width)
        self.branch = SemanticBranch(4 * width, 2 * width, levels=4, align_corners=False)
        self.head = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        pyramid = self.fpn(self.backbone(x))  # (N, 256, H/4, W/4) ... (N, 256, H/32, W/32)
        features = self.branch(pyramid)  # (N, 128, H/4, W/4)
        return resize(self.head(features), like=x)
