"""The real data sets, where the environment's MINSEG_DATA says that they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from minseg.data import (
    VOC,
    CamVid,
    COCOInstances,
    COCOPanoptic,
    Compose,
    DataLoader,
    ElasticDeformation,
    Flip,
    Nuclei,
    RandomCrop,
    open_dataset,
)

ROOT = Path(os.environ.get("MINSEG_DATA", ""))
pytestmark = pytest.mark.skipif(not os.environ.get("MINSEG_DATA"), reason="needs MINSEG_DATA")


def have(name):
    if not (ROOT / name).exists():
        pytest.skip(f"no {name} in MINSEG_DATA")
    return ROOT / name


def test_camvid_at_both_sizes():
    small = have("camvid/small_160x120")
    have("camvid/full_labels_480x360")
    train, val = open_dataset("camvid", "train"), open_dataset("camvid", "val", full_labels=True)
    assert (len(train), len(val)) == (367, 101)
    counts = np.zeros(256, int)
    for index in range(0, 367, 10):
        sample = train[index]
        assert (sample.image.shape, sample.mask.shape) == ((120, 160, 3), (120, 160))
        counts += np.bincount(sample.mask.ravel(), minlength=256)
    assert (counts[:11] > 0).all()  # every class occurs
    assert counts[11:255].sum() == 0
    assert val[0].image.shape[:2] == (120, 160)
    assert val[0].mask.shape == (360, 480)
    # The small label is the middle of a 3 x 3 block of the full one.
    np.testing.assert_array_equal(CamVid(small, "val")[7].mask, val[7].mask[1::3, 1::3])


def test_camvid_shrunk_here_is_camvid_shrunk_there():
    native, small = have("camvid/native_480x360"), have("camvid/small_160x120")
    for split in ("train", "val"):
        known = {sample.name: sample for sample in CamVid(small, split)}
        for sample in CamVid(native, split, size=(120, 160)):
            np.testing.assert_array_equal(sample.mask, known[sample.name].mask)
            # The pack rounds to 8 bits.
            difference = np.abs(sample.image - known[sample.name].image)
            assert difference.max() <= 1 / 255


def test_isbi():
    have("isbi2012")
    train, val = open_dataset("isbi", "train"), open_dataset("isbi", "val")
    assert [s.name for s in train] == [f"{i:02d}" for i in range(16)]
    assert [s.name for s in val] == ["16", "17", "18", "19"]
    assert train[0].image.shape == (512, 512, 1)
    # "All cell" is wrong on the share of membrane in slices 16-19, 0.2109 by the pack's floors.
    assert np.mean([(s.mask == 0).mean() for s in val]) == pytest.approx(0.2109, abs=5e-5)


def test_nuclei_in_both_layouts():
    pack, original = have("nuclei/train"), have("nuclei/original_layout")
    train, val = open_dataset("nuclei", "train"), open_dataset("nuclei", "val")
    assert (len(train), len(val)) == (110, 27)
    assert not set(train.names) & set(val.names)
    known = {sample.name: sample for sample in Nuclei(pack, "all")}
    assert max(sample.instances.max() for sample in known.values()) > 255  # from a 16-bit file
    compared = 0
    for sample in Nuclei(original, "all"):
        np.testing.assert_array_equal(sample.image, known[sample.name].image)
        np.testing.assert_array_equal(sample.mask, known[sample.name].mask)
        assert sample.instances.max() == known[sample.name].instances.max()
        compared += 1
    assert compared == 4


def test_the_same_images_in_four_formats():
    root = have("formats_cc0")
    images = root / "images"
    runs, counts = (
        COCOInstances(annotations=root / f"coco_instances_{kind}.json", images=images)
        for kind in ("rle", "rle_uncompressed")
    )
    panoptic = COCOPanoptic(annotations=root / "coco_panoptic/panoptic_train.json", images=images)
    nuclei = {sample.name: sample for sample in Nuclei(have("nuclei/train"), "all")}
    voc = {sample.name: sample for sample in VOC(root / "voc")}
    assert len(runs) == len(counts) == len(panoptic) == len(voc) == 8
    nucleus = panoptic.classes.index("nucleus")
    for a, b, c in zip(runs, counts, panoptic, strict=True):
        truth = nuclei[a.name]
        for sample in (a, b, c, voc[a.name]):
            np.testing.assert_array_equal(sample.image, truth.image)
        np.testing.assert_array_equal(a.mask, truth.mask)
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_array_equal(c.mask == nucleus, truth.mask == 1)
        known = voc[a.name].mask != 255  # VOC's void border hides the outlines
        np.testing.assert_array_equal(voc[a.name].mask[known], truth.mask[known])
        for sample in (a, b, c):  # the same objects, numbered in another order
            pairs = np.unique(
                np.stack([sample.instances, truth.instances], -1).reshape(-1, 2), axis=0
            )
            assert len(pairs) == truth.instances.max() + 1


def test_voc_photographs_and_coco_polygons():
    root = have("voc2011_labelme")
    voc = {sample.name: sample for sample in VOC(root)}
    coco = COCOInstances(annotations=root / "coco_annotations.json", images=root)
    person = coco.classes.index("person")
    for sample in coco:
        a, b = sample.mask == person, voc[sample.name].mask == VOC.classes.index("person")
        if b.any():  # two drawings of the same people; one polygon's pixels against the other's
            assert (a & b).sum() / (a | b).sum() > 0.9


def test_coco_panoptic_areas():
    root = have("coco_sample")
    data = COCOPanoptic(annotations=root / "panoptic.json", images=root / "images")
    assert (len(data.classes), len(data.things)) == (133, 80)
    detection = COCOInstances(annotations=root / "detection_rle.json", images=root / "images")
    a, b = data[0], detection[0]
    assert a.instances.max() > 10
    people = a.mask == data.classes.index("person")
    same = b.mask[people & (a.instances > 0)] == detection.classes.index("person")
    assert same.all()


def test_training_batches():
    have("isbi2012")
    transform = Compose([Flip(0.5, 0.5), ElasticDeformation("unet"), RandomCrop((128, 128))])
    loader = DataLoader(open_dataset("isbi"), 4, True, 0, transform)
    batch = next(iter(loader))
    assert batch.images.shape == (4, 1, 128, 128)
    assert set(np.unique(batch.masks)) <= {0, 1, 255}
