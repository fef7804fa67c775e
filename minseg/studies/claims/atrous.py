"""Atrous convolution against pooling, at an equal field of view."""

from functools import partial

import minseg.functional as F
from minseg import Tensor, nn
from minseg.data import Street
from minseg.models.deeplabv3 import ConvBNReLU
from minseg.studies.study import Study
from minseg.studies.training import fit, score, street


class Stack(nn.Module):
    """Three stages of two 3x3 convolutions with a 3x3 pooling between, and a 1x1 to the classes.

    Each pooling halves the map; or, `atrous`, it keeps the map, and all that follows has its taps
    twice as far apart. Weights, and the field of view of a score, are the same.
    """

    def __init__(self, num_classes: int, atrous: bool, width: int = 12) -> None:
        super().__init__()
        self.atrous = atrous
        stages = []
        channels = 3
        for stage in range(3):
            rate = 2**stage if atrous else 1
            first = ConvBNReLU(channels, width * 2**stage, 3, rate)
            channels = width * 2**stage
            stages.append(nn.Sequential(first, ConvBNReLU(channels, channels, 3, rate)))
        self.stages = nn.ModuleList(stages)
        self.pools = nn.ModuleList(
            nn.MaxPool2d(3, stride=1, padding=2**i, dilation=2**i)
            if atrous
            else nn.MaxPool2d(3, stride=2, padding=1)
            for i in range(2)
        )
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.stages
        y = first(x)
        for pool, stage in zip(self.pools, others, strict=True):
            y = stage(pool(y))
        return F.interpolate(self.head(y), size=x.shape[2:], mode="bilinear", align_corners=False)


def train(atrous: bool, seed: int, steps: int) -> float:
    model = Stack(len(Street.classes), atrous)
    fit(model, street("train", seed, 160, (48, 64)), seed, steps)
    return score(model, street("val", seed, 160, (48, 64))).confusion.mean_iou()


STUDY = Study(
    name="atrous",
    claim="Holes see as far as pooling does, and keep the map's resolution",
    source="Chen et al. 2016, arXiv:1606.00915 (DeepLab v2), section 3.1, figure 2",
    setting="drawn streets, 48x64; six 3x3 convolutions, the same weights and field of view",
    measure="mean IoU",
    trainings={"pooling": partial(train, False), "atrous": partial(train, True)},
    expect=(("atrous", "pooling"),),
    steps=80,
)
