"""DeepLabV3+: after DeepLabV3 has seen wide, a small decoder finds the borders again.

DeepLabV3 upsamples its last map by 16 or 8 at once. V3+ does it in two steps: the result of ASPP,
upsampled by 4, is laid beside the map of the first stage, of stride 4, which knows where borders
are; two 3x3 convolutions join them, and the rest is upsampling by 4 (figure 2).

Its other half is atrous *separable* convolution (section 3.1, figure 3): each channel is filtered
by itself, with any rate, then a 1x1 mixes them. The Xception is made of it; in ASPP and decoder it
saves a third of all the work and more, at the same accuracy (table 5).

Source: Chen, Zhu, Papandreou, Schroff, Adam 2018, "Encoder-Decoder with Atrous Separable
        Convolution for Semantic Image Segmentation", arXiv:1802.02611.
"""

from minseg import nn
from minseg.backbones.mobilenet import MobileNetV2
from minseg.backbones.resnet import ResNet
from minseg.backbones.xception import Xception
from minseg.joining import cat
from minseg.models.deeplabv3 import ASPP, ConvBNReLU, SeparableConvBNReLU, aspp_rates, atrous_resnet
from minseg.models.resize import resize
from minseg.tensor import Tensor

Backbone = ResNet | Xception | MobileNetV2


class EncoderDecoder(nn.Module):
    """Figure 2: a backbone, ASPP on its last map, and the decoder.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W: each upsampling ends at the size
    of what it meets. Training needs N >= 2 (ASPP's image pooling).
    """

    def __init__(
        self,
        backbone: Backbone,
        aspp: nn.Module,
        head: nn.Module,
        low_level: nn.Module,
        refine: nn.Module,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.aspp, self.head = backbone, aspp, head
        self.low_level, self.refine = low_level, refine
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        first, _, _, last = self.backbone(x)  # (N, 256, H/4, W/4), (N, 2048, H/16, W/16)
        coarse = resize(self.aspp(last), first, self.align_corners)  # (N, 256, H/4, W/4)
        fine = self.low_level(first)  # (N, 48, H/4, W/4)
        joined = self.refine(cat([coarse, fine], dim=1))  # (N, 304, ..) -> (N, 256, H/4, W/4)
        return resize(self.head(joined), x, self.align_corners)


def low_channels(channels: int) -> int:
    """48 of 256: so that the first map does not outweigh what ASPP found (section 4.1, table 1)."""
    return max(48 * channels // 256, 1)


class DeepLabV3Plus(EncoderDecoder):
    """DeepLabV3+ on a ResNet; arguments and shapes are DeepLabV3's.

    All convolutions are plain ones, as in the paper's ResNet experiments (table 2).
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
        backbone = atrous_resnet(depth, in_channels, width, output_stride, multi_grid)
        channels, low = 4 * width, low_channels(4 * width)
        super().__init__(
            backbone,
            ASPP(backbone.channels[3], aspp_rates(output_stride), channels),
            nn.Conv2d(channels, num_classes, 1),
            ConvBNReLU(backbone.channels[0], low),
            nn.Sequential(
                ConvBNReLU(channels + low, channels, 3), ConvBNReLU(channels, channels, 3)
            ),
        )


def deeplabv3plus_xception65(
    num_classes: int,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 65,
    output_stride: int = 16,
) -> EncoderDecoder:
    """The paper's best: Xception-65, and separable convolutions in ASPP and decoder (section 4.3).

    Args:
        width: channels that the Xception's stem ends with, 64 in the paper; all others follow.
        depth: layers of the Xception, 17 and 3 for each block of its middle flow: 65, 41, 20.
        output_stride: 16 or 8: of the map that ASPP sees.

    Raises ValueError for another depth or output stride, or a width below 1.
    """
    backbone = Xception(depth, in_channels, width, output_stride)
    return _separable(backbone, num_classes, 4 * width, output_stride)


def deeplabv3plus_mobilenet_v2(
    num_classes: int, in_channels: int = 3, width: int = 32, output_stride: int = 16
) -> EncoderDecoder:
    """The same on MobileNetV2, whose first convolution has `width` channels: for small machines."""
    backbone = MobileNetV2(in_channels, width, output_stride)
    return _separable(backbone, num_classes, 8 * width, output_stride)


def _separable(
    backbone: Backbone, num_classes: int, channels: int, output_stride: int
) -> EncoderDecoder:
    low = low_channels(channels)
    return EncoderDecoder(
        backbone,
        ASPP(backbone.channels[3], aspp_rates(output_stride), channels, separable=True),
        nn.Conv2d(channels, num_classes, 1),
        ConvBNReLU(backbone.channels[0], low),
        nn.Sequential(
            SeparableConvBNReLU(channels + low, channels, 3),
            SeparableConvBNReLU(channels, channels, 3),
        ),
    )
