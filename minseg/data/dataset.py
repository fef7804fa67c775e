"""What a data set is: a sequence of samples, the names of its classes, and their colours.

Anything with these members is a data set, whether or not it derives from `Dataset`.
"""

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

IGNORE_INDEX = 255


@dataclass
class Sample:
    """One image and its ground truth.

    image: (H, W, 3) or (H, W, 1) float32 in 0..1.
    mask: (H, W) int64, the class of each pixel; 255 where it is unknown ("void").
    instances: (H, W) int32, the object that each pixel belongs to, 0 for none; or None.
    name: tells the sample from the others, and leads back to its file.
    """

    image: np.ndarray
    mask: np.ndarray
    instances: np.ndarray | None = None
    name: str = ""


class Dataset(Protocol):
    """A sequence of samples over one list of classes.

    classes: K names; the labels in a mask are indices into it.
    palette: (K, 3) uint8, the colour that each class is drawn in.
    things: the names of the classes that can be counted (instances); the others are "stuff".
    ignore_index, void_name: the label of pixels without a class, and what to call it.
    """

    classes: tuple[str, ...]
    palette: np.ndarray
    things: tuple[str, ...] = ()
    ignore_index: int = IGNORE_INDEX
    void_name: str = "void"

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Cached(Dataset):
    """A data set that keeps each sample in memory: scenes are rendered only once.

    The samples are shared: change none in place.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.classes = dataset.classes
        self.palette = dataset.palette
        self.things = dataset.things
        self.ignore_index = dataset.ignore_index
        self.void_name = dataset.void_name
        self._samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._samples:
            self._samples[index] = self.dataset[index]  # two threads at once store the same
        return self._samples[index]


def check_sample(sample: Sample, classes: int) -> None:
    """Raise an error with the sample's name if it is not as `Sample` says.

    TypeError for integer images and for labels that are not integers; ValueError for a wrong
    rank, instances of another size than the mask, pixels that are not finite and labels without a
    class.
    """
    image, mask, instances = sample.image, sample.mask, sample.instances
    where = f"sample {sample.name!r}"
    if image.ndim != 3 or mask.ndim != 2:
        raise ValueError(
            f"{where}: got an image {image.shape} and a mask {mask.shape}, "
            f"needs (H, W, channels) and (H, W)"
        )
    if image.dtype.kind != "f" or mask.dtype.kind not in "iu":
        raise TypeError(
            f"{where}: got an image of {image.dtype} and a mask of {mask.dtype}, "
            f"needs float32 in 0..1 and int64"
        )
    if instances is not None and instances.shape != mask.shape:
        raise ValueError(
            f"{where}: got a mask of {mask.shape} and instances of {instances.shape}, "
            f"needs one size"
        )
    if instances is not None and instances.dtype.kind not in "iu":
        raise TypeError(f"{where}: got instances of {instances.dtype}, needs int32")
    if not np.isfinite(image).all():
        raise ValueError(f"{where}: its image has pixels that are NaN or infinite")
    check_labels(mask, classes, where)


def check_labels(mask: np.ndarray, classes: int, where: str) -> None:
    """Raise ValueError if a label is neither 0..classes-1 nor 255 (void)."""
    wrong = (mask != IGNORE_INDEX) & ((mask < 0) | (mask >= classes))
    if wrong.any():
        raise ValueError(
            f"{where}: label {mask[wrong][0]} ({wrong.sum()} pixels have no class), "
            f"needs 0..{classes - 1} or {IGNORE_INDEX} (void)"
        )


def check_split(dataset: str, split: str, known: tuple[str, ...]) -> None:
    """Raise ValueError if the data set has no such split."""
    if split not in known:
        raise ValueError(f"{dataset}: split: got {split!r}, needs one of {', '.join(known)}")


def random_stream(*key: int) -> np.random.Generator:
    """A generator seeded by the key alone, so that the order of drawing does not matter.

    NumPy seeds (1, 2) and (1, 2, 0) alike; the key's length, put first, keeps them apart.
    """
    return np.random.default_rng((len(key), *key))


def hold_out(names: list[str], split: str, share: float = 0.2) -> list[str]:
    """The names of one split ("train", "val", else all) of a set that comes without splits.

    The `share` of the names with the smallest hashes is "val". So neither the order of the files
    nor the machine matters, and a new image moves few of the others. At least one is held out.
    """
    ranked = sorted(names, key=lambda name: (zlib.crc32(name.encode()), name))
    count = max(1, round(share * len(names)))
    parts = {"train": ranked[count:], "val": ranked[:count]}
    return sorted(parts.get(split, ranked))


def voc_palette(count: int) -> np.ndarray:
    """PASCAL VOC's colours for `count` labels, (count, 3) uint8.

    The three lowest bits of a label become the highest bits of red, green and blue, the next
    three bits the second highest, and so on: neighbouring labels get distant colours.
    """
    labels = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = labels >> (3 * level + channel) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours
