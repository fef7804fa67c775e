"""Xception-65, aligned: a ResNet whose 3x3 convolutions are all depthwise separable.

A separable convolution looks around each channel by itself (3x3, depthwise), then mixes the
channels of each pixel (1x1, pointwise): "extreme Inception". The entry flow halves the map four
times; the middle flow repeats one block of 728 channels 16 times; the exit flow ends at 2048.

DeepLabV3+ changes Chollet's network (section 3.2, figure 4): the middle flow is twice as long,
every max-pooling is a strided separable convolution, so that any rate can take the stride's place,
and batch norm follows each depthwise convolution too. The ReLU stands before each separable
convolution, and only in the last block within, as in the authors' published network.

Source: Chollet 2017, "Xception: Deep Learning with Depthwise Separable Convolutions",
        arXiv:1610.02357; Chen et al. 2018, arXiv:1802.02611, figure 4. Names and shapes are those
        of timm's xception65, whose batch norms have eps 1e-3.
"""

from minseg import nn
from minseg.backbones.initial import he
from minseg.tensor import Tensor

EPS = 1e-3
DEPTHS = range(17, 320, 3)  # up to 100 blocks in the middle flow


class ConvBN(nn.Module):
    """k x k convolution without bias, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, k: int, stride: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, k, stride, padding=k // 2, bias=False)
        self.conv = he(conv)
        self.bn = nn.BatchNorm2d(out_channels, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return nn.in_turn(x, self.conv, self.bn)


class SeparableConv(nn.Module):
    """Depthwise 3x3 and batch norm, pointwise 1x1 and batch norm; with `relu`, each then a ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, rate: int, relu: bool
    ) -> None:
        super().__init__()
        depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride, rate, rate, groups=in_channels, bias=False
        )
        self.conv_dw = he(depthwise)
        self.bn_dw = nn.BatchNorm2d(in_channels, EPS)
        self.conv_pw = he(nn.Conv2d(in_channels, out_channels, 1, bias=False))
        self.bn_pw = nn.BatchNorm2d(out_channels, EPS)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = nn.in_turn(x, self.conv_dw, self.bn_dw, self.relu)
        return nn.in_turn(x, self.conv_pw, self.bn_pw, self.relu)


class Block(nn.Module):
    """Three separable convolutions, the last with the stride, and a shortcut around them.

    Without `residual`, the exit flow's last: no shortcut, and each ReLU after its convolution.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, int, int],
        stride: int = 1,
        rate: int = 1,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.relu = nn.ReLU()
        a, b, c = channels
        same = stride == 1 and in_channels == c
        self.shortcut = ConvBN(in_channels, c, 1, stride) if residual and not same else None
        self.stack = nn.ModuleDict(
            {
                "conv1": SeparableConv(in_channels, a, 1, rate, not residual),
                "conv2": SeparableConv(a, b, 1, rate, not residual),
                "conv3": SeparableConv(b, c, stride, rate, not residual),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out, and what the last convolution saw: the finest map before the stride."""
        y = x
        for conv in self.stack.values():
            before = self.relu(y) if self.residual else y
            y = conv(before)
        if self.residual:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return y, before


class Xception(nn.Module):
    """The convolutional part of the aligned Xception.

    Args:
        depth: layers with weights on the longest way: 17 and 3 for each block of the middle flow;
            65 (16 blocks) in the paper, 41 with 8 blocks, 20 with one.
        width: channels that the stem ends with, 64 in the paper; the others are 32, 128, 256, 728,
            1024, 1536 and 2048 times width / 64.
        output_stride: 32, or 16 or 8 for strides that the rate of all later convolutions replaces.

    Shapes: (N, C, H, W) -> a list of four maps, (N, channels[i], H / s, W / s) rounded up: those
    that the strided convolutions of the second to fourth block saw, s = 4, 8, 16, and the last,
    s = 32; none is above `output_stride`.
    Raises ValueError for another depth or output stride, or a width below 1.
    """

    def __init__(
        self, depth: int = 65, in_channels: int = 3, width: int = 64, output_stride: int = 32
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(
                f"Xception: depth is {depth!r}, needs 17 and 3 for each block of the middle flow: "
                f"65 in the paper, 41, 20; {DEPTHS[-1]} at most"
            )
        if output_stride not in (8, 16, 32):
            raise ValueError(f"Xception: output_stride is {output_stride!r}, needs 8, 16 or 32")
        if width < 1:
            raise ValueError(f"Xception: width is {width}, needs at least 1")

        def scaled(channels: int) -> int:
            return max(channels * width // 64, 1)

        self.relu = nn.ReLU()
        self.stem = nn.ModuleList(
            [ConvBN(in_channels, scaled(32), 3, 2), ConvBN(scaled(32), width, 3, 1)]
        )
        middle = [((728, 728, 728), 1)] * ((depth - 17) // 3)
        entry = [((128, 128, 128), 2), ((256, 256, 256), 2), ((728, 728, 728), 2)]
        leave = [((728, 1024, 1024), 2), ((1536, 1536, 2048), 1)]
        blocks = []
        channels, total_stride, rate = width, 2, 1
        self.strided: list[int] = []  # the blocks that would stride
        for i, (wide, stride) in enumerate([*entry, *middle, *leave]):
            a, b, c = map(scaled, wide)
            block_rate = rate
            if stride == 2:
                self.strided.append(i)
                if total_stride == output_stride:
                    stride, rate = 1, 2 * rate
            total_stride *= stride
            last = wide[-1] == 2048
            blocks.append(Block(channels, (a, b, c), stride, block_rate, residual=not last))
            channels = c
        self.blocks = nn.ModuleList(blocks)
        self.channels = [scaled(256), scaled(728), scaled(1024), scaled(2048)]

    def forward(self, x: Tensor) -> list[Tensor]:
        for conv in self.stem:
            x = self.relu(conv(x))  # (N, 64, H/2, W/2)
        maps = []
        for i, block in enumerate(self.blocks):
            x, before = block(x)
            if i in self.strided[1:]:
                maps.append(before)
        return [*maps, x]
