"""DeepLabV3: see wide without losing resolution.

Atrous convolution reads every r-th pixel: a 3x3 kernel with rate r sees 2r + 1 pixels a side for
the price of 3x3, on a map that was never shrunk. V3 looks at the last map with several rates at
once and with an average over the whole image (ASPP, "atrous spatial pyramid pooling").

Source: Chen, Papandreou, Schroff, Adam 2017, "Rethinking Atrous Convolution for Semantic Image
        Segmentation", arXiv:1706.05587, section 3 and figure 5. `deeplabv3_resnet50` and
        `deeplabv3_resnet101` are torchvision's form, with its parameter names and shapes.
"""

from collections.abc import Sequence

from minseg import nn
from minseg.backbones.initial import he
from minseg.backbones.resnet import STAGES, ResNet
from minseg.joining import cat
from minseg.models.fcn_resnet import FCNHead, ResNetSegmenter
from minseg.models.resize import resize
from minseg.tensor import Tensor


class ConvBNReLU(nn.Sequential):
    """k x k convolution that keeps the size, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, k: int = 1, rate: int = 1) -> None:
        padding = rate * (k // 2)
        super().__init__(
            he(nn.Conv2d(in_channels, out_channels, k, 1, padding, rate, bias=False)),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


class SeparableConvBNReLU(nn.Sequential):
    """The same in two steps: each channel by itself (depthwise), then a 1x1 across them.

    It has about a k^2-th of the weights (figure 3 of V3+, arXiv:1802.02611, section 3.1).
    """

    def __init__(self, in_channels: int, out_channels: int, k: int, rate: int = 1) -> None:
        padding = rate * (k // 2)
        depthwise = nn.Conv2d(
            in_channels, in_channels, k, 1, padding, rate, groups=in_channels, bias=False
        )
        pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(depthwise.weight, nonlinearity="linear")  # no ReLU between
        super().__init__(
            nn.Sequential(depthwise, he(pointwise)), nn.BatchNorm2d(out_channels), nn.ReLU()
        )


class ImagePooling(nn.Sequential):
    """The average over the image, as a feature of every pixel: (N, C, h, w) -> (N, C', h, w).

    Its batch norm has one value a channel and image: training needs a batch of at least 2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *ConvBNReLU(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return resize(super().forward(x), like=x)


class ASPP(nn.Module):
    """A 1x1, three atrous 3x3 convolutions and image pooling, side by side, then joined by a 1x1.

    Shapes: (N, C, h, w) -> (N, channels, h, w). Section 3.3, figure 5. `separable` ones are V3+'s.
    """

    def __init__(
        self, in_channels: int, rates: Sequence[int], channels: int, separable: bool = False
    ) -> None:
        super().__init__()
        conv = SeparableConvBNReLU if separable else ConvBNReLU
        self.convs = nn.ModuleList(
            [
                ConvBNReLU(in_channels, channels),
                *(conv(in_channels, channels, 3, rate) for rate in rates),
                ImagePooling(in_channels, channels),
            ]
        )
        self.project = nn.Sequential(
            *ConvBNReLU(len(self.convs) * channels, channels), nn.Dropout(0.5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.project(cat([branch(x) for branch in self.convs], dim=1))


def atrous_resnet(
    depth: int, in_channels: int, width: int, output_stride: int, multi_grid: bool
) -> ResNet:
    """The papers' backbone: the last stage's three blocks have rates 1, 2, 4 times its own."""
    count = STAGES[depth][1][-1] if depth in STAGES else 3  # ResNet refuses other depths
    grid = (1, 2, 4)[:count] if multi_grid else None
    return ResNet(depth, in_channels, width, output_stride, grid)


def aspp_rates(output_stride: int) -> tuple[int, ...]:
    """6, 12, 18 at output stride 16; doubled at 8, to see as much of the image (section 3.3)."""
    return tuple(rate * 16 // output_stride for rate in (6, 12, 18))


class DeepLabV3(nn.Module):
    """DeepLabV3 as in its paper: ResNet, ASPP, 1x1 to the classes, bilinear upsampling.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the ResNet's first stage, 64 in the paper; ASPP has 4 * width.
        depth: layers of the ResNet: 18, 34, 50 or 101.
        output_stride: 16 or 8: of the map that ASPP sees; 8 is finer and costs three times as much.
        multi_grid: whether the last stage's blocks have rates 1, 2, 4 times its own (section 3.2).

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W; training needs N >= 2.
    Raises ValueError for an unknown depth or output stride.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 101,
        output_stride: int = 16,
        multi_grid: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = atrous_resnet(depth, in_channels, width, output_stride, multi_grid)
        self.aspp = ASPP(self.backbone.channels[3], aspp_rates(output_stride), 4 * width)
        self.head = nn.Conv2d(4 * width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        *_, last = self.backbone(x)  # (N, 2048, H/16, W/16)
        features = self.aspp(last)  # (N, 256, H/16, W/16)
        return resize(self.head(features), like=x)


def deeplabv3_resnet50(
    num_classes: int = 21,
    in_channels: int = 3,
    aux_loss: bool = False,
    width: int = 64,
    depth: int = 50,
) -> ResNetSegmenter:
    """DeepLabV3 on a ResNet-50 of output stride 8, in torchvision's form; returns a dict.

    It differs from the paper: a 3x3 convolution after ASPP, no multi-grid, an auxiliary head if
    `aux_loss`. The arguments are those of `fcn_resnet50`.
    """
    backbone = ResNet(depth, in_channels, width, output_stride=8)
    classifier = nn.Sequential(
        ASPP(backbone.channels[3], aspp_rates(8), 4 * width),
        *ConvBNReLU(4 * width, 4 * width, 3),
        nn.Conv2d(4 * width, num_classes, 1),
    )
    aux = FCNHead(backbone.channels[2], num_classes) if aux_loss else None
    return ResNetSegmenter(backbone, classifier, aux)


def deeplabv3_resnet101(
    num_classes: int = 21, in_channels: int = 3, aux_loss: bool = False, width: int = 64
) -> ResNetSegmenter:
    """`deeplabv3_resnet50` on a ResNet-101."""
    return deeplabv3_resnet50(num_classes, in_channels, aux_loss, width, depth=101)
