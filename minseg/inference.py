"""A trained network at work: any size of image, in one piece or in windows.

An image of more pixels than PIXEL_BUDGET would fill the memory. It is cut into overlapping windows,
whose probabilities are blended.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.crf import dense_crf
from minseg.data.resized import Size, resize_image
from minseg.tape import no_grad
from minseg.tensor import Tensor

PIXEL_BUDGET = 1 << 20  # pixels that go through a network in one piece
_WINDOW = 512  # the side of the windows of a larger image
CRF_PIXELS = 1 << 18  # an image with more is shrunk to so many for the CRF


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, the network is in evaluation mode and nothing is recorded."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(was_training)


def as_batch(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) as a batch of one, (1, C, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))[None]


def forward(model: Any, images: np.ndarray, size: tuple[int, ...]) -> Tensor:
    """The logits (N, K, *size) of images (N, C, H, W), on the device of the model's weights.

    A network whose convolutions are "valid" gets the images in a mirrored frame, so that its
    smaller output covers them (Ronneberger et al. 2015, figure 2: the overlap-tile strategy).
    """
    height, width = images.shape[2:]
    frame = [(0, 0), (0, 0), *(_margin(model, side) for side in (height, width))]
    padded = np.pad(images, frame, mode="reflect") if any(map(any, frame)) else images
    device = next(model.parameters()).device
    out = model(Tensor(padded).to(device))
    logits = out["out"] if isinstance(out, dict) else out
    if logits.shape[2:] != (height, width):
        top, left = (logits.shape[2] - height) // 2, (logits.shape[3] - width) // 2
        logits = logits[:, :, top : top + height, left : left + width]
    if logits.shape[2:] != tuple(size):
        logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    return logits


def output_size(model: Any, height: int, width: int) -> tuple[int, int]:
    """The size of the logits for an image: the same, unless the network says otherwise.

    Raises ValueError for a size that a network of "valid" convolutions does not allow.
    """
    if not hasattr(model, "output_size"):
        return height, width
    return model.output_size(height, width)


def lost_frame(model: Any, height: int, width: int) -> tuple[int, int]:
    """How many rows and columns of an image the logits lack on each side.

    Raises ValueError for a size that a network of "valid" convolutions does not allow.
    """
    rows, columns = output_size(model, height, width)
    return (height - rows) // 2, (width - columns) // 2


def _margin(model: Any, side: int) -> tuple[int, int]:
    """How many pixels to add on both sides so that as many as `side` come out."""
    for total in range(side, 4 * side + 2000):
        try:
            covered = output_size(model, total, total)[0]
        except ValueError:  # not a size for this network
            continue
        if covered >= side:
            before = (total - side) // 2
            return before, total - side - before
    raise ValueError(f"no frame makes the network's output cover {side} pixels")


def in_windows(
    model: Any,
    image: np.ndarray,
    window: int | None = None,
    on_window: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The probabilities (K, H, W) of a normalised image (H, W, C), whole or in blended windows.

    A window's weight falls off linearly from its middle, where the network sees most around a
    pixel, to its border. on_window: called after each.
    """
    height, width = image.shape[:2]
    total = np.zeros((0, height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for rows, columns in windows(height, width, window):
        piece = _probabilities(model, image[rows, columns])
        weight = np.minimum(*np.meshgrid(*map(_ramp, piece.shape[1:]), indexing="ij"))
        if not len(total):
            total = np.zeros((len(piece), height, width), np.float32)
        total[:, rows, columns] += piece * weight
        weights[rows, columns] += weight
        on_window()
    total /= weights
    return total


def windows(height: int, width: int, window: int | None = None) -> list[tuple[slice, slice]]:
    """The rows and columns of each window; neighbours share a quarter of their side.

    window: their side; default: all of an image within the budget, else 512.
    """
    if window is None:
        window = _WINDOW if height * width > PIXEL_BUDGET else max(height, width)
    if window < 1:
        raise ValueError(f"window: got {window}, needs at least 1")
    return [
        (slice(top, top + window), slice(left, left + window))
        for top in _starts(height, window)
        for left in _starts(width, window)
    ]


def _probabilities(model: Any, image: np.ndarray) -> np.ndarray:
    with evaluating(model):
        logits = forward(model, as_batch(image), image.shape[:2])
        return F.softmax(logits, dim=1).numpy()[0]


def _starts(length: int, window: int) -> list[int]:
    """Where windows start: evenly spread, so that they share a quarter at least."""
    if length <= window:
        return [0]
    step = max(1, window - window // 4)
    count = math.ceil((length - window) / step) + 1
    return [round(index * (length - window) / (count - 1)) for index in range(count)]


def _ramp(length: int) -> np.ndarray:
    index = np.arange(length, dtype=np.float32)
    return np.minimum(index + 1, length - index)


def refine(
    probabilities: np.ndarray, image: np.ndarray, on_iteration: Callable[[], None] | None = None
) -> np.ndarray:
    """Probabilities (K, h, w) refined by a fully connected CRF on the image (H, W, C).

    Returns (K, H, W), or, where the image has more than CRF_PIXELS, the size it was shrunk to.
    """
    size = at_most(CRF_PIXELS, image.shape[:2])
    picture = resize_image(image, size)
    return dense_crf(resize_maps(probabilities, size), picture, on_iteration=on_iteration)


def at_most(pixels: int, size: Size) -> Size:
    """The size, shrunk to so many pixels if it has more."""
    shrink = min(1.0, math.sqrt(pixels / math.prod(size)))
    return max(1, int(size[0] * shrink)), max(1, int(size[1] * shrink))


def resize_maps(maps: np.ndarray, size: Size) -> np.ndarray:
    """Maps (K, H, W) at another size, bilinearly."""
    return resize_image(maps.transpose(1, 2, 0), size).transpose(2, 0, 1)
