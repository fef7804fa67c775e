"""DeepLabV3+'s decoder against DeepLabV3's plain upsampling, at borders."""

from collections.abc import Callable
from functools import partial

from minseg import nn
from minseg.models import DeepLabV3, DeepLabV3Plus
from minseg.studies.study import Study
from minseg.studies.training import boundary_iou, camvid, fit


def train(network: Callable[..., nn.Module], seed: int, steps: int) -> float:
    model = network(11, width=12, depth=18)
    fit(model, camvid("train"), seed, steps)
    return boundary_iou(model, camvid("val"))


STUDY = Study(
    name="decoder",
    claim="A decoder that joins the first stage's map makes borders sharper",
    source="Chen et al. 2018, arXiv:1802.02611 (DeepLab v3+), section 4.4, figure 5",
    setting="CamVid at 120x160; ResNet-18 of width 12, output stride 16",
    measure="mean boundary IoU",
    trainings={"V3": partial(train, DeepLabV3), "V3+": partial(train, DeepLabV3Plus)},
    expect=(("V3+", "V3"),),
    steps=120,
)
