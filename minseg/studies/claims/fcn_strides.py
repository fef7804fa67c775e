"""FCN-32s, 16s and 8s: what the scores of finer maps are worth at borders."""

from functools import partial

from minseg.models import FCN
from minseg.studies.study import Study
from minseg.studies.training import boundary_iou, camvid, fit


def train(stride: int, seed: int, steps: int) -> float:
    model = FCN(11, stride=stride, width=8, depth=11, norm="batch", padding="same", dropout=0.1)
    fit(model, camvid("train"), seed, steps)
    return boundary_iou(model, camvid("val"))


STUDY = Study(
    name="fcn-strides",
    claim="Scores of finer maps, added, make borders sharper: FCN-8s before 16s before 32s",
    source="Long, Shelhamer, Darrell 2015, arXiv:1411.4038, section 4.2, table 2",
    setting="CamVid at 120x160; VGG11 of width 8 with batch norm, from scratch",
    measure="mean boundary IoU",
    trainings={f"FCN-{stride}s": partial(train, stride) for stride in (32, 16, 8)},
    expect=(("FCN-8s", "FCN-32s"), ("FCN-16s", "FCN-32s"), ("FCN-8s", "FCN-16s")),
    steps=160,
)
