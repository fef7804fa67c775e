"""Nuclei: cells under several microscopes, each nucleus outlined (Data Science Bowl 2018).

    stage1_train/ID/images/ID.png  stage1_train/ID/masks/*.png     one mask a nucleus, 0 and 255
    images/NAME.png                labels/NAME.png                 one map an image, 0 and 1..n

Source: Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science
Bowl", Nature Methods 2019; data: Broad Bioimage Benchmark Collection, BBBC038v1, CC0.
"""

from pathlib import Path

import numpy as np

from minseg.data.dataset import Dataset, Sample, check_split, hold_out
from minseg.data.files import (
    PathLike,
    checked_sample,
    find_root,
    image_files,
    not_empty,
    read_image,
    read_labels,
)

_SHORT = 12  # so many first digits tell an id from the others
_GET = """The nuclei of the Data Science Bowl 2018 are missing. Get them: stage1_train.zip from
https://bbbc.broadinstitute.org/BBBC038, unpacked into a folder stage1_train."""


class Nuclei(Dataset):
    """Nuclei on a background, with instances; RGB images of many sizes.

    split: "train", "val" (a fifth, chosen by a hash of the name, so the same in both layouts of
    the same images) or "all". Raises FileNotFoundError (says what to do), ValueError for a mask
    that does not fit.
    """

    classes = ("background", "nucleus")
    palette = np.array([[20, 24, 40], [90, 210, 180]], np.uint8)
    things = ("nucleus",)

    def __init__(self, root: PathLike | None = None, split: str = "train") -> None:
        check_split("Nuclei", split, ("train", "val", "all"))
        folders = ("nuclei", "nuclei/train", "dsb2018", "nuclei/original_layout")
        root = find_root(root, folders, ("stage1_train", "labels"), _GET)
        self.per_nucleus = (root / "stage1_train").is_dir()
        if self.per_nucleus:
            images = {
                path.name: path / "images" / f"{path.name}.png"
                for path in root.glob("stage1_train/*")
                if path.is_dir()
            }
            masks = {i: root / "stage1_train" / i / "masks" for i in images}
        else:
            images = image_files(root / "images")
            masks = {name: root / "labels" / f"{name}.png" for name in images}
        short = {i: i[:_SHORT] for i in images}
        if len(set(short.values())) < len(short):  # names that are no ids
            short = {i: i for i in images}
        by_name = {short[i]: (images[i], masks[i]) for i in images}
        names = hold_out(list(by_name), split)
        self.names = not_empty(names, f"{root}: split {split!r}")
        self.pairs = [by_name[name] for name in self.names]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_path, mask_path = self.pairs[index]
        image = read_image(image_path)
        if self.per_nucleus:
            instances = _gather(mask_path, image_path, image.shape[:2])
        else:
            instances = read_labels(mask_path)
        sample = checked_sample(
            image,
            (instances > 0).astype(np.int64),
            instances,
            classes=len(self.classes),
            image_path=image_path,
            mask_path=mask_path,
        )
        sample.name = self.names[index]
        return sample


def _gather(folder: Path, image_path: Path, size: tuple[int, ...]) -> np.ndarray:
    """One map of 1..n from a file for each nucleus, in order of their names."""
    instances = np.zeros(size, np.int64)
    for number, path in enumerate(image_files(folder).values(), start=1):
        nucleus = read_labels(path)
        if nucleus.shape != size:
            raise ValueError(
                f"{path}: the mask is {nucleus.shape[1]}x{nucleus.shape[0]} pixels, but its "
                f"image {image_path} is {size[1]}x{size[0]}"
            )
        instances[nucleus > 0] = number
    return instances
