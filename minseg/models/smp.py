"""Networks in the form of segmentation_models.pytorch, for weights that were trained there.

Each differs from its paper, and from this package's network of the same name, in details that its
docstring lists. `minseg.models.build(name, backbone="resnet18")` makes them, `minseg.hub.adapt`
translates the names of their weights.

Reference: Iakubovskii, "Segmentation Models PyTorch", 2019,
        github.com/qubvel-org/segmentation_models.pytorch
"""

import minseg.functional as F
from minseg import nn
from minseg.backbones.initial import he
from minseg.backbones.mobilenet import MobileNetV2
from minseg.backbones.resnet import ResNet, depth_of
from minseg.backbones.xception import Xception
from minseg.joining import cat
from minseg.models.deeplabv3 import ASPP, ConvBNReLU, SeparableConvBNReLU
from minseg.models.deeplabv3plus import Backbone, EncoderDecoder, low_channels
from minseg.models.fpn import FeaturePyramid, SemanticBranch
from minseg.models.pspnet import BINS, region_pooling
from minseg.models.resize import resize
from minseg.models.unet import double_conv
from minseg.models.unetplusplus import fit, nest
from minseg.tensor import Tensor


class ResNetNode(nn.Module):
    """X[i, j] with nearest upsampling, and its inputs concatenated in the reverse order."""

    def __init__(self, below: int, left: int, channels: int) -> None:
        super().__init__()
        self.convs = double_conv(below + left, channels, "same", "batch")

    def forward(self, left: list[Tensor], below: Tensor) -> Tensor:
        up = F.interpolate(below, scale_factor=2.0, mode="nearest")
        return self.convs(cat([fit(up, left[0]), *reversed(left)], dim=1))


class UNetPlusPlusSMP(nn.Module):
    """U-Net++ whose first column is a ResNet, in the form of segmentation_models.pytorch.

    The levels have the strides 2, 4, 8, 16, 32; X[0, 4] is upsampled once more. The last node of a
    row is narrower than the others. No deep supervision.

    Args:
        backbone: "resnet18", "resnet34", "resnet50" or "resnet101".
        width: channels of the ResNet's first stage, 64 in the reference.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W: where the reference refuses sizes
    that are no multiples of 32, maps are rounded up and cropped.
    Raises ValueError for an unknown backbone or a width below 1.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, backbone: str = "resnet18", width: int = 64
    ) -> None:
        super().__init__()
        self.encoder = ResNet(depth_of(backbone), in_channels, width)
        column = [width, *self.encoder.channels]
        channels = {(i, 0): c for i, c in enumerate(column)}
        nodes = {}
        for j in range(1, 5):
            for i in range(5 - j):
                # The last of each row has 256, 128, 64, 32 channels, from the bottom up.
                channels[i, j] = column[i] if i + j < 4 else max(width * 2**i // 2, 1)
                below, left = channels[i + 1, j - 1], j * column[i]
                nodes[f"x_{i}_{j}"] = ResNetNode(below, left, channels[i, j])
        self.nodes = nn.ModuleDict(nodes)
        last = max(width // 4, 1)
        self.last = double_conv(channels[0, 4], last, "same", "batch")
        self.head = nn.Conv2d(last, num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        grid = nest(self.encoder.pyramid(x), self.nodes)
        up = F.interpolate(grid[0, 4], scale_factor=2.0, mode="nearest")  # (N, 32, ~H, ~W)
        return self.head(self.last(fit(up, x)))


class PSPNetSMP(nn.Module):
    """PSPNet in the form of segmentation_models.pytorch.

    It stops after the ResNet's second stage, whose map has stride 8 anyway. The first bin has a
    bias and no batch norm, so that one image is enough to train on; a 1x1 joins, and a 3x3 gives
    the classes. Interpolation aligns the corners.

    Args:
        backbone: "resnet18", "resnet34", "resnet50" or "resnet101".
        width: channels of the ResNet's first stage, 64 in the reference.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W: where the reference refuses sizes
    that are no multiples of 8, maps are rounded up, and the last upsampling ends at the image's.
    Raises ValueError for an unknown backbone or a width below 1.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, backbone: str = "resnet18", width: int = 64
    ) -> None:
        super().__init__()
        self.encoder = ResNet(depth_of(backbone), in_channels, width, stages=2)
        channels, joined = self.encoder.channels[-1], 8 * width
        quarter = max(channels // 4, 1)
        whole = [nn.AdaptiveAvgPool2d(1), he(nn.Conv2d(channels, quarter, 1)), nn.ReLU()]
        self.pools = nn.ModuleList(
            [
                nn.Sequential(*whole),
                *(region_pooling(channels, quarter, bins) for bins in BINS[1:]),
            ]
        )
        self.project = nn.Sequential(
            *ConvBNReLU(channels + len(BINS) * quarter, joined), nn.Dropout2d(0.2)
        )
        self.head = nn.Conv2d(joined, num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.encoder(x)  # (N, 128, H/8, W/8) of a ResNet-18
        context = [resize(pool(last), last, align_corners=True) for pool in self.pools]
        features = self.project(cat([*context, last], dim=1))  # (N, 256, ..) -> (N, 512, H/8, W/8)
        return resize(self.head(features), x, align_corners=True)


class FPNSMP(nn.Module):
    """FPN in the form of segmentation_models.pytorch.

    The sums of the pyramid are not smoothed, the head has dropout, and interpolation aligns the
    corners.

    Args:
        backbone: "resnet18", "resnet34", "resnet50" or "resnet101".
        width: channels of the ResNet's first stage, 64 in the reference.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W: where the reference refuses sizes
    that are no multiples of 32, each upsampling ends at the size of the next finer map.
    Raises ValueError for an unknown backbone or a width below 1.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, backbone: str = "resnet18", width: int = 64
    ) -> None:
        super().__init__()
        self.encoder = ResNet(depth_of(backbone), in_channels, width)
        self.fpn = FeaturePyramid(self.encoder.channels, 4 * width, smooth=False)
        self.branch = SemanticBranch(4 * width, 2 * width, levels=4, align_corners=True)
        self.dropout = nn.Dropout2d(0.2)
        self.head = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        pyramid = self.fpn(self.encoder(x))  # (N, 256, H/4, W/4) ... (N, 256, H/32, W/32)
        features = self.dropout(self.branch(pyramid))  # (N, 128, H/4, W/4)
        return resize(self.head(features), x, align_corners=True)


def deeplabv3plus_smp(
    num_classes: int,
    in_channels: int = 3,
    backbone: str = "resnet18",
    width: int = 64,
    output_stride: int = 16,
) -> EncoderDecoder:
    """DeepLabV3+ in the form of segmentation_models.pytorch.

    ASPP and decoder are separable on any backbone, with one convolution after ASPP and one in the
    decoder; the rates of ASPP are 12, 24, 36 at either output stride, the ResNets have no
    multi-grid, and interpolation aligns the corners. Sizes that the reference refuses, no multiples
    of the output stride, are rounded up on the way, as in all networks here.

    Args:
        backbone: "resnet18", "resnet34", "resnet50", "resnet101", "xception65", "mobilenet_v2".
        width: 64 in the reference; a ResNet's first stage has as many channels, and all others, of
            any backbone, follow.
        output_stride: 16 or 8.

    Raises ValueError for an unknown backbone or output stride, or a width below 1.
    """
    encoder = _encoder(backbone, in_channels, width, output_stride)
    channels, low = 4 * width, low_channels(4 * width)
    return EncoderDecoder(
        encoder,
        nn.Sequential(
            ASPP(encoder.channels[3], (12, 24, 36), channels, separable=True),
            *SeparableConvBNReLU(channels, channels, 3),
        ),
        nn.Conv2d(channels, num_classes, 1),
        ConvBNReLU(encoder.channels[0], low),
        SeparableConvBNReLU(channels + low, channels, 3),
        align_corners=True,
    )


def _encoder(backbone: str, in_channels: int, width: int, output_stride: int) -> Backbone:
    if output_stride not in (8, 16):
        raise ValueError(f"deeplabv3plus: output_stride is {output_stride!r}, needs 8 or 16")
    if backbone == "xception65":
        return Xception(65, in_channels, width, output_stride)
    if backbone == "mobilenet_v2":
        return MobileNetV2(in_channels, (width + 1) // 2, output_stride)
    depth = depth_of(backbone, "xception65", "mobilenet_v2")
    return ResNet(depth, in_channels, width, output_stride, dilate_first=True)
