"""DeepLab, the first: a classifier's filters are spread apart instead of its map being shrunk.

VGG16 answers once for 32 pixels. Leave out its last two subsamplings and it answers once for 8; but
its filters then see too little, unless their taps are moved apart by as much: "atrous" convolution,
"with holes" (figure 1). Weights stay what they were. Scores at stride 8 are so smooth that bilinear
upsampling will do (section 3.1); no upsampling is learnt, and there are no skips. What is still
missing are sharp borders, which a fully connected CRF finds (section 4.2): `minseg.crf`, or
`minseg predict --crf`.

LargeFOV (section 5, table 2): fc6 is a 3x3 convolution with rate 12 in the place of the
classifier's 7x7. It sees as far, at a sixth of the parameters: 20.5 M in all, in place of 134.3 M.

Source: Chen, Papandreou, Kokkinos, Murphy, Yuille 2015, "Semantic Image Segmentation with Deep
        Convolutional Nets and Fully Connected CRFs", arXiv:1412.7062. Poolings of 3x3 and an
        average pooling before fc6: the authors' Caffe model, whose names the layers have.
"""

from minseg import nn
from minseg.backbones.initial import he, zero_bias
from minseg.backbones.vgg import VGGFeatures
from minseg.models.resize import resize
from minseg.tensor import Tensor


class DeepLabV1(VGGFeatures):
    """DeepLab-LargeFOV on VGG, of output stride 8.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the first stage, 64 in the paper; fc6 and fc7 have 16 * width.
        depth: layers of the VGG: 11, 13, 16 (the paper) or 19.
        norm: None as in the paper, or "batch": batch norm after the convolutions of the VGG.
        dropout: rate after fc6 and fc7.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W.
    Raises ValueError for an unknown depth or norm, or a width below 1.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 16,
        norm: str | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels, width, depth, norm)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.pool_in_place = nn.MaxPool2d(3, stride=1, padding=1)
        self.average = nn.AvgPool2d(3, stride=1, padding=1)
        for name in self.stages[4]:  # pool4 does not halve, so these would see half as far
            spread(getattr(self, f"conv{name}"), 2)

        hidden = 16 * width  # 1024
        self.fc6 = he(nn.Conv2d(self.channels, hidden, 3, padding=12, dilation=12))
        self.fc7 = he(nn.Conv2d(hidden, hidden, kernel_size=1))
        self.dropout = nn.Dropout(dropout)
        self.fc8 = scores(hidden, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for stage, names in enumerate(self.stages):
            h = self.convolve(h, names)
            h = self.pool(h) if stage < 3 else self.pool_in_place(h)  # (N, 512, H/8, W/8)
        h = self.average(h)
        h = self.dropout(self.relu(self.fc6(h)))  # (N, 1024, H/8, W/8)
        h = self.dropout(self.relu(self.fc7(h)))
        return resize(self.fc8(h), like=x)


def spread(conv: nn.Conv2d, rate: int) -> None:
    """Put holes into a 3x3 convolution: its taps `rate` pixels apart, the map's size kept."""
    conv.dilation = conv.padding = (rate, rate)


def scores(in_channels: int, num_classes: int, kernel_size: int, rate: int = 1) -> nn.Conv2d:
    """A convolution to class scores that keeps the size; weights N(0, 0.01)."""
    padding = rate * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, num_classes, kernel_size, padding=padding, dilation=rate)
    nn.init.normal_(conv.weight, std=0.01)
    return zero_bias(conv)
