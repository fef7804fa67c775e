"""What a training run is: every choice in one record, with good choices for each data set.

A run folder keeps the record, so that evaluation, prediction and `--resume` need no options again.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from PIL import Image

from minseg.data import (
    Cached,
    ColorJitter,
    Compose,
    DataLoader,
    Dataset,
    ElasticDeformation,
    Flip,
    Folder,
    Mirror,
    Normalize,
    RandomCrop,
    RandomGamma,
    RandomRotate90,
    RandomScale,
    Sample,
    Standardize,
    open_dataset,
)
from minseg.data.transforms import Transform

Size = tuple[int, int]

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
    normalize: str = "imagenet"  # by ImageNet's mean and deviation; see `normalisation`
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

_CACHED = 1000  # drawn images that are kept: drawing one takes longer than training on it


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


def open_split(
    config: Config,
    split: str,
    full_labels: bool = False,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Dataset:
    """The data set of a run: "train" or "val".

    full_labels: labels as large as they come, where the images were scaled down to `size`.
    on_progress: as `Folder` has it.
    Raises what `open_dataset` raises.
    """
    options: dict[str, Any] = {}
    if config.data in ("shapes", "street"):
        # A quarter as many images to validate on. The seeds of the two splits differ.
        count = config.images or 200
        options = {"n": count if split == "train" else max(count // 4, 1)}
        if config.size:
            options["size"] = config.size
        dataset = open_dataset(config.data, split, **options)
        return Cached(dataset) if count <= _CACHED else dataset
    if config.data == "camvid":
        options = {"size": config.size, "full_labels": full_labels}
        return open_dataset("camvid", split, config.data_root, **options)
    if config.data.startswith("folder:"):
        options = {"on_progress": on_progress}
    dataset = open_dataset(config.data, split, config.data_root, **options)
    return dataset if config.size is None else Resized(dataset, config.size, full_labels)


def open_splits(
    config: Config, on_progress: Callable[[float], None] = lambda share: None
) -> tuple[Dataset, Dataset]:
    """What a run trains on, and what it validates on; as `open_split` has them."""
    train = open_split(config, "train", on_progress=on_progress)
    folder = train.dataset if isinstance(train, Resized) else train
    if not isinstance(folder, Folder):
        return train, open_split(config, "val")
    val = folder.part("val")
    return train, val if config.size is None else Resized(val, config.size)


class Resized(Dataset):
    """A data set with its images scaled to one size; its labels too, or kept with `full_labels`."""

    def __init__(self, dataset: Dataset, size: Size, full_labels: bool = False) -> None:
        self.dataset = dataset
        self.size = size
        self.full_labels = full_labels
        self.classes, self.palette, self.things = dataset.classes, dataset.palette, dataset.things
        self.ignore_index, self.void_name = dataset.ignore_index, dataset.void_name

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        mask = sample.mask
        if not self.full_labels:
            rows, columns = (
                ((np.arange(new) + 0.5) * old / new).astype(int)
                for new, old in zip(self.size, mask.shape, strict=True)
            )
            mask = mask[rows[:, None], columns]
        return Sample(resize_image(sample.image, self.size), mask, None, sample.name)


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """The image (H, W, C) in another size; what shrinks is averaged, so that nothing flickers."""
    if image.shape[:2] == tuple(size):
        return image
    channels = [
        Image.fromarray(np.ascontiguousarray(channel, np.float32))
        .resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for channel in np.moveaxis(image, 2, 0)
    ]  # fmt: skip
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


def normalisation(config: Config, channels: int) -> Transform:
    """What every image goes through before a network sees it.

    "imagenet": ImageNet's mean and deviation; "image": each image's own; "upright": the same, and
    things brighter than the ground.
    """
    if config.normalize != "imagenet":
        return Standardize(upright=config.normalize == "upright")
    return Normalize() if channels == 3 else Normalize((0.5,), (0.25,))


def augmentation(config: Config, channels: int, frame: Size = (0, 0)) -> Compose:
    """The random changes of the training images: colours, then, around the normalisation, places.

    frame: rows and columns that a network's output lacks on each side. In the end the image gets as
    many more, mirrored, so that its own pixels are all learnt from. What a turn or a crop brings in
    from outside is 0: after the normalisation, that is the mean.
    """
    colours: dict[str, list[Transform]] = {
        "scene": [ColorJitter()],
        "cells": [RandomGamma(), ColorJitter(0.2, 0.2, 0.3, 0.03)],
        "elastic": [RandomGamma()],
    }
    places: dict[str, list[Transform]] = {
        "flip": [Flip()],
        "scene": [Flip(), RandomScale(0.75, 1.5)],
        # Of these, only the last interpolates: each time blurs what has to be told apart.
        "cells": [Flip(), RandomRotate90(), ElasticDeformation("unet")],
        "elastic": [ElasticDeformation("unet")],
    }
    return Compose(
        [
            *colours.get(config.augment, []),
            normalisation(config, channels),
            *places.get(config.augment, []),
            *([Mirror(*frame)] if any(frame) else []),
            *([RandomCrop(config.crop)] if config.crop else []),
        ]
    )


def training_loader(
    config: Config, dataset: Dataset, channels: int, frame: Size = (0, 0)
) -> DataLoader:
    """Batches of the changed images; frame: as `augmentation` has it."""
    return DataLoader(
        dataset,
        config.batch_size,
        shuffle=True,
        seed=config.seed,
        transform=augmentation(config, channels, frame),
        workers=config.workers,
        # A last batch of one image would unsettle batch norm.
        drop_last=len(dataset) >= config.batch_size,
    )
