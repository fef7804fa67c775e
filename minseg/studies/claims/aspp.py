"""ASPP against one rate, and against an image pyramid when predicting."""

from functools import partial

import numpy as np

import minseg.functional as F
from minseg import Tensor, nn
from minseg.data import Dataset
from minseg.models import DeepLabV2
from minseg.models.resize import resize
from minseg.studies.study import Study
from minseg.studies.training import camvid, fit, score

SCALES = (0.75, 1.0, 1.25)
SEVERAL, ONE = (1, 2, 4, 6), (3, 3, 3, 3)


class Pyramid(nn.Module):
    """A trained network that looks at the image in three sizes, and averages what it sees."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for scale in SCALES:
            size = [round(side * scale) for side in x.shape[2:]]
            scaled = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            seen.append(resize(F.softmax(self.model(scaled), dim=1), like=x))
        return sum(seen[1:], seen[0]) / len(seen)


def train(name: str, rates: tuple[int, ...], seed: int, steps: int) -> dict[str, float]:
    model = DeepLabV2(11, width=8, depth=18, rates=rates)
    fit(model, camvid("train"), seed, steps)
    validation: Dataset = camvid("val")
    return {
        arm: float(np.mean(score(network, validation).confusion.mean_iou()))
        for arm, network in ((name, model), (f"{name} + pyramid", Pyramid(model)))
    }


STUDY = Study(
    name="aspp",
    claim="Several rates side by side see objects of several sizes: better than one rate, and than "
    "one rate with an image pyramid",
    source="Chen et al. 2016, arXiv:1606.00915 (DeepLab v2), section 3.2; Chen et al. 2017, "
    "arXiv:1706.05587, section 2",
    setting="CamVid at 120x160; atrous ResNet-18 of width 8, four branches of rates 1, 2, 4, 6, or "
    "all of rate 3: the same weights",
    measure="mean IoU",
    trainings={
        "one rate": partial(train, "one rate", ONE),
        "ASPP": partial(train, "ASPP", SEVERAL),
    },
    expect=(("ASPP", "one rate"), ("ASPP", "one rate + pyramid"), ("ASPP + pyramid", "ASPP")),
    steps=120,
)
