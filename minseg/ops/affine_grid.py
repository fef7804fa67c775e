"""The grid of an affine map, for grid_sample: each place of the result, turned, scaled and moved.

Shapes: theta (N, 2, 3) -> grid (N, H, W, 2)
Source: Jaderberg et al., "Spatial Transformer Networks", 2015, eq. 1
"""

from collections.abc import Sequence

import numpy as np

from minseg.ops.checks import check_tensor
from minseg.tensor import Tensor


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid (N, H, W, 2) that moves an image (N, C, H, W) of `size` by theta (N, 2, 3).

    grid[n, h, w] = theta[n] (x, y, 1), with x and y from -1 to 1 as in `grid_sample`. Raises
    ValueError for another shape of theta or a size that is not (N, C, H, W), all positive.
    """
    check_tensor("affine_grid", "theta", theta, ndim=3)
    if len(size) != 4 or min(size) < 1 or theta.shape != (size[0], 2, 3):
        raise ValueError(
            f"affine_grid: theta has shape {theta.shape} and size is {tuple(size)}, needs "
            "(N, 2, 3) and (N, C, H, W)"
        )
    y, x = (
        np.linspace(-1, 1, n) * (1 if align_corners and n > 1 else (n - 1) / n) for n in size[2:]
    )
    places = np.stack([*np.meshgrid(x, y), np.ones(size[2:])], axis=-1).astype(theta.dtype)
    base = Tensor(places.reshape(1, -1, 3)).to(theta.device)
    return (base @ theta.transpose(1, 2)).reshape(size[0], *size[2:], 2)
