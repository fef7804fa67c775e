"""Cityscapes: street scenes of 50 cities.

    leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png
    gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png  NAME_gtFine_instanceIds.png

The files have 34 labels, of which 19 are scored; the others become void. An instance is stored as
1000 * label + number; a smaller value is a region whose objects were not told apart.
Source: Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016;
labels: https://github.com/mcordts/cityscapesScripts, helpers/labels.py.
"""

import numpy as np

from minseg.data.dataset import IGNORE_INDEX, Dataset, Sample, check_split
from minseg.data.files import (
    PathLike,
    checked_sample,
    find_root,
    not_empty,
    read_image,
    read_labels,
)

# What is scored, in the order of its "trainId": the label in the files, and the colour.
_CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_LABELS = 34  # 0..33 in the files
_TRAIN_IDS = np.full(_LABELS, IGNORE_INDEX)
_TRAIN_IDS[[label for label, _ in _CLASSES.values()]] = np.arange(len(_CLASSES))
_GET = """Cityscapes is missing. Get it: gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip
from https://www.cityscapes-dataset.com (after registration), unpacked into one folder."""


class Cityscapes(Dataset):
    """Cityscapes with the 19 scored classes, and instances. split: "train", "val" or "test".

    The labels of "test" are secret: its files hold void only.
    Raises FileNotFoundError (says what to do), ValueError for a mask that does not fit.
    """

    classes = tuple(_CLASSES)
    palette = np.array([colour for _, colour in _CLASSES.values()], np.uint8)
    things = classes[11:]

    def __init__(self, root: PathLike | None = None, split: str = "train") -> None:
        check_split("Cityscapes", split, ("train", "val", "test"))
        root = find_root(root, ("cityscapes", "Cityscapes"), (f"leftImg8bit/{split}",), _GET)
        folder = root / "leftImg8bit" / split
        images = sorted(folder.glob("*/*_leftImg8bit.png"))
        self.images = not_empty(images, f"{folder}/*/*_leftImg8bit.png")
        self.labels = root / "gtFine" / split

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image_path = self.images[index]
        name = image_path.stem.removesuffix("_leftImg8bit")
        stem = self.labels / image_path.parent.name / f"{name}_gtFine"
        mask_path = stem.with_name(f"{stem.name}_labelIds.png")
        labels = read_labels(mask_path)
        if labels.max(initial=0) >= _LABELS:
            raise ValueError(f"{mask_path}: label {labels.max()}, needs 0..{_LABELS - 1}")
        instances_path = stem.with_name(f"{stem.name}_instanceIds.png")
        instances = read_labels(instances_path)
        objects, dense = np.unique(np.where(instances < 1000, 0, instances), return_inverse=True)
        dense = dense.reshape(instances.shape) + (objects[0] != 0)  # 1..n, and 0 for none
        sample = checked_sample(
            read_image(image_path),
            _TRAIN_IDS[labels],
            dense,
            classes=len(self.classes),
            image_path=image_path,
            mask_path=mask_path,
            instances_path=instances_path,
        )
        sample.name = name
        return sample
