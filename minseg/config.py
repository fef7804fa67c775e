"""What a training run is: every choice in one record, with good choices for each data set.

A run folder keeps the record, so that evaluation, prediction and `--resume` need no options again.
recipe.py and pipeline.py make from it what the run needs.
"""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from minseg.data.resized import Size

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "poly", "cosine", "step", "constant")
CLASS_WEIGHTS = ("none", "median", "invlog")
NORMALIZATIONS = ("imagenet", "image", "upright")
AUGMENTATIONS = ("none", "flip", "scene", "cells", "elastic")


@dataclass(frozen=True)
class Config:
    """The choices of a run; `minseg train --help` explains each.

    How long to train: epochs, steps or minutes; whichever of those set is over first ends it.
    """

    model: str = "unet"
    data: str = "shapes"
    data_root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # of the network: width, depth, ...
    init: str | None = None  # a run, or a file, whose weights training starts from
    size: Size | None = None  # (H, W) that whole images are scaled to; None: as they are
    crop: Size | None = None  # (H, W) of the random crops to train on; None: whole images
    images: int | None = None  # of a synthetic data set: how many to draw for training
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    lr: float = 3e-3
    optimizer: str = "adamw"
    weight_decay: float = 1e-2
    schedule: str = "onecycle"
    loss: str = "cross_entropy"
    class_weights: str = "none"
    augment: str = "flip"
    normalize: str = "imagenet"  # what each is, `pipeline.normalisation` says
    seed: int = 0
    workers: int = 2
    device: str = "cpu"
    eval_every: int = 1  # epochs from one validation to the next
    save_every: float = 30.0  # seconds from one checkpoint to the next

    def __post_init__(self) -> None:
        if self.epochs is self.steps is self.minutes is None:
            raise ValueError("config: set epochs, steps or minutes: how long to train")
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES,
                   "class_weights": CLASS_WEIGHTS, "augment": AUGMENTATIONS,
                   "normalize": NORMALIZATIONS}  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, needs one of {', '.join(allowed)}"
                )
        for name in ("epochs", "steps", "minutes", "batch_size", "lr", "images", "eval_every"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: got {value}, needs a finite number above 0")
        for name in ("seed", "workers", "weight_decay"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: got {value}, needs a finite number, 0 or more")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """The record that `to_dict` made and JSON kept; a field that is missing has its default.

        Raises ValueError for a field that this version does not know.
        """
        if not isinstance(values, dict):
            raise ValueError(f"config: got a {type(values).__name__}, needs a dict")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"config: this version of minseg knows no {', '.join(unknown)}")
        pairs = {name: tuple(values[name]) for name in ("size", "crop") if values.get(name)}
        return cls(**{**values, **pairs})

    def on(self, data: str | None, data_root: str | None) -> "Config":
        """The same for another data set, or for the same one in another place."""
        return replace(self, data=data or self.data, data_root=data_root or self.data_root)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# From scratch, on a CPU: narrower and shallower than in the papers, and with batch norm, which
# trains faster; what is so narrow has nothing to drop. An output stride of 8 suits images that are
# small already.
_FCN = {"width": 16, "norm": "batch", "padding": "same"}
_DEEPLAB = {"width": 32, "depth": 18, "output_stride": 8}
_OPTIONS: dict[str, dict[str, Any]] = {
    "patch_classifier": {"width": 16, "depth": 2, "stride": 8},
    "plain_cnn": {"width": 16, "norm": "batch"},
    "unet": {"width": 16, "norm": "batch", "dropout": 0.0},
    "fcn32s": _FCN,
    "fcn16s": _FCN,
    "fcn8s": _FCN,
    "fcn_resnet50": {"width": 16, "depth": 18},
    "segnet": {"width": 16},
    "unetplusplus": {"width": 16, "norm": "batch"},
    "deeplabv1": {"width": 16, "norm": "batch"},
    "deeplabv2": {"width": 32, "depth": 18},
    "pspnet": {"width": 16, "depth": 18},
    "fpn": {"width": 16, "depth": 18},
    "deeplabv3": _DEEPLAB,
    "deeplabv3plus": _DEEPLAB,
    "deeplabv3plus_xception65": {"width": 16, "depth": 20},
    "deeplabv3plus_mobilenet_v2": {"width": 16},
    "attention_unet": {"width": 16},
    **{f"segformer_b{variant}": {"width": 16} for variant in range(6)},
}
_DATA: dict[str, dict[str, Any]] = {
    "shapes": {"size": (64, 64), "images": 400, "epochs": 10, "batch_size": 16},
    "street": {"size": (96, 128), "images": 400, "epochs": 10},
    "camvid": {"size": (120, 160), "crop": (120, 160), "epochs": 40, "augment": "scene",
               "class_weights": "invlog", "eval_every": 5},
    "cityscapes": {"size": (256, 512), "crop": (256, 256), "epochs": 30, "augment": "scene"},
    "voc": {"crop": (256, 256), "epochs": 30, "augment": "scene"},
    "coco": {"crop": (256, 256), "epochs": 30, "augment": "scene"},
    "coco-panoptic": {"crop": (256, 256), "epochs": 30, "augment": "scene"},
    # These annotators drew half a pixel up and to the left of the membranes: what a network that
    # sees turned images cannot learn.
    "isbi": {"crop": (256, 256), "batch_size": 4, "epochs": 150, "augment": "elastic",
             "eval_every": 10, "normalize": "image"},
    "nuclei": {"crop": (192, 192), "epochs": 40, "augment": "cells", "eval_every": 10,
               "loss": "cross_entropy + dice", "normalize": "upright"},
    "folder": {"crop": (256, 256), "epochs": 40},
}  # fmt: skip


def configure(model: str, data: str, options: dict[str, Any] | None = None, **given: Any) -> Config:
    """The record for a network on a data set: the defaults of both, and over them what is given.

    options: of the network; those left out keep their defaults.
    """
    chosen = {**_DATA.get(data.partition(":")[0], {"epochs": 20}), **given}
    if chosen.get("size") and chosen.get("crop") and "crop" not in given:
        pairs = zip(chosen["crop"], chosen["size"], strict=True)
        chosen["crop"] = tuple(min(pair) for pair in pairs)  # beyond, all would be void
    if chosen.get("augment") == "scene" and "size" in chosen:
        chosen.setdefault("crop", chosen["size"])  # scaled by chance, a batch needs one size again
    if {"epochs", "steps", "minutes"} & set(given):
        chosen["epochs"] = given.get("epochs")
    return Config(model, data, options={**_OPTIONS.get(model, {}), **(options or {})}, **chosen)
