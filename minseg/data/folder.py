"""A folder of images and label maps: the layout for data of your own.

    PATH/images/NAME.png|jpg|...  PATH/masks/NAME.png  [PATH/classes.txt]
    PATH/train/images/ ...        PATH/val/images/ ...     where the splits are given

The folders may also be called image, and mask, labels or label. A line of classes.txt is
"index name red green blue" (the colour may be left out), and `#` starts a comment. A class called
void, unlabelled or ignore is not scored. Masks hold indices, or the colours as RGB, or greys if
every class's colour is a grey. Masks of only 0 and 255 show two classes, named by classes.txt, or
else background and foreground; in other masks 255 is void.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path

import numpy as np

from minseg.data.dataset import IGNORE_INDEX, Dataset, Sample, check_split, hold_out, voc_palette
from minseg.data.files import SUFFIXES, checked_sample, image_files, read_image, read_labels
from minseg.files import PathLike

_IMAGES = ("images", "image")
_MASKS = ("masks", "mask", "labels", "label")
_VOID_NAMES = ("void", "unlabelled", "ignore")
_Pairs = dict[str, tuple[Path, Path]]  # name: image file, mask file


class Folder(Dataset):
    """Image and mask files with equal names.

    split: "train", "val" or "all". Without folders train/ and val/, a fifth of the images, chosen
        by a hash of their names, is "val".
    channels: 3 (RGB) or 1 (grey) for the images.
    on_progress: called with the share of all masks, 1 / their number, after each that is read to
        find the classes: without classes.txt, or with one where greys may stand for classes.

    Raises FileNotFoundError for a missing folder or mask, ValueError for a mask of another size
    than its image, or with a label or colour that is no class.
    """

    def __init__(
        self,
        root: PathLike,
        split: str = "train",
        channels: int = 3,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        check_split("Folder", split, ("train", "val", "all"))
        self.root = Path(root)
        self.channels = channels
        self._parts = [part for part in ("train", "val") if (self.root / part).is_dir()]
        self._every: _Pairs = {}
        for part in self._parts or ["."]:
            pairs = _pairs(self.root / part)
            self._every |= {f"{part}/{name}": pair for name, pair in pairs.items()}
        self._choose(split)

        self._colours: dict[tuple[int, ...], int] = {}
        self._stored = {IGNORE_INDEX: IGNORE_INDEX}  # value in the file -> label
        masks = [mask for _, mask in self._every.values()]
        found = _values(masks, self._colours, on_progress)
        if (self.root / "classes.txt").is_file():
            self._read_classes(self.root / "classes.txt", found)
        else:
            self._find_classes(masks[0].parent, found)

    def part(self, split: str) -> "Folder":
        """Another split of the same folder; the masks are not read again to find the classes."""
        check_split("Folder", split, ("train", "val", "all"))
        other = copy(self)
        other._choose(split)
        return other

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_path, mask_path = self.pairs[index]
        image = read_image(image_path, self.channels)
        stored = read_labels(mask_path, colours=self._colours)
        mask = stored.copy()
        for value, label in self._stored.items():
            mask[stored == value] = label
        paths = {"image_path": image_path, "mask_path": mask_path}
        return checked_sample(image, mask, None, classes=len(self.classes), **paths)

    def _choose(self, split: str) -> None:
        if self._parts:
            chosen = [name for name in self._every if split in ("all", name.split("/")[0])]
        else:
            chosen = hold_out(list(self._every), split)
        if not chosen:
            raise ValueError(
                f"{self.root}: split {split!r} has none of the {len(self._every)} images; without "
                f"train/ and val/, a fifth of them is held out, so that two are the least"
            )
        self.pairs = [self._every[name] for name in chosen]

    def _read_classes(self, path: Path, found: Iterable[set[int]]) -> None:
        names: dict[int, str] = {}
        void_indices: set[int] = set()
        try:
            text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not in UTF-8: {error}") from error
        for line in text.splitlines():
            words = line.split("#")[0].split()
            if not words:
                continue
            coloured = len(words) >= 5 and all(word.isdecimal() for word in words[-3:])
            name = " ".join(words[1:-3] if coloured else words[1:])
            if not words[0].isdecimal() or not name:
                raise ValueError(f"{path}: {line!r} is not 'index name [red green blue]'")
            index = int(words[0])
            void = name.lower() in _VOID_NAMES
            if index in names or (index in void_indices and not void):
                other = names.get(index, self.void_name)
                raise ValueError(f"{path}: class {index} is {other!r} and {name!r}")
            if coloured:
                colour = tuple(int(word) for word in words[-3:])
                if max(colour) > 255:
                    raise ValueError(f"{path}: {line!r}: a colour's parts lie in 0..255")
                if colour in self._colours:
                    raise ValueError(f"{path}: {line!r}: another class has this colour")
                self._colours[colour] = index
            if void:
                void_indices.add(index)
                self._stored[index] = IGNORE_INDEX
                self.void_name = name
            else:
                names[index] = name
        if sorted(names) != list(range(len(names))) or not 0 < len(names) <= IGNORE_INDEX:
            raise ValueError(
                f"{path}: classes {sorted(names)}, needs 0..K-1 without a gap, K at most 255"
            )
        self.classes = tuple(names[index] for index in range(len(names)))
        self.palette = voc_palette(len(names))
        for colour, index in self._colours.items():
            if index in names:
                self.palette[index] = colour
        self._find_levels(found, {*names, *void_indices})

    def _find_levels(self, found: Iterable[set[int]], indices: set[int]) -> None:
        """Find out if grey masks store the classes' greys, or 0 and 255, instead of indices."""
        if len(self._colours) == len(indices) and all(len(set(c)) == 1 for c in self._colours):
            levels = {colour[0]: self._stored.get(i, i) for colour, i in self._colours.items()}
        elif indices == {0, 1} and len(self.classes) == 2:
            levels = {0: 0, 255: 1}
        else:
            return
        values: set[int] = set()
        for more in found:
            values |= more
            if not values <= levels.keys():
                return
        if not values <= indices:
            self._stored = levels

    def _find_classes(self, where: Path, found: Iterable[set[int]]) -> None:
        values = set().union(*found)
        if values <= {0, 255} and 255 in values:
            self._stored = {255: 1}
            self.classes = ("background", "foreground")
        else:
            labels = sorted(values - {IGNORE_INDEX})
            top = labels[-1]
            if top > IGNORE_INDEX:
                raise ValueError(f"{where}: a label is {top}, needs at most 254")
            # Black and white with soft edges, or grey values for classes.
            if top == IGNORE_INDEX - 1 or len(labels) <= top // 2:
                some = ", ".join(map(str, labels if len(labels) < 9 else [*labels[:8], "..."]))
                raise ValueError(
                    f"{where}: the labels {some} are no numbering of classes 0, 1, 2, ...; save "
                    f"masks with sharp edges, or name all classes in classes.txt, each with its "
                    f"grey as its colour, like '1 liver 128 128 128'"
                )
            self.classes = tuple(f"class {label}" for label in range(top + 1))
        self.palette = voc_palette(len(self.classes))


def _values(
    masks: list[Path], colours: Mapping[tuple[int, ...], int], on_progress: Callable[[float], None]
) -> Iterator[set[int]]:
    """The values that each mask stores."""
    for path in masks:
        labels = read_labels(path, colours=colours)
        on_progress(1 / len(masks))
        yield set(np.flatnonzero(np.bincount(labels.ravel())).tolist())


def _pairs(folder: Path) -> _Pairs:
    """Each image of a folder with its mask."""
    image_folder, mask_folder = _existing(folder, _IMAGES), _existing(folder, _MASKS)
    images, masks = image_files(image_folder), image_files(mask_folder)
    if not images:
        raise FileNotFoundError(
            f"{image_folder}: no images in it{_holds(image_folder)}; needs {', '.join(SUFFIXES)}"
        )
    for name, image in images.items():
        if name not in masks:
            others = masks.keys() - images.keys()
            nearest = min(others, key=lambda other: (name not in other, other), default=None)
            hint = f"; {masks[nearest].name}, there, is of no image: rename it?" if nearest else ""
            raise FileNotFoundError(
                f"{image}: has no mask; looked for {mask_folder / name}.png{hint}"
            )
    return {name: (image, masks[name]) for name, image in images.items()}


def _existing(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    raise FileNotFoundError(
        f"{folder}: no folder {' or '.join(names)} in it{_holds(folder)}. A data set of your own "
        f"needs images/NAME.png and masks/NAME.png there, or the same in train/ and val/."
    )


def _holds(folder: Path, count: int = 4) -> str:
    """The names that are there instead, so that a misspelt one is seen."""
    names = sorted(path.name for path in folder.iterdir())
    more = ", ..." if len(names) > count else ""
    return f" (but {', '.join(names[:count])}{more})" if names else ""
