"""MobileNetV2: depthwise convolutions between a 1x1 that widens and a 1x1 that narrows.

A ResNet's bottleneck narrows, convolves, widens. This one is inverted: the maps between blocks,
which the shortcuts join, are narrow; inside, six times as many channels are filtered each by
itself (3x3, depthwise), which is cheap. No ReLU follows the 1x1 that narrows: on so few channels
it would destroy what they carry (section 3.2). ReLU6, min(max(x, 0), 6), survives 8-bit arithmetic.

Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
        arXiv:1801.04381, tables 1 and 2. Names and shapes are torchvision's. Dilation as in
        segmentation_models.pytorch: all convolutions of a stage that does not stride any more.
"""

from minseg import nn
from minseg.backbones.initial import he
from minseg.tensor import Tensor

# Table 2: expansion, channels, how many blocks, stride of the first.
SETTINGS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvBNReLU6(nn.Sequential):
    """k x k convolution, batch norm, ReLU6."""

    def __init__(
        self, in_channels: int, out_channels: int, k: int,
        stride: int = 1, rate: int = 1, groups: int = 1,
    ) -> None:  # fmt: skip
        padding = rate * (k // 2)
        conv = nn.Conv2d(in_channels, out_channels, k, stride, padding, rate, groups, bias=False)
        super().__init__(he(conv), nn.BatchNorm2d(out_channels), nn.ReLU6())


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, depthwise 3x3, 1x1 to `out_channels` (table 1)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, rate: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.shortcut = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *([ConvBNReLU6(in_channels, hidden, 1)] if expansion > 1 else []),
            ConvBNReLU6(hidden, hidden, 3, stride, rate, groups=hidden),
            he(nn.Conv2d(hidden, out_channels, 1, bias=False)),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """The convolutional part of MobileNetV2.

    Args:
        width: channels of the first convolution, 32 in the paper; all others in proportion.
        output_stride: 32, or 16 or 8 for one or two last stages that dilate instead of striding.

    Shapes: (N, C, H, W) -> a list of four maps, (N, channels[i], H / s, W / s) rounded up, with
    24, 32, 96 and 1280 channels at width 32 and the strides s = 4, 8, 16, 32, of which none is
    above `output_stride`.
    Raises ValueError for another output stride or a width below 1.
    """

    def __init__(self, in_channels: int = 3, width: int = 32, output_stride: int = 32) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"MobileNetV2: output_stride is {output_stride!r}, needs 8, 16 or 32")
        if width < 1:
            raise ValueError(f"MobileNetV2: width is {width}, needs at least 1")

        def scaled(channels: int) -> int:
            return max(channels * width // 32, 1)

        features: list[nn.Module] = [ConvBNReLU6(in_channels, width, 3, stride=2)]
        channels, total_stride = width, 2
        ends: dict[int, tuple[int, int]] = {}  # stride -> the last layer that has it, its channels
        for expansion, wide, count, stride in SETTINGS:
            total_stride *= stride  # what it would be without dilation
            rate = max(total_stride // output_stride, 1)
            for i in range(count):
                step = stride if i == 0 and rate == 1 else 1
                features.append(InvertedResidual(channels, scaled(wide), step, rate, expansion))
                channels = scaled(wide)
            ends[total_stride] = (len(features) - 1, channels)
        features.append(ConvBNReLU6(channels, scaled(1280), 1))
        ends[32] = (len(features) - 1, scaled(1280))
        self.features = nn.Sequential(*features)
        self.ends = [ends[stride][0] for stride in (4, 8, 16, 32)]
        self.channels = [ends[stride][1] for stride in (4, 8, 16, 32)]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                maps.append(x)
        return maps
