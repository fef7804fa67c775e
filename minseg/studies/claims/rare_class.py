"""Four losses where one pixel in a hundred is foreground."""

from functools import partial

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.data import Cached, Compose, Flip
from minseg.data.class_weights import inverse_log_weights
from minseg.models import UNet
from minseg.studies.scenes import Specks
from minseg.studies.study import Study
from minseg.studies.training import GREYS, Loss, cross_entropy, fit, score

TRANSFORM = Compose([GREYS, Flip(0.5, 0.5)])
# ENet's weights for 1 % of foreground: 1.4 and 34.
WEIGHTS = inverse_log_weights([np.array([1] + 99 * [0])], 2)


def weighted(logits: Tensor, masks: Tensor) -> Tensor:
    return F.cross_entropy(logits, masks, weight=WEIGHTS)


def focal(logits: Tensor, masks: Tensor) -> Tensor:
    return F.focal_loss(logits, masks)


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    return F.dice_loss(logits, masks)


def train(loss: Loss, share: float, seed: int, steps: int) -> float:
    """share: of the steps. What learns slowly may still learn well."""
    model = UNet(2, in_channels=1, width=8, depth=3, norm="batch", dropout=0.0)
    fit(model, Cached(Specks(160, 2 * seed)), seed, round(share * steps), TRANSFORM, loss=loss)
    return score(model, Specks(60, 2 * seed + 1), GREYS).confusion.iou()["speck"]


STUDY = Study(
    name="rare-class",
    claim="Where foreground is rare, a loss that is not ruled by the background finds more of it",
    source="Lin et al. 2017, arXiv:1708.02002, section 3 (focal); Milletari, Navab, Ahmadi 2016, "
    "arXiv:1606.04797, section 3 (Dice); Paszke et al. 2016, arXiv:1606.02147, section 5.2 "
    "(weights)",
    setting="drawn specks, 1 % of the pixels, 64x64; U-Net of width 8, 3 poolings",
    measure="IoU of specks",
    trainings={
        "plain": partial(train, cross_entropy, 1.0),
        "weighted": partial(train, weighted, 1.0),
        "focal": partial(train, focal, 1.0),
        "Dice": partial(train, dice, 1.0),
        "plain, half the steps": partial(train, cross_entropy, 0.5),
        "Dice, half the steps": partial(train, dice, 0.5),
    },
    expect=(
        ("weighted", "plain"),
        ("focal", "plain"),
        ("Dice", "plain"),
        ("Dice, half the steps", "plain, half the steps"),
    ),
    steps=240,
)
