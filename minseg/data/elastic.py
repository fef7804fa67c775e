"""Elastic deformation: bend the image along a smooth random field, as if it were rubber.

A stained tissue, a cell or a written digit stays one under such a change, so a few labelled
images can serve as many. Sources: Simard, Steinkraus, Platt, "Best practices for convolutional
neural networks applied to visual document analysis", ICDAR 2003, section 2; Ronneberger, Fischer,
Brox, "U-Net", MICCAI 2015, section 3.1.
"""

import numpy as np

from minseg.data.dataset import Sample
from minseg.data.transforms import warp
from minseg.parallel import blas_on_one_thread


class ElasticDeformation:
    """Move each pixel by a smooth random field.

    form "unet": displacements ~ N(0, sigma pixels) on a coarse grid x grid, interpolated
        bicubically in between (the paper: grid 3, sigma 10).
    form "simard": a uniform draw from -1..1 at each pixel, smoothed by a Gaussian of `sigma`
        pixels, times `alpha`.
    """

    def __init__(
        self, form: str = "unet", sigma: float = 10.0, grid: int = 3, alpha: float = 34.0
    ) -> None:
        if form not in ("unet", "simard") or sigma <= 0 or grid < 2:
            raise ValueError(
                f"ElasticDeformation: got form={form!r}, sigma={sigma}, grid={grid}; "
                f"needs 'unet' or 'simard', sigma > 0, grid >= 2"
            )
        self.form = form
        self.sigma = sigma
        self.grid = grid
        self.alpha = alpha

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        if self.form == "unet":
            coarse = generator.normal(0, self.sigma, (2, self.grid, self.grid))
            move = bicubic_field(coarse, (height, width))
        else:
            move = simard_field((height, width), self.sigma, self.alpha, generator)
        return warp(
            sample, np.arange(height)[:, None] + move[0], np.arange(width)[None, :] + move[1]
        )


def simard_field(
    size: tuple[int, int], sigma: float, alpha: float, generator: np.random.Generator
) -> np.ndarray:
    """Displacements (2, H, W): white noise in -1..1 under a Gaussian whose weights sum to alpha.

    The noise is drawn for a margin too, as wide as the Gaussian reaches (4 sigma), so that the
    field is as strong at the border as in the middle.
    """
    reach = int(np.ceil(4 * sigma))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    height, width = size
    noise = generator.uniform(-1, 1, (2, height + 2 * reach, width + 2 * reach))
    # A Gaussian in two dimensions is one along the rows, then one along the columns.
    rows = sum(w * noise[:, i : i + height] for i, w in enumerate(weights))
    return alpha * sum(w * rows[:, :, i : i + width] for i, w in enumerate(weights))


def bicubic_field(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(2, G, G) displacements at the nodes of a grid to (2, H, W) at the pixels.

    The grid's outer nodes lie on the image's corner pixels.
    """
    down = _cubic_matrix(size[0], coarse.shape[1])  # (H, G)
    across = _cubic_matrix(size[1], coarse.shape[2])  # (W, G)
    with blas_on_one_thread():  # else its threads stay awake and disturb the training step's
        return down @ coarse @ across.T


def _cubic_matrix(pixels: int, nodes: int) -> np.ndarray:
    """(pixels, nodes): the weight of each node in each pixel along one axis.

    Keys' cubic convolution with a = -1/2 (IEEE Trans. ASSP 1981); a node beyond the last one
    repeats it.
    """
    position = np.linspace(0, nodes - 1, pixels)
    first = np.minimum(position.astype(int), nodes - 2)  # the node before the pixel
    matrix = np.zeros((pixels, nodes))
    for step in (-1, 0, 1, 2):
        distance = np.abs(position - (first + step))
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
        np.add.at(matrix, (np.arange(pixels), np.clip(first + step, 0, nodes - 1)), weight)
    return matrix
