"""From the record of a run to what its network is fed: data sets, augmentation, batches."""

from collections.abc import Callable
from typing import Any

from minseg.config import Config
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
    Standardize,
    open_dataset,
)
from minseg.data.resized import Resized, Size
from minseg.data.transforms import Transform

CACHED = 1000  # drawn images that are kept: drawing one takes longer than training on it


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
        return Cached(dataset) if count <= CACHED else dataset
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


def normalisation(config: Config, channels: int) -> Transform:
    """What every image goes through before a network sees it.

    "imagenet": by ImageNet's mean and deviation; "image": by each image's own; "upright": the same,
    and dark things on a bright ground become bright ones on a dark ground.
    """
    if config.normalize != "imagenet":
        return Standardize(upright=config.normalize == "upright")
    return Normalize() if channels == 3 else Normalize((0.5,), (0.25,))


def augmentation(config: Config, channels: int, frame: Size = (0, 0)) -> Compose:
    """What is done to a training image: its colours are varied, it is normalised, moved and cut.

    frame: rows and columns that the network's output lacks on each side. The image is extended by
    as many, mirrored, so that all of its own pixels are learnt from. Where a turn or a crop reaches
    beyond the image there are zeros: after the normalisation, that is the mean.
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
    """Batches of augmented training images; frame: as for `augmentation`."""
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
