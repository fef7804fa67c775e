"""VGG: nothing but 3x3 convolutions, ReLU and pooling, stacked deep.

Two 3x3 convolutions see as much as a 5x5, three as much as a 7x7, with fewer weights and more
ReLUs between. Five stages, each ended by a pooling that halves the map; then three layers that
classify. The FCN starts from it.

Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", arXiv:1409.1556, table 1: depth 16 is configuration D.
"""

from minseg import nn
from minseg.backbones.initial import he, zero_bias
from minseg.tensor import Tensor

# Table 1: convolutions in each of the five stages, by the number of layers with weights.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGGFeatures(nn.Module):
    """The convolutional part, with Caffe's names: conv1_1, conv1_2, conv2_1, ..., conv5_3.

    Args:
        width: channels of the first stage, 64 in the paper; the stages have 1, 2, 4, 8, 8 times it.
        depth: 11, 13, 16 or 19, the layers with weights, counting the three that classify.
        norm: None as in the paper, or "batch" for batch norm (bn1_1, ...) after each convolution.
        padding: zeros around the image, in conv1_1; all other convolutions keep the size.

    Pooling rounds up, as in Caffe, so that a single pixel is enough.
    Raises ValueError for an unknown depth or norm, or a width below 1.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 16,
        norm: str | None = None,
        padding: int = 1,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"VGG: depth is {depth!r}, needs one of {', '.join(map(str, STAGES))}")
        if norm not in (None, "batch"):
            raise ValueError(f'VGG: norm is {norm!r}, needs None or "batch"')
        if width < 1:
            raise ValueError(f"VGG: width is {width}, needs at least 1")
        self.stages: list[list[str]] = []  # the endings of the names: [["1_1", "1_2"], ...]
        channels = in_channels
        for stage, (count, multiple) in enumerate(zip(STAGES[depth], (1, 2, 4, 8, 8), strict=True)):
            names = [f"{stage + 1}_{i + 1}" for i in range(count)]
            for name in names:
                frame = padding if name == "1_1" else 1
                conv = nn.Conv2d(channels, width * multiple, 3, padding=frame)
                self.add_module(f"conv{name}", he(conv, "fan_out"))
                if norm is not None:
                    self.add_module(f"bn{name}", nn.BatchNorm2d(width * multiple))
                channels = width * multiple
            self.stages.append(names)
        self.channels = channels
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def features(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> what the five poolings give, (N, width, H/2, W/2) ... (.. H/32, W/32)."""
        pooled = []
        for names in self.stages:
            x = self.pool(self.convolve(x, names))
            pooled.append(x)
        return pooled

    def convolve(self, x: Tensor, names: list[str]) -> Tensor:
        """The convolutions of one stage, each with its norm and ReLU; the size stays."""
        for name in names:
            conv, norm = getattr(self, f"conv{name}"), getattr(self, f"bn{name}", None)
            x = nn.in_turn(x, conv, *([] if norm is None else [norm]), self.relu)
        return x


class VGG(VGGFeatures):
    """The classifier: images (N, C, H, W) -> class scores (N, num_classes).

    An image of 224x224 pixels ends as 7x7 features; other sizes are averaged to 7x7. Then fc6, fc7
    and fc8, with 64 * width units between. `minseg.models.fcn.copy_classifier` makes an FCN of it.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 16,
        norm: str | None = None,
    ) -> None:
        super().__init__(in_channels, width, depth, norm)
        self.average = nn.AdaptiveAvgPool2d(7)
        self.fc6 = nn.Linear(self.channels * 7 * 7, 64 * width)
        self.fc7 = nn.Linear(64 * width, 64 * width)
        self.fc8 = nn.Linear(64 * width, num_classes)
        for layer in (self.fc6, self.fc7, self.fc8):
            nn.init.normal_(zero_bias(layer).weight, std=0.01)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.average(self.features(x)[-1]).flatten(1)  # (N, 8 * width * 7 * 7)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)
