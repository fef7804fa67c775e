"""ResNet: each block adds a correction to its input, so that gradients reach the first layer.

Four stages of blocks follow a 7x7 convolution and a pooling; the maps they give have strides 4, 8,
16 and 32. For segmentation, stride 32 is too coarse: the last stages can instead keep the size of
the map and spread the taps of their convolutions (dilation, "atrous"), which leaves their weights,
and what each sees, as they were.

Source: He et al. 2016, "Deep Residual Learning", arXiv:1512.03385, table 1. The stride of a
        bottleneck is at its 3x3 convolution, as in torchvision, whose names and shapes these are.
        Dilation: Chen et al. 2017, "Rethinking Atrous Convolution", arXiv:1706.05587, section 3.1.
"""

from collections.abc import Sequence

from minseg import nn
from minseg.backbones.initial import he
from minseg.tensor import Tensor


def conv(in_channels: int, out_channels: int, k: int, stride: int = 1, rate: int = 1) -> nn.Conv2d:
    """A k x k convolution without bias (batch norm follows) that keeps the size at stride 1."""
    layer = nn.Conv2d(
        in_channels, out_channels, k, stride, padding=rate * (k // 2), dilation=rate, bias=False
    )
    return he(layer, "fan_out")


class BasicBlock(nn.Module):
    """relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))): ResNet-18 and 34.

    rates: the dilations of the two 3x3. In the first block of a stage that dilates instead of
    striding, the first 3x3 may keep the rate of the stage before; the second has the stage's own.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int, rates: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 3, stride, rates[0])
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3, rate=rates[1])
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.in_turn(x, self.conv1, self.bn1, self.relu)
        y = nn.in_turn(y, self.conv2, self.bn2)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """The same with 1x1 to fewer channels, 3x3, and 1x1 to four times as many: ResNet-50 and up.

    rates: the first is the dilation of the 3x3, the second, BasicBlock's, is not used.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int, rates: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3, stride, rates[0])
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv(channels, 4 * channels, 1)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU()
        self.downsample = shortcut(in_channels, 4 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.in_turn(x, self.conv1, self.bn1, self.relu)
        y = nn.in_turn(y, self.conv2, self.bn2, self.relu)
        y = nn.in_turn(y, self.conv3, self.bn3)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution that gives x the shape of its correction; None where it has it already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


# Table 1: the block, and how many of it in each stage.
Block = type[BasicBlock] | type[Bottleneck]
STAGES: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def depth_of(backbone: str, *others: str) -> int:
    """18 of "resnet18". Raises ValueError for a name that is none of the ResNets'.

    others: names that could have been given as well, for the message.
    """
    names = {f"resnet{depth}": depth for depth in STAGES}
    if backbone not in names:
        raise ValueError(f"backbone is {backbone!r}, needs one of {', '.join([*names, *others])}")
    return names[backbone]


class ResNet(nn.Module):
    """The convolutional part of ResNet-18, 34, 50 or 101.

    Args:
        depth: 18, 34, 50 or 101, the layers with weights, counting one that classifies.
        width: channels of the first stage, 64 in the paper; the stages have 1, 2, 4, 8 times it,
            and four times that where blocks are bottlenecks (`channels` lists what comes out).
        output_stride: 32, or 16 or 8 for one or two last stages that dilate instead of striding.
        multi_grid: rates of the last stage's blocks, in units of the stage's own rate; (1, 2, 4) in
            DeepLabV3, whose 3 blocks at output stride 16 so get the rates 2, 4, 8.
        dilate_first: whether the block that would have strided has its stage's rate already, as in
            DeepLabV2 and segmentation_models.pytorch, or still that of the stage before, as in
            torchvision.
        stages: how many of the four stages there are.

    Shapes: (N, C, H, W) -> a list of a map a stage, (N, channels[i], H / s, W / s) rounded up, with
    the strides s = 4, 8, 16, 32, of which none is above `output_stride`.
    Raises ValueError for another depth, output stride or number of stages, a width below 1, or a
    multi-grid that does not fit the last stage.
    """

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        width: int = 64,
        output_stride: int = 32,
        multi_grid: Sequence[int] | None = None,
        dilate_first: bool = False,
        stages: int = 4,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(
                f"ResNet: depth is {depth!r}, needs one of {', '.join(map(str, STAGES))}"
            )
        if output_stride not in (8, 16, 32):
            raise ValueError(f"ResNet: output_stride is {output_stride!r}, needs 8, 16 or 32")
        if width < 1:
            raise ValueError(f"ResNet: width is {width}, needs at least 1")
        if not 1 <= stages <= 4:
            raise ValueError(f"ResNet: stages is {stages}, needs 1 to 4")
        block, counts = STAGES[depth]
        if multi_grid is not None and (len(multi_grid) != counts[-1] or min(multi_grid) < 1):
            raise ValueError(
                f"ResNet: multi_grid is {tuple(multi_grid)}, needs {counts[-1]} rates for the "
                f"blocks of the last stage of ResNet-{depth}"
            )
        self.conv1 = conv(in_channels, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.channels: list[int] = []
        channels, total_stride, rate = width, 4, 1
        for stage, count in enumerate(counts[:stages]):
            stride, rate_before = (1 if stage == 0 else 2), rate
            if total_stride * stride > output_stride:
                stride, rate = 1, rate * stride
            total_stride *= stride
            rates = [rate if dilate_first else rate_before] + [rate] * (count - 1)
            if multi_grid is not None and stage == 3:
                rates = [rate * unit for unit in multi_grid]
            blocks = []
            for i, first in enumerate(rates):
                both = (first, max(first, rate))
                blocks.append(block(channels, width * 2**stage, stride if i == 0 else 1, both))
                channels = width * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            self.channels.append(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.pyramid(x)[1:]

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The same maps after that of the first convolution, (N, width, H/2, W/2)."""
        x = nn.in_turn(x, self.conv1, self.bn1, self.relu)
        maps = [x]
        x = self.maxpool(x)  # (N, width, H/4, W/4)
        for stage in range(1, len(self.channels) + 1):
            x = getattr(self, f"layer{stage}")(x)
            maps.append(x)
        return maps
