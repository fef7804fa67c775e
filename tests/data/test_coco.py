"""COCO's official layouts, written small into a folder and read back."""

import json

import numpy as np
import pytest

from minseg.data import (
    COCOInstances,
    COCOPanoptic,
    open_dataset,
    rle,
)
from tests.data.official import SIZE, check, pixels, save


def coco_set(tmp_path, annotations, kind="instances"):
    image = save(tmp_path / "coco" / "val2017" / "7.png", pixels(*SIZE, 3))
    categories = [
        {"id": 44, "name": "bottle", "isthing": 1, "color": [1, 2, 3]},
        {"id": 3, "name": "car", "isthing": 1, "color": [4, 5, 6]},
        {"id": 119, "name": "sky", "isthing": 0, "color": [7, 8, 9]},
    ]
    entry = {"id": 7, "file_name": "7.png", "height": SIZE[0], "width": SIZE[1]}
    content = {"images": [entry], "annotations": annotations, "categories": categories}
    path = tmp_path / "coco" / "annotations" / f"{kind}_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return image


def rectangle(top, left, bottom, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_coco_instances(tmp_path):
    crowd, large, small = rectangle(0, 0, 6, 3), rectangle(0, 2, 4, 8), rectangle(3, 2, 5, 4)
    text = rle.counts_to_text(rle.mask_to_counts(small))
    annotations = [
        {"segmentation": {"size": [6, 8], "counts": text}, "category_id": 44, "iscrowd": 0},
        {"segmentation": [[2, 0, 8, 0, 8, 4, 2, 4]], "category_id": 3},
        {"segmentation": {"size": [6, 8], "counts": rle.mask_to_counts(crowd)},
         "category_id": 3, "iscrowd": 1},
    ]  # fmt: skip
    annotations = [{**a, "id": i, "image_id": 7} for i, a in enumerate(annotations)]
    image = coco_set(tmp_path, annotations)
    data = open_dataset("coco", "val", root=tmp_path)
    assert data.classes == ("background", "car", "bottle", "sky")  # in order of the ids
    assert data.palette[1].tolist() == [0, 0, 142]  # COCO's own colour of a car
    mask = np.zeros(SIZE, int)
    mask[crowd], mask[large], mask[small] = 255, 1, 2
    instances = np.zeros(SIZE, int)
    instances[large], instances[small] = 1, 2
    check(data[0], image, mask, instances)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": [[1, 2, 3, 4]]}, "at least 3 corners"),
        ({"segmentation": {"size": [6, 9], "counts": [54]}}, r"size \[6, 9\]"),
        ({"segmentation": {"size": [6, 8], "counts": [4]}}, "sum to 4"),
        ({"category_id": 5}, "category 5"),
        ({"segmentation": None}, "NoneType"),
        ({"segmentation": {"size": [6, 8]}}, "'counts' is missing"),
        ({"segmentation": {"size": [6, 8], "counts": ["48"]}}, "whole numbers"),
        ({"segmentation": [[0, 0, 4, 0, 4, "x"]]}, "could not convert"),
    ],
)
def test_coco_errors_name_file_and_object(tmp_path, change, words):
    annotation = {"segmentation": [[0, 0, 4, 0, 4, 4]], "category_id": 3, "id": 91, "image_id": 7}
    coco_set(tmp_path, [{**annotation, **change}])
    with pytest.raises(
        ValueError, match=rf"instances_val2017\.json: object 91 of .*7\.png: .*{words}"
    ):
        open_dataset("coco", "val", root=tmp_path)[0]


def test_coco_image_of_another_size(tmp_path):
    annotation = {"segmentation": [[0, 0, 4, 0, 4, 4]], "category_id": 3, "id": 91, "image_id": 7}
    coco_set(tmp_path, [annotation])
    save(tmp_path / "coco" / "val2017" / "7.png", pixels(3, 4, 3))
    with pytest.raises(ValueError, match=r"7\.png: the annotation is for 8x6 .* has 4x3"):
        COCOInstances(tmp_path, "val")[0]


def test_coco_panoptic(tmp_path):
    ids = np.zeros(SIZE, int)
    ids[:2], ids[2:4, :4], ids[2:4, 4:], ids[4:, :3] = 70000, 300, 301, 5
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    path = tmp_path / "coco" / "annotations" / "panoptic_val2017" / "7.png"
    segments = [
        {"id": 70000, "category_id": 119, "iscrowd": 0},
        {"id": 300, "category_id": 44, "iscrowd": 0},
        {"id": 301, "category_id": 44},
        {"id": 5, "category_id": 3, "iscrowd": 1},
    ]
    annotation = {"image_id": 7, "file_name": "7.png", "segments_info": segments}
    image = coco_set(tmp_path, [annotation], "panoptic")
    save(path, colours)
    data = open_dataset("coco-panoptic", "val", root=tmp_path)
    assert (data.classes, data.things) == (("car", "bottle", "sky"), ("car", "bottle"))
    assert data.palette.tolist() == [[4, 5, 6], [1, 2, 3], [7, 8, 9]]
    mask = np.full(SIZE, 255)
    mask[:2], mask[2:4], mask[4:, :3] = 2, 1, 0
    instances = np.zeros(SIZE, int)
    instances[2:4, :4], instances[2:4, 4:] = 1, 2
    check(data[0], image, mask, instances)
    del segments[2]
    coco_set(tmp_path, [annotation], "panoptic")
    with pytest.raises(ValueError, match=r"panoptic_val2017/7\.png: segment 301"):
        COCOPanoptic(tmp_path, "val")[0]
    segments.append({"id": 301, "category_id": 5})
    coco_set(tmp_path, [annotation], "panoptic")
    with pytest.raises(ValueError, match=r"panoptic_val2017\.json: .*7\.png: category 5"):
        COCOPanoptic(tmp_path, "val")[0]
    segments[-1] = {"id": 301}
    coco_set(tmp_path, [annotation], "panoptic")
    with pytest.raises(ValueError, match=r"7\.png: 'category_id' is missing"):
        COCOPanoptic(tmp_path, "val")[0]


@pytest.mark.parametrize("kind", [COCOInstances, COCOPanoptic])
def test_a_json_of_another_form_is_named(kind, tmp_path):
    path = tmp_path / "own.json"
    image, category = {"id": 1, "file_name": "1.png"}, {"id": 1, "name": "car"}
    for content, error, words in [
        ({"images": [{}], "annotations": [{}], "categories": [category]}, ValueError, "missing"),
        ({"images": [image], "annotations": [], "categories": [7]}, ValueError, "int"),
        ({"images": [], "annotations": [], "categories": []}, FileNotFoundError, "no images"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(error, match=rf"own\.json: .*{words}"):
            kind(annotations=path, images=tmp_path)


def test_coco_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cocodataset\.org"):
        COCOInstances(tmp_path)
    path = tmp_path / "own.json"
    for text, words in [
        ("{", "no JSON"),
        ("[]", "no list 'images'"),
        ('{"images": []}', "annotations"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"own\.json.*{words}"):
            COCOInstances(annotations=path, images=tmp_path)
    with pytest.raises(ValueError, match="images="):
        COCOInstances(annotations=path)
