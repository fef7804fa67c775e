"""Unpooling to remembered places against bilinear upsampling, in the same network."""

from functools import partial

import minseg.functional as F
from minseg import Tensor, nn
from minseg.models import SegNet
from minseg.studies.study import Study
from minseg.studies.training import boundary_iou, camvid, fit


class Bilinear(nn.Module):
    """In the place of max-unpooling: the places are not looked at."""

    def forward(self, x: Tensor, indices: Tensor, size: tuple[int, ...]) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def train(bilinear: bool, seed: int, steps: int) -> float:
    model = SegNet(11, width=8, depth=11)
    if bilinear:
        model.add_module("unpool", Bilinear())
    fit(model, camvid("train"), seed, steps)
    return boundary_iou(model, camvid("val"))


STUDY = Study(
    name="unpooling",
    claim="Values put back to where the maxima stood give sharper borders than interpolation",
    source="Badrinarayanan, Kendall, Cipolla 2017, arXiv:1511.00561, section 3.2, table 1",
    setting="CamVid at 120x160; SegNet on VGG11 of width 8, the same weights in both",
    measure="mean boundary IoU",
    trainings={"indices": partial(train, False), "bilinear": partial(train, True)},
    expect=(("indices", "bilinear"),),
    steps=160,
)
