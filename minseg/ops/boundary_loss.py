"""Boundary loss: probability costs as much as it is far from where it should be.

    loss = mean over pixels q and classes c of phi_c(q) p_c(q),   p = softmax(input)

phi_c is the signed distance to the true region of class c in its image: positive outside, negative
inside. The mean runs over all C classes and all pixels of the batch that are not ignored. A class
that is absent from an image, or fills it, has no boundary there: phi_c = 0. The loss may be
negative, and its minimum is not 0: it is meant to be added to a loss of regions, such as Dice.
When distances are measured, an ignored pixel belongs to no class; the CPU measures them.

Shapes: input (N, C, H, W), target (N, H, W) of class indices -> one number
Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", 2019, equation 5
"""

import numpy as np

from minseg.array import Array, array_module
from minseg.device import to_device
from minseg.ops.checks import check_tensor
from minseg.ops.distance import signed_distance
from minseg.ops.labels import check_segmentation
from minseg.ops.reduction import at_least_one
from minseg.ops.softmax import softmax
from minseg.tensor import Tensor


def boundary_loss_definition(p: Array, phi: Array, valid: Array) -> float:
    """The mean above, term by term: p, phi (N, C, H, W), valid (N, 1, H, W)."""
    total, count = 0.0, 0
    for n, c, row, col in np.ndindex(p.shape):
        if valid[n, 0, row, col]:
            total += phi[n, c, row, col] * p[n, c, row, col]
            count += 1
    return total / max(count, 1)


def boundary_loss(input: Tensor, target: Tensor, ignore_index: int = -100) -> Tensor:
    """Boundary loss; formula at the top of this file. 0 if every pixel is ignored.

    Raises ValueError for labels out of range and shapes that do not fit, TypeError for dtypes.
    """
    check_tensor("boundary_loss", "input", input, ndim=4)
    of_class, valid = check_segmentation("boundary_loss", input, target, ignore_index)
    xp = array_module(of_class)
    phi = xp.asarray(signed_distance(to_device(of_class, "cpu")))
    phi = Tensor(xp.where(valid, phi, 0).astype(input.dtype))
    p = softmax(input, 1).where(xp.broadcast_to(valid, input.shape), 0.0)
    return (phi * p).sum() / at_least_one(valid.sum() * input.shape[1], input.dtype)
