"""PSPNet: what the whole scene is, and each part of it, laid beside every pixel.

A boat on a river looks like a car to a network that sees the boat alone (figure 2). The pyramid
pooling module gives it the scene: the last map is averaged over the whole image, and over each of
2x2, 3x3 and 6x6 regions; the averages, each reduced to a quarter of the channels and upsampled,
stand beside the map itself, and a convolution joins them (figure 3). DeepLabV3's image pooling is
the first of the four.

The backbone is dilated, and an auxiliary head on its third stage, whose loss weighs 0.4, gives
training a shorter way to the early layers (section 4, figure 4); prediction ignores it.

Source: Zhao, Shi, Qi, Wang, Jia 2017, "Pyramid Scene Parsing Network", arXiv:1612.01105.
"""

from minseg import nn
from minseg.backbones.resnet import ResNet
from minseg.joining import cat
from minseg.models.deeplabv3 import ConvBNReLU
from minseg.models.fcn_resnet import FCNHead, ResNetSegmenter
from minseg.models.resize import resize
from minseg.tensor import Tensor

BINS = (1, 2, 3, 6)  # regions a side (section 3.2)


def region_pooling(in_channels: int, out_channels: int, bins: int) -> nn.Sequential:
    """Averages over bins x bins regions, then a 1x1: (N, C, h, w) -> (N, C', bins, bins)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(bins), *ConvBNReLU(in_channels, out_channels))


class PyramidPooling(nn.Module):
    """The map and its averages at four scales: (N, C, h, w) -> (N, 2 C, h, w), figure 3 (c).

    The single region of bin 1 gives batch norm one value a channel and image: training needs a
    batch of at least 2.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels + len(BINS) * (in_channels // 4)
        self.pools = nn.ModuleList(
            region_pooling(in_channels, in_channels // 4, bins) for bins in BINS
        )

    def forward(self, x: Tensor) -> Tensor:
        return cat([x, *(resize(pool(x), like=x) for pool in self.pools)], dim=1)


class PSPNet(ResNetSegmenter):
    """PSPNet as in its paper: dilated ResNet, pyramid pooling, 3x3 to 512, 1x1 to the classes.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the ResNet's first stage, 64 in the paper.
        depth: layers of the ResNet: 18, 34, 50 (the paper's ablations) or 101.
        output_stride: 8 as in the paper, or 16: of the map that is pooled.
        aux_loss: whether there is the auxiliary head, `aux_classifier`, whose logits are "aux".

    Shapes: (N, C, H, W) -> {"out": (N, K, H, W)}, and "aux" of the same shape with the auxiliary
    head, for any H and W: where the map has fewer pixels than regions, regions share them. Training
    needs N >= 2.
    Raises ValueError for an unknown depth or output stride, or a width below 1.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 50,
        output_stride: int = 8,
        aux_loss: bool = True,
    ) -> None:
        backbone = ResNet(depth, in_channels, width, output_stride)
        third, last = backbone.channels[2:]  # 1024, 2048
        pooling = PyramidPooling(last)
        classifier = nn.Sequential(
            pooling,  # (N, 4096, H/8, W/8)
            *ConvBNReLU(pooling.out_channels, last // 4, 3),  # (N, 512, H/8, W/8)
            nn.Dropout(0.1),
            nn.Conv2d(last // 4, num_classes, 1),
        )
        super().__init__(backbone, classifier, FCNHead(third, num_classes) if aux_loss else None)
