"""Gaussian sums over all pairs of pixels, computed term by term.

    y_i = sum over j of exp(-|f_i - f_j|^2 / 2) v_j,      f_i the features of pixel i

N pixels have N^2 pairs: a second for 64x64 pixels, half an hour for 500x375. If the features are
the place alone, the Gaussian is separable, a product of one along rows and one along columns: cheap
for any image.

Shapes: values (K, N), features (N, d) -> (K, N)
Source: Kraehenbuehl, Koltun 2011, arXiv:1210.5644, equation 4
"""

import math

import numpy as np

from minseg.parallel import parallel_for

PAIRS_A_BLOCK = 2**17  # a block's matrices stay in a core's cache


def filter_definition(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The formula, pair by pair."""
    sums = np.zeros(values.shape)
    for i in range(len(features)):
        for j in range(len(features)):
            distance = sum((a - b) ** 2 for a, b in zip(features[i], features[j], strict=True))
            sums[:, i] += math.exp(-distance / 2) * values[:, j]
    return sums


class ExactFilter:
    """All pairs; the matrix of kernel values is computed block by block of rows."""

    def __init__(self, features: np.ndarray) -> None:
        # -|f_i - f_j|^2 / 2 = f_i . f_j - |f_i|^2 / 2 - |f_j|^2 / 2 is one product of matrices. In
        # float64, since its terms nearly cancel.
        f = features.astype(np.float64)
        f -= f.mean(axis=0)
        half, one = (f**2).sum(axis=1, keepdims=True) / -2, np.ones((len(f), 1))
        self.left, self.right = np.hstack([f, half, one]), np.hstack([f, one, half]).T

    def __call__(self, values: np.ndarray) -> np.ndarray:
        sums = np.empty_like(values)
        rows = max(1, PAIRS_A_BLOCK // max(len(self.left), 1))

        def one_block(index: int) -> None:
            block = slice(index * rows, (index + 1) * rows)
            exponent = (self.left[block] @ self.right).astype(values.dtype)
            sums[:, block] = values @ np.exp(exponent, out=exponent).T

        parallel_for(one_block, -(-len(self.left) // rows))
        return sums


def blur(planes: np.ndarray, sigma: float) -> np.ndarray:
    """The same where a pixel's features are its place in units of `sigma` pixels: (K, H, W).

    Taps that are too small to matter in the planes' precision are left out.
    """
    reach = sigma * math.sqrt(-2 * math.log(np.finfo(planes.dtype).eps / 16))
    result = np.empty_like(planes)

    def one_plane(k: int) -> None:
        result[k] = _along_rows(_along_rows(planes[k].T, sigma, reach).T, sigma, reach)

    parallel_for(one_plane, len(planes))
    return result


def _along_rows(plane: np.ndarray, sigma: float, reach: float) -> np.ndarray:
    total = plane.copy()
    for shift in range(1, int(min(reach + 1, plane.shape[1]))):
        tap = plane.dtype.type(math.exp(-((shift / sigma) ** 2) / 2))
        total[:, shift:] += tap * plane[:, :-shift]
        total[:, :-shift] += tap * plane[:, shift:]
    return total
