"""Two ways to label pixels that come to mind first, and what is wrong with them.

PatchClassifier: to know what a pixel is, cut out the window around it and classify that. It works,
and won the first contest for neuronal membranes in 2012. But the windows of two neighbours share
all but one column, and each is computed anew: a pixel of the paper's network costs 121 million
multiply-adds, a 512x512 image 3 * 10^13. And the window is a compromise: a larger one sees more
context, costs more, and pools away where its centre is.

PlainCNN: convolutions that keep the size, one after the other. Nothing is computed twice. But each
3x3 layer sees only one pixel further: 32 of them see 65 pixels a side, as many as ten do with two
poolings between; and all of them work, and keep their maps for the gradient, at full resolution.
Every other network here is an answer to these two.

Source: Ciresan, Giusti, Gambardella, Schmidhuber 2012, "Deep Neural Networks Segment Neuronal
        Membranes in Electron Microscopy Images", NIPS, section 2 and table 1 (its network N4).
"""

import minseg.functional as F
from minseg import nn
from minseg.backbones.initial import he
from minseg.joining import cat
from minseg.models.images import check_images
from minseg.tensor import Tensor

KERNELS = (4, 5, 4, 4)  # of N4: side 95 -> 92 -> 46 -> 42 -> 21 -> 18 -> 9 -> 6 -> 3
MOST_LAYERS = 1000  # of PlainCNN: a logit then sees 2001 pixels a side


class PatchClassifier(nn.Module):
    """A classifier of windows, slid over the image; `PatchClassifier(2, in_channels=1)` is N4.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: maps of every convolution, 48 in the paper; the hidden layer has 200 units for 48.
        depth: how many pairs of convolution and pooling, 1 to 4 (the paper); the windows have 9,
            23, 47 or 95 pixels a side.
        stride: how far the window moves. Above 1, the scores between its places are interpolated:
            stride^2 times less work, for coarser labels.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W; the border is repeated outwards.
    Raises ValueError for a depth that is not 1 to 4, a width or stride below 1, and a stride above
    the window's side.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 48,
        depth: int = 4,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if not 1 <= depth <= len(KERNELS) or width < 1 or stride < 1:
            raise ValueError(
                f"PatchClassifier: depth {depth}, width {width}, stride {stride}: needs a depth of "
                f"1 to {len(KERNELS)}, a width and a stride of at least 1"
            )
        layers: list[nn.Module] = []
        channels, side = in_channels, 3
        for k in KERNELS[:depth]:
            layers += [he(nn.Conv2d(channels, width, k)), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        for k in reversed(KERNELS[:depth]):
            side = 2 * side + k - 1
        if stride > side:
            raise ValueError(
                f"PatchClassifier: stride {stride} leaves out pixels: windows are {side}"
            )
        self.side, self.stride, self.num_classes = side, stride, num_classes
        hidden = max(200 * width // 48, 1)
        self.classify = nn.Sequential(
            *layers,
            nn.Flatten(),
            he(nn.Linear(width * 3 * 3, hidden)),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images("PatchClassifier", x)
        n, channels, *size = x.shape
        rows, columns = (-(-side // self.stride) for side in size)  # how many windows
        x = F.pad(x, [*self.frame(size[1], columns), *self.frame(size[0], rows)], "replicate")
        scores = []
        for row in range(0, rows * self.stride, self.stride):
            strip = x[:, :, row : row + self.side]
            windows = F.unfold(strip, self.side, stride=self.stride)  # (N, C side^2, columns)
            windows = windows.transpose(1, 2).reshape(-1, channels, self.side, self.side)
            score = self.classify(windows)  # (N columns, K)
            scores.append(score.reshape(n, 1, columns, self.num_classes))
        return self.to_size(cat(scores, dim=1).permute(0, 3, 1, 2), size)

    def frame(self, length: int, count: int) -> tuple[int, int]:
        """How many pixels to add before and after, so that the window finds its `count` places.

        A place stands for `stride` pixels; the window's centre is on the middle one.
        """
        before = self.side // 2 - (self.stride - 1) // 2
        return before, (count - 1) * self.stride + self.side - before - length

    def to_size(self, scores: Tensor, size: list[int]) -> Tensor:
        """(N, K, rows, columns), a place for `stride` pixels each, -> (N, K, H, W)."""
        if self.stride == 1:
            return scores
        whole = [side * self.stride for side in scores.shape[2:]]
        scores = F.interpolate(scores, size=whole, mode="bilinear", align_corners=False)
        return scores[:, :, : size[0], : size[1]]


class PlainCNN(nn.Module):
    """3x3 convolutions that keep the size, and a 1x1 to the classes.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of every layer.
        depth: how many 3x3 convolutions: a logit sees 2 depth + 1 pixels a side.
        norm: None, or "batch": batch norm after each convolution.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W.
    Raises ValueError for a width below 1, a depth that is not 1 to 1000, or an unknown norm.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 8,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or not 1 <= depth <= MOST_LAYERS:
            raise ValueError(
                f"PlainCNN: width {width}, depth {depth}: needs a width of at least 1 and a depth "
                f"of 1 to {MOST_LAYERS}"
            )
        if norm not in (None, "batch"):
            raise ValueError(f'PlainCNN: norm is {norm!r}, needs None or "batch"')
        layers: list[nn.Module] = []
        for channels in [in_channels, *[width] * (depth - 1)]:
            layers.append(he(nn.Conv2d(channels, width, 3, padding=1)))
            layers += [nn.ReLU()] if norm is None else [nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))
