"""SegFormer against convolutions, where the cue is far away."""

from collections.abc import Callable
from functools import partial

from minseg import nn
from minseg.data import Cached
from minseg.models import SegFormer, UNet
from minseg.studies.claims.image_pooling import disc_iou
from minseg.studies.scenes import Signs
from minseg.studies.study import Study
from minseg.studies.training import GREYS, fit


def unet(depth: int) -> nn.Module:
    return UNet(len(Signs.classes), 1, width=8, depth=depth, norm="batch", dropout=0.0)


def segformer() -> nn.Module:
    return SegFormer(len(Signs.classes), 1, width=16, drop_path=0.0)


def train(build: Callable[[], nn.Module], seed: int, steps: int) -> float:
    model = build()
    lr = 2e-3 if isinstance(model, SegFormer) else 5e-3
    fit(model, Cached(Signs(400, 2 * seed)), seed, steps, GREYS, lr=lr)
    return disc_iou(model, seed)


STUDY = Study(
    name="far-cue",
    claim="Attention uses what lies far away; convolutions hardly do, even where they could",
    source="Xie et al. 2021, arXiv:2105.15203 (SegFormer), section 3.2, figure 3",
    setting="drawn discs whose kind a sign tells, 30 pixels away and more; U-Nets of width 8, "
    "SegFormer-B0 of width 16",
    measure="IoU of discs",
    trainings={
        "U-Net, 2 poolings": partial(train, partial(unet, 2)),
        "U-Net, 4 poolings": partial(train, partial(unet, 4)),
        "SegFormer": partial(train, segformer),
    },
    expect=(("SegFormer", "U-Net, 2 poolings"), ("SegFormer", "U-Net, 4 poolings")),
    steps=200,
)
