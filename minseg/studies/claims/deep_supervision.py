"""Deep supervision in U-Net++, and what pruning costs then."""

from functools import partial
from typing import Any

from minseg import Tensor, nn
from minseg.data import Compose, Flip, Nuclei, RandomCrop, Standardize
from minseg.models import UNetPlusPlus
from minseg.studies.study import Study
from minseg.studies.training import Held, centres, cross_entropy, fit, score

NORMALISE = Standardize(upright=True)
TRANSFORM = Compose([NORMALISE, Flip(0.5, 0.5), RandomCrop((96, 96))])
DEPTH = 3


def every_head(out: Any, masks: Tensor) -> Tensor:
    """The mean of the heads' losses, so that the gradient is as large as a single head's."""
    if isinstance(out, Tensor):
        return cross_entropy(out, masks)
    heads = [cross_entropy(logits, masks) for name, logits in out.items() if name != "out"]
    return sum(heads[1:], heads[0]) / len(heads)


def nucleus_iou(model: nn.Module, validation: Held) -> float:
    return score(model, validation, NORMALISE).confusion.iou()["nucleus"]


def train(supervised: bool, seed: int, steps: int) -> float | dict[str, float]:
    model = UNetPlusPlus(2, width=8, depth=DEPTH, norm="batch", deep_supervision=supervised)
    fit(model, centres(Nuclei(), 256), seed, steps, TRANSFORM, loss=every_head)
    validation = centres(Nuclei(split="val"), 192)
    if not supervised:
        return nucleus_iou(model, validation)
    pruned = {f"pruned to {depth}": model.pruned(depth) for depth in range(DEPTH, 0, -1)}
    found = {arm: nucleus_iou(network, validation) for arm, network in pruned.items()}
    return {"all heads": nucleus_iou(model, validation), **found}


STUDY = Study(
    name="deep-supervision",
    claim="A loss at every depth helps the whole network, and lets it be cut at a depth, at a cost",
    source="Zhou et al. 2018, arXiv:1807.10165 (U-Net++), sections 3.2 and 4",
    setting="nuclei (DSB 2018), crops of 96x96; U-Net++ of width 8, 3 poolings; the average of all "
    "heads, and single heads with what they need",
    measure="IoU of nuclei",
    trainings={"one head": partial(train, False), "supervised": partial(train, True)},
    expect=(
        ("all heads", "one head"),
        ("all heads", "pruned to 3"),
        ("all heads", "pruned to 2"),
        ("all heads", "pruned to 1"),
    ),
    steps=90,
)
