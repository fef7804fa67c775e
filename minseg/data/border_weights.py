"""U-Net's border weights: the gaps between cells are small, but have to be learnt.

    w(x) = w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)),   d1, d2: the distances to the nearest cells

for each pixel x of the background; 0 in a cell. A gap of one pixel has d1 = d2 = 1. The weights are
added to those of the classes: `--loss "cross_entropy + border"`. Where masks touch there is no gap
to weight; those of the paper leave one.

Source: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, section 3, equation 2 and figure 3
"""

import math

import numpy as np

from minseg.ops.distance import distance_transform

REACH = 8  # in sigma: a d1 + d2 of this gives exp(-32), negligible beside 1


def border_definition(instances: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """The formula, pixel by pixel and cell by cell."""
    weights = np.zeros(instances.shape)
    cells = [np.argwhere(instances == label) for label in np.unique(instances) if label > 0]
    for pixel in np.ndindex(instances.shape):
        distances = sorted(min(math.dist(pixel, other) for other in cell) for cell in cells)
        if instances[pixel] == 0 and len(cells) > 1:
            weights[pixel] = w0 * math.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


def border_weights(instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """The weight of each pixel; instances (H, W) integers, 0 no cell -> (H, W) float32."""
    first, second = np.full((2, *instances.shape), np.inf)
    reach = math.ceil(REACH * sigma)
    for label in np.unique(instances[instances > 0]):
        rows, columns = (instances == label).nonzero()
        window = tuple(
            slice(max(places.min() - reach, 0), places.max() + reach + 1)
            for places in (rows, columns)
        )
        distance = distance_transform(instances[window] == label)
        near = first[window]
        second[window] = np.minimum(second[window], np.maximum(near, distance))
        first[window] = np.minimum(near, distance)
    weights = w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    return np.where(instances > 0, 0, weights).astype(np.float32)
