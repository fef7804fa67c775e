"""Data sets, synthetic and real; the augmentation of samples; batches.

`open_dataset("camvid", "train")` opens any of them by the name that `minseg train --data` takes.
"""

from pathlib import Path
from typing import Any

from minseg.data.camvid import CamVid
from minseg.data.cityscapes import Cityscapes
from minseg.data.coco import COCOInstances, COCOPanoptic
from minseg.data.colour import ColorJitter, Normalize, RandomGamma, Standardize
from minseg.data.dataset import IGNORE_INDEX, Cached, Dataset, Sample, check_split
from minseg.data.elastic import ElasticDeformation
from minseg.data.files import read_image, read_labels
from minseg.data.folder import Folder
from minseg.data.isbi import ISBI
from minseg.data.loader import Batch, DataLoader, collate
from minseg.data.nuclei import Nuclei
from minseg.data.shapes import Shapes
from minseg.data.street import Street
from minseg.data.transforms import (
    Compose,
    Flip,
    Mirror,
    Pad,
    RandomCrop,
    RandomRotate90,
    RandomScale,
    Resize,
    Rotate,
)
from minseg.data.voc import VOC
from minseg.files import PathLike
from minseg.suggest import suggest

__all__ = [
    "IGNORE_INDEX",
    "ISBI",
    "VOC",
    "Batch",
    "COCOInstances",
    "COCOPanoptic",
    "Cached",
    "CamVid",
    "Cityscapes",
    "ColorJitter",
    "Compose",
    "DataLoader",
    "Dataset",
    "ElasticDeformation",
    "Flip",
    "Folder",
    "Mirror",
    "Normalize",
    "Nuclei",
    "Pad",
    "RandomCrop",
    "RandomGamma",
    "RandomRotate90",
    "RandomScale",
    "Resize",
    "Rotate",
    "Sample",
    "Shapes",
    "Standardize",
    "Street",
    "collate",
    "open_dataset",
    "read_image",
    "read_labels",
]

_SYNTHETIC = {"shapes": Shapes, "street": Street}
_REAL = {
    "camvid": CamVid,
    "isbi": ISBI,
    "nuclei": Nuclei,
    "voc": VOC,
    "cityscapes": Cityscapes,
    "coco": COCOInstances,
    "coco-panoptic": COCOPanoptic,
}


def open_dataset(
    spec: str, split: str = "train", root: PathLike | None = None, **options: Any
) -> Dataset:
    """The data set that `spec` names: one of the names above, or "folder:PATH".

    root: where a real data set lies; default: the environment's MINSEG_DATA.
    options: go to the data set's class (`size=`, `n=`, `seed=`, `full_labels=`, ...).

    A synthetic set's "train" and "val" draw from different seeds.
    Raises ValueError for an unknown name or split, and what the data set's class raises.
    """
    name, _, path = spec.partition(":")
    if name == "folder" and path:
        return Folder(path, split, **options)
    if name in _SYNTHETIC and not path:
        check_split(spec, split, ("train", "val"))
        seed = 2 * options.pop("seed", 0) + (split == "val")
        return _SYNTHETIC[name](seed=seed, **options)
    if name in _REAL and not path:
        return _REAL[name](root, split, **options)
    known = [*_SYNTHETIC, *_REAL, "folder:PATH"]
    hint = suggest(name + ":PATH" if path else name, known)
    if Path(spec).is_dir():
        hint = f" (did you mean 'folder:{spec}'?)"
    raise ValueError(f"open_dataset: unknown data set {spec!r}{hint}; known: {', '.join(known)}")
