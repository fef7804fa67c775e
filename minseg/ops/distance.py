"""The exact Euclidean distance of every pixel to the nearest pixel of a mask.

First along columns: the distance g to the nearest pixel of the mask above or below. Then along
rows: d^2(r, c) = min over k of g(r, c + k)^2 + k^2, for k = 0, 1, -1, 2, ... until k^2 alone is no
less than every pixel's d^2 so far.

Source: Saito & Toriwaki, "New algorithms for Euclidean distance transformation of an n-dimensional
        digitized picture", 1994
"""

import numpy as np


def distance_definition(mask: np.ndarray) -> np.ndarray:
    """The distance from each pixel to each True pixel of the mask (H, W); the least counts."""
    marked = np.argwhere(mask)
    d = np.full(mask.shape, np.inf)
    for pixel in np.ndindex(mask.shape):
        for other in marked:
            d[pixel] = min(d[pixel], np.hypot(*(other - pixel)))
    return d


def distance_transform(mask: np.ndarray) -> np.ndarray:
    """mask (..., H, W), bool -> distances to its True pixels, float64; inf where it has none."""
    height, width = mask.shape[-2:]
    squared = _along_columns(mask, height) ** 2
    nearest = squared.copy()
    for k in range(1, width):
        if not (nearest > k * k).any():
            break
        left, right = nearest[..., :-k], nearest[..., k:]
        np.minimum(left, squared[..., k:] + k * k, out=left)
        np.minimum(right, squared[..., :-k] + k * k, out=right)
    return np.sqrt(nearest)


def _along_columns(mask: np.ndarray, height: int) -> np.ndarray:
    """The distance g; inf in a column without a pixel of the mask."""
    row = np.arange(height, dtype=np.float64)[:, None]
    above = np.maximum.accumulate(np.where(mask, row, -np.inf), axis=-2)
    below = np.minimum.accumulate(np.where(mask, row, np.inf)[..., ::-1, :], axis=-2)[..., ::-1, :]
    return np.minimum(row - above, below - row)


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """mask (..., H, W) -> outside it the distance to it, inside 1 - the distance to the outside.

    So the mask's own edge pixels are at 0, the first pixels outside at 1. A mask that is empty or
    covers its image has no edge: its distances are 0.
    """
    outside, inside = distance_transform(mask), distance_transform(~mask)
    with np.errstate(invalid="ignore"):
        signed = np.where(mask, 1 - inside, outside)
    return np.where(np.isfinite(signed), signed, 0)
