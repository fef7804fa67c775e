"""ISBI 2012: slices of a fly's nerve cord under the electron microscope; cells and membranes.

    train-volume.tif  train-labels.tif      30 slices each, as the challenge gives them
    image/NN.png      label/NN.png          or one file a slice

Neighbouring slices look alike, so the split is by depth: 00-15 to train, 16-19 to validate; 20-29
are in neither (they are in "all").
Source: Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 2015; data: Cardona et al., PLoS Biology 2010.
"""

import numpy as np

from minseg.data.dataset import Dataset, Sample, check_split
from minseg.data.files import (
    PathLike,
    checked_sample,
    find_root,
    image_files,
    not_empty,
    page_count,
    read_image,
    read_labels,
)

_SLICES = {"train": slice(16), "val": slice(16, 20), "all": slice(None)}
_GET = """ISBI 2012 is missing. Get it: train-volume.tif and train-labels.tif from
https://imagej.net/events/isbi-2012-segmentation-challenge"""


class ISBI(Dataset):
    """ISBI 2012 with the classes membrane (stored as 0) and cell (stored as 255); grey images.

    split: "train" (slices 00-15), "val" (16-19) or "all".
    Raises FileNotFoundError (says what to do), ValueError for a mask that does not fit.
    """

    classes = ("membrane", "cell")
    palette = np.array([[30, 30, 40], [235, 225, 200]], np.uint8)

    def __init__(self, root: PathLike | None = None, split: str = "train") -> None:
        check_split("ISBI", split, tuple(_SLICES))
        root = find_root(root, ("isbi2012", "isbi"), ("train-labels.tif", "label"), _GET)
        volume, labels = root / "train-volume.tif", root / "train-labels.tif"
        if labels.is_file():
            slices = [(i, volume, labels, i) for i in range(page_count(labels))]
        else:
            files = image_files(root / "image")
            slices = [
                (i, path, root / "label" / f"{name}.png", 0)
                for i, (name, path) in enumerate(files.items())
            ]
        # (depth, image file, label file, page)
        self.slices = not_empty(slices[_SLICES[split]], f"{root}: split {split!r}")

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> Sample:
        depth, image_path, mask_path, page = self.slices[index]
        stored = read_labels(mask_path, page)
        other = (stored != 0) & (stored != 255)
        if other.any():
            raise ValueError(f"{mask_path}: label {stored[other][0]}, needs 0 or 255")
        sample = checked_sample(
            read_image(image_path, channels=1, page=page),
            stored // 255,
            None,
            classes=len(self.classes),
            image_path=image_path,
            mask_path=mask_path,
        )
        sample.name = f"{depth:02d}"
        return sample
