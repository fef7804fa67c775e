"""DeepLab, the second: objects come in all sizes, so look with several rates, at several scales.

Two answers to one question. ASPP, "atrous spatial pyramid pooling" (section 3.2, figure 4): four
3x3 convolutions with rates 6, 12, 18, 24 lie on the last map, each gives class scores as if it were
the only one, and the scores are *added*. Multi-scale inputs (section 4.1.2): the network sees the
image at 0.5, 0.75 and 1 times its size; of the three scores of a class at a place, the largest
counts. The backbone, now a ResNet-101, keeps stride 8 by holes in the filters of its last stages.

After that comes the CRF of version 1: `minseg predict --crf`.

Source: Chen, Papandreou, Kokkinos, Murphy, Yuille 2018, "DeepLab: Semantic Image Segmentation with
        Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs", arXiv:1606.00915.
"""

from collections.abc import Sequence

import minseg.functional as F
from minseg import nn
from minseg.backbones.resnet import ResNet
from minseg.models.deeplabv1 import scores
from minseg.models.resize import resize
from minseg.tensor import Tensor


class ASPPSum(nn.ModuleList):
    """3x3 convolutions to class scores, one a rate, summed: (N, C, h, w) -> (N, K, h, w)."""

    def __init__(self, in_channels: int, num_classes: int, rates: Sequence[int]) -> None:
        super().__init__(scores(in_channels, num_classes, 3, rate) for rate in rates)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (conv(x) for conv in self)
        return sum(others, start=first)


class DeepLabV2(nn.Module):
    """DeepLabV2: an atrous ResNet, and ASPP as a sum.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the ResNet's first stage, 64 in the paper.
        depth: layers of the ResNet: 18, 34, 50 or 101 (the paper).
        rates: of the convolutions of ASPP. The paper's small variant has 2, 4, 8, 12.
        scales: further sizes at which the image is seen, in training and prediction; (0.5, 0.75) in
            the paper's multi-scale networks, at 1.8 times the work.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W.
    Raises ValueError for an unknown depth, a width below 1, a scale that is not above 0.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 101,
        rates: Sequence[int] = (6, 12, 18, 24),
        scales: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if not all(scale > 0 for scale in scales):
            raise ValueError(f"DeepLabV2: scales are {tuple(scales)}, need to be above 0")
        self.backbone = ResNet(depth, in_channels, width, output_stride=8, dilate_first=True)
        self.aspp = ASPPSum(self.backbone.channels[3], num_classes, rates)
        self.scales = tuple(scales)

    def forward(self, x: Tensor) -> Tensor:
        score = self.coarse(x)  # (N, K, H/8, W/8)
        for scale in self.scales:
            size = [max(1, int(side * scale)) for side in x.shape[2:]]
            scaled = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            other = resize(self.coarse(scaled), like=score)
            score = score.where(score >= other, other)
        return resize(score, like=x)

    def coarse(self, x: Tensor) -> Tensor:
        """The class scores of one scale, (N, C, H, W) -> (N, K, H/8, W/8)."""
        *_, last = self.backbone(x)
        return self.aspp(last)
