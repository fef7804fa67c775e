"""COCO's masks: polygons and run lengths, converted to and from arrays.

A mask is read column by column, top to bottom. Its run lengths count zeros, ones, zeros, ... in
turn, starting with zeros (the first count may be 0):

    uncompressed: the counts as they are, {"size": [H, W], "counts": [3, 2, ...]}
    compressed:   the counts as text, {"size": [H, W], "counts": "32..."}

In the text each count from the fourth on is replaced by its difference to the count two before
it (runs of neighbouring columns are alike). Then each number is cut into groups of 5 bits, the
lowest first, with a sixth bit that says if more follow, and 48 is added to get a printable
character. Negative numbers are in two's complement: the last group's highest bit is the sign.

Source: https://cocodataset.org/#format-data and the comments of cocoapi's maskApi.h.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_UPSAMPLE = 5  # COCO draws the outlines of polygons on a grid 5 times as fine
_FAR = 100_000  # more than the side of any image: the outline is drawn point by point


def decode(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The boolean mask (H, W) of a COCO "segmentation": polygons or either kind of run lengths.

    Raises ValueError for one of another size, or with counts that do not fill it.
    """
    if isinstance(segmentation, list):
        masks = [polygon_mask(polygon, size) for polygon in segmentation]
        return np.logical_or.reduce(masks) if masks else np.zeros(size, bool)
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"segmentation: size {segmentation['size']}, needs {list(size)}")
    counts = segmentation["counts"]
    return counts_to_mask(text_to_counts(counts) if isinstance(counts, str) else counts, size)


def counts_to_mask(counts: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Run lengths to the boolean mask (H, W)."""
    if not all(isinstance(count, int | np.integer) for count in counts):
        raise ValueError("run lengths: they are not all whole numbers")
    if min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
        raise ValueError(f"run lengths: they sum to {sum(counts)}, needs {size[0]} x {size[1]}")
    ones = np.arange(len(counts)) % 2 == 1
    return np.repeat(ones, counts).reshape(size[::-1]).T


def mask_to_counts(mask: np.ndarray) -> list[int]:
    """The boolean mask (H, W) to run lengths."""
    flat = np.concatenate([[False], mask.T.ravel()]).astype(bool)  # starts with zeros
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def counts_to_text(counts: Sequence[int]) -> str:
    """Run lengths to COCO's compressed text."""
    characters = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            group, value = value & 31, value >> 5  # the shift keeps the sign
            # The last group: the rest is only the sign, and this group's highest bit gives it.
            more = value != (-1 if group & 16 else 0)
            characters.append(chr(48 + (group | 32 * more)))
            if not more:
                break
    return "".join(characters)


def text_to_counts(text: str) -> list[int]:
    """COCO's compressed text to run lengths. Raises ValueError if that is cut off or invalid."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"compressed run lengths: character {character!r} is none of theirs")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths: the text ends within a number")
    return counts


def polygon_mask(polygon: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The pixels (H, W) whose centres lie inside the polygon [x0, y0, x1, y1, ...].

    As COCO defines it: the corners are rounded to a grid of fifths of a pixel, and the outline is
    drawn on it as a digital line. Where it passes the middle of a pixel's column, inside becomes
    outside, and the reverse, from the next centre below on (the even-odd rule).
    """
    height, width = size
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"polygon: {len(polygon)} numbers, needs x and y of at least 3 corners")
    if not np.abs(np.array(polygon, float)).max() <= _FAR:
        raise ValueError(f"polygon: it has a corner further off than {_FAR} pixels, or NaN")
    corners = (np.array(polygon, float).reshape(-1, 2) * _UPSAMPLE + 0.5).astype(int)
    lines = [_line(a, b) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    x, y = np.concatenate(lines).T
    low_x = np.minimum(x[1:], x[:-1])
    low_y = np.minimum(y[1:], y[:-1])
    # Centres of columns lie at 5 c + 2; a step passes one if it goes from there to the next.
    column, rest = np.divmod(low_x, _UPSAMPLE)
    passes = (x[1:] != x[:-1]) & (rest == _UPSAMPLE // 2) & (column >= 0) & (column < width)
    row = np.ceil((low_y[passes] + 0.5) / _UPSAMPLE - 0.5)
    row = np.clip(row, 0, height).astype(int)
    toggles = np.zeros((width, height + 1), np.int64)
    np.add.at(toggles, (column[passes], row), 1)
    return (np.cumsum(toggles[:, :height], axis=1) % 2 == 1).T


def _line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The grid points (n, 2) from start to end: one step along the longer side at a time.

    The other side is rounded as seen from the line's left (or upper) end, so that a line is the
    same in both directions.
    """
    longer = 0 if abs(end[0] - start[0]) >= abs(end[1] - start[1]) else 1
    first, last = (start, end) if start[longer] <= end[longer] else (end, start)
    length = last[longer] - first[longer]
    steps = np.arange(length + 1)
    slope = (last[1 - longer] - first[1 - longer]) / max(length, 1)
    points = np.empty((length + 1, 2), int)
    points[:, longer] = first[longer] + steps
    points[:, 1 - longer] = (first[1 - longer] + slope * steps + 0.5).astype(int)
    return points if first is start else points[::-1]
