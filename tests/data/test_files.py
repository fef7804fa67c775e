"""Reading image and label files of every kind, and saying which one is broken."""

import struct
import subprocess
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from minseg.data.dataset import check_labels
from minseg.data.files import find_root, read_image, read_labels

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = GENERATOR.integers(0, 65536, (5, 7), dtype=np.uint16)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def save_palette(path, indices):
    image = Image.fromarray(indices).convert("L")
    image = Image.frombytes("P", image.size, indices.tobytes())
    image.putpalette(bytes(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8)))
    image.save(path)
    return path


def test_images_of_every_mode(tmp_path):
    rgba = np.dstack([COLOUR, GREY])
    for name, array, expected in [
        ("grey.png", GREY, np.repeat(GREY[:, :, None], 3, 2) / 255),
        ("rgb.png", COLOUR, COLOUR / 255),
        ("rgb.tif", COLOUR, COLOUR / 255),
        ("rgba.png", rgba, COLOUR / 255),  # the alpha channel is dropped
        ("grey-alpha.png", np.dstack([GREY, GREY]), np.repeat(GREY[:, :, None], 3, 2) / 255),
        ("deep.png", DEEP, np.repeat(DEEP[:, :, None], 3, 2) / 65535),
        ("deep.tif", DEEP, np.repeat(DEEP[:, :, None], 3, 2) / 65535),
        ("bits.png", GREY > 99, np.repeat(GREY[:, :, None] > 99, 3, 2)),
    ]:
        image = read_image(save(tmp_path / name, array))
        assert (image.dtype, image.shape) == (np.float32, (5, 7, 3)), name
        np.testing.assert_allclose(image, expected, rtol=0, atol=2**-24, err_msg=name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_photo_is_turned_as_its_camera_says(tmp_path, suffix):
    # EXIF 2.3, tag 274: which side of the scene the stored first row and first column show.
    smooth = np.add.outer(20 * np.arange(5), 9 * np.arange(7)).astype(np.uint8)  # JPEG keeps it
    turned = {1: smooth, 3: smooth[::-1, ::-1], 6: np.rot90(smooth, -1), 8: np.rot90(smooth)}
    for orientation, expected in turned.items():
        exif = Image.Exif()
        exif[274] = orientation
        path = save(tmp_path / f"{orientation}.{suffix}", smooth, exif=exif)
        np.testing.assert_allclose(255 * read_image(path, 1)[:, :, 0], expected, atol=4)
        if suffix != "jpg":
            np.testing.assert_array_equal(read_labels(path), expected)


def test_images_in_grey(tmp_path):
    grey = read_image(save(tmp_path / "grey.png", GREY), channels=1)
    with pytest.raises(ValueError, match="channels: got 2, needs 1 or 3"):
        read_image(tmp_path / "grey.png", channels=2)
    np.testing.assert_allclose(grey, GREY[:, :, None] / 255, rtol=0, atol=2**-24)
    deep = read_image(save(tmp_path / "deep.png", DEEP), channels=1)
    np.testing.assert_allclose(deep, DEEP[:, :, None] / 65535, rtol=0, atol=2**-24)
    luma = read_image(save(tmp_path / "rgb.png", COLOUR), channels=1)
    expected = COLOUR @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(luma[:, :, 0], expected, atol=0.51 / 255)  # pillow rounds to 8 bits


def test_palette_images_show_their_colours(tmp_path):
    indices = GREY % 5
    path = save_palette(tmp_path / "palette.png", indices)
    palette = np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).reshape(256, 3)
    np.testing.assert_allclose(read_image(path), palette[indices] / 255, atol=2**-24)


def test_labels_of_every_mode(tmp_path):
    same = np.repeat(GREY[:, :, None], 3, 2)
    for name, array, expected in [
        ("grey.png", GREY, GREY),
        ("deep.png", DEEP, DEEP),
        ("bits.png", GREY > 99, GREY > 99),
        ("rgb.png", same, GREY),  # grey that was saved as colour
        ("rgba.png", np.dstack([same, GREY]), GREY),
        ("grey-alpha.png", np.dstack([GREY, DEEP.astype(np.uint8)]), GREY),
    ]:
        labels = read_labels(save(tmp_path / name, array))
        assert labels.dtype == np.int64, name
        np.testing.assert_array_equal(labels, expected, err_msg=name)
    # A palette PNG stores indices; its colours say nothing.
    labels = read_labels(save_palette(tmp_path / "palette.png", GREY))
    np.testing.assert_array_equal(labels, GREY)


def test_labels_may_not_be_colours_unless_these_are_known(tmp_path):
    colours = np.array([[[10, 20, 30], [1, 2, 3]], [[1, 2, 3], [255, 255, 255]]], np.uint8)
    path = save(tmp_path / "colours.png", colours)
    with pytest.raises(ValueError, match=r"colours\.png: stores colours"):
        read_labels(path)
    near = {(0, 0, 128): 1, (0, 1, 0): 2, (0, 128, 0): 3, (1, 0, 0): 5}
    neighbours = save(tmp_path / "near.png", np.array([list(near)], np.uint8))
    assert read_labels(neighbours, colours=near).tolist() == [[1, 2, 3, 5]]
    known = {(10, 20, 30): 4, (1, 2, 3): 0, (255, 255, 255): 9}
    assert read_labels(path, colours=known).tolist() == [[4, 0], [0, 9]]
    del known[1, 2, 3]
    with pytest.raises(ValueError, match=r"colours\.png: colour \(1, 2, 3\)"):
        read_labels(path, colours=known)


def test_labels_that_a_format_smears_are_refused(tmp_path):
    for suffix in ("jpg", "webp"):
        with pytest.raises(ValueError, match=rf"a\.{suffix}: .*save labels as PNG"):
            read_labels(save(tmp_path / f"a.{suffix}", GREY))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_labels_of_16_bits_a_colour_are_refused(kind, channels, tmp_path):
    """By the PNG specification: RGB, grey and alpha, RGBA. Their low bytes hold the indices."""
    path, labels = tmp_path / "labels.png", np.arange(12).reshape(3, 4, 1)
    rows = labels.repeat(channels, axis=2).astype(">u2").reshape(3, -1)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 3, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in parts:
            file.write(struct.pack(">I", len(data)) + name + data)
            file.write(struct.pack(">I", zlib.crc32(name + data)))
    for colours in (None, {(0, 0, 0): 0}):
        with pytest.raises(ValueError, match=r"labels.png: stores 16 bits a colour.*grey PNG"):
            read_labels(path, colours=colours)
    assert read_image(path).shape == (3, 4, 3)


def test_labels_in_floating_point(tmp_path):
    whole = np.array([[0, 1, 2], [255, 256, 65535]], np.float32)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "a.tif", whole)), whole)
    for value in (0.5, -1, np.nan, 65536):
        with pytest.raises(ValueError, match=r"b\.tif: "):
            read_labels(save(tmp_path / "b.tif", np.full((2, 3), value, np.float32)))


def test_a_picture_beyond_pillow_s_limit_is_not_called_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 17)
    with pytest.raises(OSError, match=r"a\.png: has more than 34 pixels"):
        read_image(save(tmp_path / "a.png", GREY))


def test_a_large_photo_is_no_attack(tmp_path):
    save(tmp_path / "a.png", GREY)  # 35 pixels, of which pillow would warn
    script = (
        "from PIL import Image; Image.MAX_IMAGE_PIXELS = 30; "
        "from minseg.cli import main; main(['predict', 'a.png'])"
    )
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run([sys.executable, "-c", script]).stderr == ""


def test_pages(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_labels(tmp_path / "stack.tif", 1), 255 - GREY)
    image = read_image(tmp_path / "stack.tif", 1, page=1)
    np.testing.assert_allclose(image[:, :, 0], (255 - GREY) / 255, atol=2**-24)
    with pytest.raises(OSError, match=r"stack\.tif"):
        read_labels(tmp_path / "stack.tif", 2)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # pillow, before it gives up
@pytest.mark.parametrize("read", [read_image, read_labels])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, read, suffix, share):
    array = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = save(tmp_path / f"whole.{suffix}", array).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(OSError, match=rf"cut\.{suffix}: broken"):
        read(path)


def test_a_folder_and_a_text_in_place_of_an_image(tmp_path):
    with pytest.raises(IsADirectoryError, match="a folder; name the image in it"):
        read_image(tmp_path)
    (tmp_path / "note.jpg").write_text("hello")
    with pytest.raises(OSError, match=r"note\.jpg: broken, or not an image$"):
        read_image(tmp_path / "note.jpg")


def test_a_damaged_file_and_no_image_are_named(tmp_path):
    whole = bytearray(save(tmp_path / "whole.png", GREY).read_bytes())
    whole[-30] ^= 0xFF  # in the compressed pixels, or their checksum
    (tmp_path / "damaged.png").write_bytes(whole)
    with pytest.raises(OSError, match=r"damaged\.png"):
        read_image(tmp_path / "damaged.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(OSError, match=r"text\.png"):
        read_labels(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        read_image(tmp_path / "missing.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        read_image(tmp_path / "folder")


def test_pixels_without_a_known_white_are_refused(tmp_path):
    path = save(tmp_path / "float.tif", GREY.astype(np.float32))
    with pytest.raises(ValueError, match=r"float\.tif"):
        read_image(path)
    path = save(tmp_path / "wide.tif", np.array([[70000, 1]], np.int32))
    with pytest.raises(ValueError, match=r"wide\.tif.*70000"):
        read_image(path)


def test_labels_have_a_class_or_are_void():
    check_labels(np.array([[0, 4, 255]]), 5, "m.png")
    for label in (-1, 5, 254, 256):
        with pytest.raises(ValueError, match=rf"m\.png: label {label} \(1 pixel.*0\.\.4 or 255"):
            check_labels(np.array([[0, label, 255]]), 5, "m.png")


def test_the_root_is_looked_for(tmp_path, monkeypatch):
    search = (("set", "SET"), ("marker", "other"), "The set is missing. Get it: example.org")
    (tmp_path / "SET" / "other").mkdir(parents=True)
    assert find_root(tmp_path, *search) == tmp_path / "SET"
    assert find_root(tmp_path / "SET", *search) == tmp_path / "SET"
    monkeypatch.setenv("MINSEG_DATA", str(tmp_path))
    assert find_root(None, *search) == tmp_path / "SET"
    with pytest.raises(FileNotFoundError) as error:
        find_root(tmp_path / "elsewhere", *search)
    for words in ("marker or other", str(tmp_path / "elsewhere" / "set"), "Get it: example.org"):
        assert words in str(error.value)
    monkeypatch.delenv("MINSEG_DATA")
    with pytest.raises(FileNotFoundError, match="MINSEG_DATA") as error:
        find_root(None, *search)
    assert "--data-root" in str(error.value)
