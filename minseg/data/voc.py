"""PASCAL VOC: 20 kinds of objects in photographs, and background.

    JPEGImages/NAME.jpg  SegmentationClass/NAME.png  SegmentationObject/NAME.png
    ImageSets/Segmentation/train.txt|val.txt|trainval.txt

Label maps are palette PNGs: the palette is for viewing, the indices are the labels. 255 is void:
the border around objects, and whatever was too difficult to label.
Source: Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010.
"""

from minseg.data.dataset import IGNORE_INDEX, Dataset, Sample, check_split, voc_palette
from minseg.data.files import (
    PathLike,
    checked_sample,
    find_root,
    image_files,
    not_empty,
    read_image,
    read_labels,
)

_GET = """PASCAL VOC is missing. Get it: VOCtrainval_11-May-2012.tar (2 GB) from
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; unpacked, it is VOCdevkit/VOC2012."""


class VOC(Dataset):
    """PASCAL VOC segmentation: 21 classes, with instances. split: "train", "val", "trainval".

    Raises FileNotFoundError (says what to do), ValueError for a mask that does not fit.
    """

    classes = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
        "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
        "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    things = classes[1:]
    palette = voc_palette(21)

    def __init__(self, root: PathLike | None = None, split: str = "train") -> None:
        check_split("VOC", split, ("train", "val", "trainval"))
        folders = ("VOCdevkit/VOC2012", "VOC2012", "voc", "VOC")
        self.root = find_root(root, folders, (f"ImageSets/Segmentation/{split}.txt",), _GET)
        listing = self.root / "ImageSets" / "Segmentation" / f"{split}.txt"
        self.names = not_empty(listing.read_text(encoding="utf-8").split(), str(listing))
        images = self.root / "JPEGImages"
        copies = self.root / "PNGImages"  # lossless copies, if there is no JPEGImages
        self.images = image_files(copies if copies.is_dir() and not images.is_dir() else images)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        if name not in self.images:
            raise FileNotFoundError(f"{self.root}: image {name} of the list is not in JPEGImages")
        mask_path = self.root / "SegmentationClass" / f"{name}.png"
        objects_path = self.root / "SegmentationObject" / f"{name}.png"
        instances = None
        if objects_path.is_file():
            instances = read_labels(objects_path)
            instances[instances == IGNORE_INDEX] = 0
        return checked_sample(
            read_image(self.images[name]),
            read_labels(mask_path),
            instances,
            classes=len(self.classes),
            image_path=self.images[name],
            mask_path=mask_path,
            instances_path=objects_path,
        )
