"""Reading images and label maps from files, and finding the folder that holds a data set.

Every error names the file.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minseg.data.dataset import IGNORE_INDEX, Sample, check_labels
from minseg.files import PathLike

_Samples = TypeVar("_Samples", bound=Sequence)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")  # of image files
_LOSSY = ("JPEG", "MPO", "WEBP")
_CODE = np.array([1 << 16, 1 << 8, 1])  # a colour as one number


def read_image(path: PathLike, channels: int = 3, page: int = 0) -> np.ndarray:
    """The image as (H, W, channels) float32 in 0..1; channels is 3 (RGB) or 1 (grey).

    For RGB, grey and palette images are converted; for grey, colours become luma. An alpha channel
    is dropped, 16-bit grey keeps its precision. A photo that says which side is up (EXIF) is turned
    accordingly. `page` is the slice of a multi-page TIFF.

    Raises OSError for a file that is broken or no image, ValueError for floating-point pixels.
    """
    if channels not in (1, 3):
        raise ValueError(f"read_image: channels: got {channels}, needs 1 or 3")
    image = _open(path, page)
    if image.mode.startswith("I"):
        grey = _sixteen_bit(image, path) / np.float32(65535)
        return np.repeat(grey[:, :, None], channels, axis=2)
    if image.mode == "F":
        raise ValueError(f"{path}: floating-point pixels have no known white; save 8 or 16 bits")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # by way of RGBA: pillow warns of transparency otherwise
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    return pixels.reshape(*pixels.shape[:2], channels)


def read_labels(
    path: PathLike, page: int = 0, colours: Mapping[tuple[int, ...], int] | None = None
) -> np.ndarray:
    """The stored indices of a label map, (H, W) int64: palette, grey, 1-bit or 16-bit.

    A grey map that was saved as RGB or with an alpha channel is read as grey. With `colours`, (red,
    green, blue) -> label, the colours of an RGB file are looked up there instead.
    Raises OSError for a broken file; ValueError for a colour without a label, values that are not
    whole numbers, 16 bits per colour, and a format whose compression changes labels.
    """
    image = _open(path, page)
    if image.format in _LOSSY:
        raise ValueError(f"{path}: {image.format} changes the values of pixels; save labels as PNG")
    if image.mode.startswith("I"):
        return _sixteen_bit(image, path).astype(np.int64)
    if image.mode == "F":
        values = np.asarray(image)
        if not (values == np.floor(values)).all():
            raise ValueError(f"{path}: stores fractions, needs class indices")
        return _sixteen_bit(image, path).astype(np.int64)
    if image.mode in ("1", "L", "P"):
        return np.asarray(image).astype(np.int64)
    if _has_sixteen_bit_colours(path, page):
        raise ValueError(
            f"{path}: stores 16 bits a colour, of which only the upper 8 can be read; save labels "
            "as grey PNG (8 or 16 bits), or in a palette"
        )
    if image.mode in ("LA", "PA"):
        return np.asarray(image.getchannel(0)).astype(np.int64)
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    if not colours:
        if (pixels != pixels[:, :, :1]).any():
            raise ValueError(
                f"{path}: stores colours (mode {image.mode}), needs class indices, or, in a folder "
                f"of your own, classes.txt with the colour of each class"
            )
        return pixels[:, :, 0]
    codes = pixels @ _CODE
    labels = np.full(codes.shape, -1)
    for colour, label in colours.items():
        labels[codes == np.dot(colour, _CODE)] = label
    if (labels < 0).any():
        colour = tuple(pixels[labels < 0][0].tolist())
        raise ValueError(f"{path}: colour {colour} belongs to no class")
    return labels


def read_colours(path: PathLike) -> np.ndarray:
    """The file's colours, (H, W, 3) uint8. Raises OSError for a broken file."""
    return np.asarray(_open(path).convert("RGB"))


def page_count(path: PathLike) -> int:
    """How many pages a multi-page TIFF has."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except Exception as error:
        raise _broken(path, error) from error


def _open(path: PathLike, page: int = 0) -> Image.Image:
    try:
        # Given a name, pillow maps the file into memory and mixes up the pixels of a rotated TIFF.
        with open(path, "rb") as file, Image.open(file) as image:
            image.seek(page)
            image.load()  # Image.open reads the header only
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path}: a folder; name the image in it, {path}/...") from None
    except Exception as error:  # a damaged file makes pillow raise nearly anything
        raise _broken(path, error) from error


def _has_sixteen_bit_colours(path: PathLike, page: int) -> bool:
    """Does the file store 16 bits for each of red, green and blue?

    Pillow reads such a file as 8 bits; only the layout that it names before it reads tells.
    """
    with Image.open(path) as image:
        image.seek(page)
        return any(";16" in str(how) for _, _, _, how in image.tile)


def _broken(path: PathLike, error: Exception) -> OSError:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return OSError(f"{path}: has more than {most:,} pixels; cut it into several pictures")
    unknown = isinstance(error, UnidentifiedImageError)  # names a Python object, not the file
    return OSError(f"{path}: broken, or not an image{'' if unknown else f': {error}'}")


def _sixteen_bit(image: Image.Image, path: PathLike) -> np.ndarray:
    values = np.asarray(image)  # pillow says "I;16" or "I", by version
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 65535:
        raise ValueError(f"{path}: values {values.min()}..{values.max()}, needs at most 16 bits")
    return values.astype(np.float32)  # exact up to 2^24


def checked_sample(
    image: np.ndarray,
    mask: np.ndarray,
    instances: np.ndarray | None,
    *,
    classes: int,
    image_path: PathLike,
    mask_path: PathLike,
    instances_path: PathLike | None = None,
) -> Sample:
    """The sample, named after its image file, after a check that its parts fit together.

    Raises ValueError, naming the files, for sizes that differ and for a label without a class.
    """
    height, width = image.shape[:2]
    for labels, path in ((mask, mask_path), (instances, instances_path or mask_path)):
        if labels is not None and labels.shape != (height, width):
            lying = "; label the photo as viewers show it, turned as its EXIF data says"
            raise ValueError(
                f"{path}: the mask is {labels.shape[1]}x{labels.shape[0]} pixels, but its "
                f"image {image_path} is {width}x{height}"
                f"{lying if labels.shape == (width, height) else ''}"
            )
    check_labels(mask, classes, str(mask_path))
    if instances is not None:
        # It is unknown what a void pixel shows, so it belongs to no object.
        instances = np.where(mask == IGNORE_INDEX, 0, instances).astype(np.int32)
    return Sample(image, mask.astype(np.int64), instances, Path(image_path).stem)


def image_files(folder: Path) -> dict[str, Path]:
    """The image files directly in a folder: name without suffix -> path, in order of name.

    Raises ValueError for two whose names differ in the suffix only.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise ValueError(f"{path}: {files[path.stem].name} has the same name; rename one")
            files[path.stem] = path
    return files


def not_empty(samples: _Samples, where: str) -> _Samples:
    """The samples of a data set. Raises FileNotFoundError if there are none."""
    if not samples:
        raise FileNotFoundError(f"{where}: there are no images")
    return samples


def find_root(
    root: PathLike | None, folders: tuple[str, ...], markers: tuple[str, ...], get: str
) -> Path:
    """The folder of a data set: the first of BASE, BASE/folder, ... that has one of `markers`.

    BASE is `root`, or else the environment's MINSEG_DATA: the data set's own folder, or one that
    holds several data sets. `get` says what is missing, and where to get it.

    Raises FileNotFoundError, which says what was looked for, how to get it and where to put it.
    """
    base = root if root is not None else os.environ.get("MINSEG_DATA")
    if not base:
        raise FileNotFoundError(
            f"{get}\nThen say where it is: root=... (--data-root on the command line), or the "
            f"environment variable MINSEG_DATA. Put it into the folder {folders[0]!r} in there."
        )
    places = [Path(base), *(Path(base) / folder for folder in folders)]
    for place in places:
        if any((place / marker).exists() for marker in markers):
            return place
    looked = "\n".join(f"  {place}" for place in places)
    raise FileNotFoundError(
        f"no {' or '.join(markers)} in any of\n{looked}\n{get}\n"
        f"Put it into {places[1]}, or point root= (--data-root) or MINSEG_DATA to its place."
    )
