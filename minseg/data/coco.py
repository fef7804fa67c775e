"""COCO: common objects in context; instances, and panoptic segments.

    train2017/FILE.jpg                        val2017/FILE.jpg
    annotations/instances_train2017.json      polygons, or run lengths for crowds
    annotations/panoptic_train2017.json       annotations/panoptic_train2017/FILE.png

Sources: Lin et al., "Microsoft COCO", ECCV 2014; Kirillov et al., "Panoptic segmentation", CVPR
2019; https://cocodataset.org/#format-data
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minseg.data import rle
from minseg.data.dataset import IGNORE_INDEX, Dataset, Sample, check_split, voc_palette
from minseg.data.files import (
    PathLike,
    checked_sample,
    find_root,
    not_empty,
    read_colours,
    read_image,
)

# The colours that the panoptic annotations give the 80 kinds of things.
_COLOURS = """
person dc143c, bicycle 770b20, car 00008e, motorcycle 0000e6, airplane 6a00e4, bus 003c64, train
005064, truck 000046, boat 0000c0, traffic light faaa1e, fire hydrant 64aa1e, stop sign dcdc00,
parking meter af74af, bench fa001e, bird a52a2a, cat ff4dff, dog 00e2fc, horse b6b6ff, sheep
005200, cow 78a69d, elephant 6e4c00, bear ae39ff, zebra c76400, giraffe 480076, backpack ffb3f0,
umbrella 007d5c, handbag d10097, tie bcd0b6, suitcase 00dcb0, frisbee ff63a4, skis 5c0049,
snowboard 8581ff, sports ball 4eb4ff, kite 00e400, baseball bat aefff3, baseball glove 2d59ff,
skateboard 868667, surfboard 9194ae, tennis racket ffd0ba, bottle c5e2ff, wine glass ab8601, cup
6d3f36, fork cf8aff, knife 97005f, spoon 09503d, bowl 546933, banana 4a4169, apple a6c466,
sandwich d0c3d2, orange ff6d41, broccoli 008f95, carrot b300c2, hot dog d1636a, pizza 057900,
donut e3ffcd, cake 93bad0, chair 994501, couch 035fa1, potted plant a3ff00, bed 7700aa, dining
table 00b6c7, toilet 00a578, tv b78258, laptop 5f2000, mouse 827287, remote 6e8185, keyboard
a64a76, cell phone db8eb9, microwave 4fd272, oven b25a3e, toaster 41460f, sink 7fa773,
refrigerator 3b696a, book 8e6c2d, clock c4ac00, vase 5f3650, scissors 804cff, teddy bear c93901,
hair drier f6007a, toothbrush bfa2d0
"""
_GET = """COCO is missing. Get it from https://cocodataset.org/#download: train2017.zip, val2017.zip
and annotations_trainval2017.zip (instances) or panoptic_annotations_trainval2017.zip (panoptic),
unpacked into one folder."""


class COCOInstances(Dataset):
    """COCO's objects: background and the categories, in order of their id (80 in COCO itself).

    split: "train" or "val". For another set in this format: annotations, its JSON file, and
    images, the folder of its images.

    Objects overlap in COCO: here the smaller one lies on top. A crowd (iscrowd=1) is a region of
    objects that nobody told apart. COCO's evaluation leaves it out, so it is void, below the rest.
    Raises FileNotFoundError (says what to do), ValueError (names the file and what is wrong).
    """

    def __init__(
        self,
        root: PathLike | None = None,
        split: str = "train",
        annotations: PathLike | None = None,
        images: PathLike | None = None,
    ) -> None:
        self.path, self.folder = _locate("instances", root, split, annotations, images)
        content = _read_json(self.path)
        with _naming(str(self.path)):
            self._index(content)

    def _index(self, content: dict[str, Any]) -> None:
        categories = _categories(content)
        names = [category["name"] for category in categories]
        self.classes = ("background", *names)
        self.things = tuple(names)
        official = [part.rpartition(" ") for part in _COLOURS.replace("\n", " ").split(", ")]
        colours = {name.strip(): bytes.fromhex(code) for name, _, code in official}
        self.palette = voc_palette(len(self.classes))
        for label, name in enumerate(names, start=1):
            self.palette[label] = list(colours.get(name, self.palette[label]))
        self._label = {category["id"]: i for i, category in enumerate(categories, start=1)}
        images = sorted(content["images"], key=lambda image: image["id"])
        self._images = not_empty(images, f"{self.path}: images")
        self._objects: dict[int, list[dict]] = {image["id"]: [] for image in self._images}
        for annotation in content["annotations"]:
            if annotation["image_id"] in self._objects:
                self._objects[annotation["image_id"]].append(annotation)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        entry = self._images[index]
        image_path = self.folder / entry["file_name"]
        image = read_image(image_path)
        size = (image.shape[0], image.shape[1])
        mask, instances = np.zeros(size, np.int64), np.zeros(size, np.int64)
        objects = [(self._decode(a, entry, size), a) for a in self._objects[entry["id"]]]
        crowds = [area for area, a in objects if a.get("iscrowd", 0)]
        singles = [(area, a) for area, a in objects if not a.get("iscrowd", 0)]
        for area in crowds:
            mask[area] = IGNORE_INDEX
        singles.sort(key=lambda item: -item[0].sum())
        for number, (area, annotation) in enumerate(singles, start=1):
            mask[area] = self._label[annotation["category_id"]]
            instances[area] = number
        return checked_sample(
            image,
            mask,
            instances,
            classes=len(self.classes),
            image_path=image_path,
            mask_path=self.path,
        )

    def _decode(self, annotation: dict, entry: dict, size: tuple[int, int]) -> np.ndarray:
        where = f"{self.path}: object {annotation.get('id')} of {self.folder / entry['file_name']}"
        with _naming(where):
            if (entry["height"], entry["width"]) != size:
                raise ValueError(
                    f"the annotation is for {entry['width']}x{entry['height']} pixels, "
                    f"but the image has {size[1]}x{size[0]}"
                )
            if annotation["category_id"] not in self._label:
                raise ValueError(f"category {annotation['category_id']} is not in the file's list")
            return rle.decode(annotation["segmentation"], size)


class COCOPanoptic(Dataset):
    """COCO's panoptic segments: things and stuff, each pixel in one segment (133 categories).

    split, annotations, images: as for `COCOInstances`; the label PNGs lie in the folder that has
    the JSON file's name without ".json". A PNG's colour is the segment's id, red + 256 green +
    65536 blue; 0 is void. A crowd keeps its category, as in COCO's own conversion to semantic
    labels, but is no instance.
    """

    def __init__(
        self,
        root: PathLike | None = None,
        split: str = "train",
        annotations: PathLike | None = None,
        images: PathLike | None = None,
    ) -> None:
        self.path, self.folder = _locate("panoptic", root, split, annotations, images)
        content = _read_json(self.path)
        with _naming(str(self.path)):
            self._index(content)

    def _index(self, content: dict[str, Any]) -> None:
        categories = _categories(content)
        self.classes = tuple(category["name"] for category in categories)
        self.things = tuple(c["name"] for c in categories if c["isthing"])
        self.palette = np.array([category["color"] for category in categories], np.uint8)
        self._label = {category["id"]: i for i, category in enumerate(categories)}
        self._thing_ids = {category["id"] for category in categories if category["isthing"]}
        names = {image["id"]: image["file_name"] for image in content["images"]}
        entries = [
            (names[a["image_id"]], a["file_name"], a["segments_info"])
            for a in sorted(content["annotations"], key=lambda a: a["image_id"])
        ]
        self._entries = not_empty(entries, f"{self.path}: annotations")

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        image_name, mask_name, segments = self._entries[index]
        mask_path = self.path.with_suffix("") / mask_name
        ids = read_colours(mask_path).astype(np.int64) @ [1, 256, 65536]
        mask = np.full(ids.shape, IGNORE_INDEX)
        instances = np.zeros(ids.shape, np.int64)
        things = 0
        with _naming(f"{self.path}: segments of {mask_name}"):
            for segment in segments:
                if segment["category_id"] not in self._label:
                    raise ValueError(f"category {segment['category_id']} is not in the file's list")
                pixels = ids == segment["id"]
                mask[pixels] = self._label[segment["category_id"]]
                if segment["category_id"] in self._thing_ids and not segment.get("iscrowd", 0):
                    things += 1
                    instances[pixels] = things
        unknown = (mask == IGNORE_INDEX) & (ids != 0)
        if unknown.any():
            raise ValueError(f"{mask_path}: segment {ids[unknown][0]} is not in {self.path}")
        image_path = self.folder / image_name
        return checked_sample(
            read_image(image_path),
            mask,
            instances,
            classes=len(self.classes),
            image_path=image_path,
            mask_path=mask_path,
        )


def _locate(
    kind: str,
    root: PathLike | None,
    split: str,
    annotations: PathLike | None,
    images: PathLike | None,
) -> tuple[Path, Path]:
    """The JSON file and the folder of the images."""
    if annotations is not None:
        if images is None:
            raise ValueError("COCO: annotations= needs images=, the folder of the images")
        return Path(annotations), Path(images)
    check_split("COCO", split, ("train", "val"))
    name = f"annotations/{kind}_{split}2017.json"
    folder = find_root(root, ("coco", "COCO"), (name,), _GET)
    return folder / name, folder / f"{split}2017"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both one
        raise ValueError(f"{path}: broken, or no JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path}: has no list {key!r}, as a COCO file has")
    return content


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """An error inside, from a file with unexpected contents, is raised with the place it is at."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{where}: {what}") from error


def _categories(content: dict[str, Any]) -> list[dict[str, Any]]:
    categories = sorted(content["categories"], key=lambda category: category["id"])
    if len(categories) >= IGNORE_INDEX:
        raise ValueError(f"{len(categories)} categories, needs fewer than {IGNORE_INDEX}")
    return categories
