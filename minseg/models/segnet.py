"""SegNet: the decoder puts each value back where the encoder's pooling took it from.

Pooling forgets where in its window the maximum stood. SegNet remembers it: one index for each
pooled value. Its decoder, the encoder in a mirror, upsamples without learning anything: each value
returns to that place, all others are 0 (max-unpooling), and convolutions fill the gaps. Borders so
stay sharp, and what is kept for the decoder is an index of 2 bits a value (2x2 windows), where the
U-Net keeps whole maps of features.

Source: Badrinarayanan, Kendall, Cipolla 2017, "SegNet: A Deep Convolutional Encoder-Decoder
        Architecture for Image Segmentation", arXiv:1511.00561, section 3, figures 2 and 3. Names of
        the layers: the authors' Caffe model, "conv5_3_D" being the decoder's mirror of "conv5_3".
"""

from minseg import nn
from minseg.backbones.initial import he
from minseg.backbones.vgg import VGGFeatures
from minseg.tensor import Tensor


class SegNet(VGGFeatures):
    """SegNet on VGG; `SegNet(11)` is the paper's, with the 13 convolutions of VGG16.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the first stage, 64 in the paper.
        depth: layers of the VGG: 11, 13, 16 (the paper) or 19, counting the three that classify,
            which SegNet leaves out: 14.7 M parameters of 134 M remain (section 3).

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W: pooling rounds odd sizes up, and
    unpooling is told the size before (the authors' network for 360x480 needs 45x60 from 23x30).
    Every convolution but the last is followed by batch norm and ReLU.
    Raises ValueError for an unknown depth or a width below 1.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 64, depth: int = 16
    ) -> None:
        super().__init__(in_channels, width, depth, norm="batch")
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        channels = self.channels
        for stage in reversed(range(1, 6)):
            for name in reversed(self.stages[stage - 1]):
                # Channels change where they do in the encoder: at the first convolution of a stage.
                into: nn.Conv2d = getattr(self, f"conv{name}")
                out = num_classes if name == "1_1" else into.in_channels
                self.add_module(f"conv{name}_D", he(nn.Conv2d(channels, out, 3, padding=1)))
                if name != "1_1":
                    self.add_module(f"bn{name}_D", nn.BatchNorm2d(out))
                channels = out

    def forward(self, x: Tensor) -> Tensor:
        pooled: list[tuple[Tensor, tuple[int, ...]]] = []  # the indices, the size before
        for names in self.stages:
            x = self.convolve(x, names)
            size = x.shape[2:]
            x, indices = self.pool(x)
            pooled.append((indices, size))  # x: (N, width * .., ~H / 2^stage, ..)

        for names, (indices, size) in zip(reversed(self.stages), reversed(pooled), strict=True):
            x = self.unpool(x, indices, size)  # twice the size, 3/4 of it zeros
            for name in reversed(names):
                conv, norm = getattr(self, f"conv{name}_D"), getattr(self, f"bn{name}_D", None)
                x = conv(x) if norm is None else nn.in_turn(x, conv, norm, self.relu)
        return x
