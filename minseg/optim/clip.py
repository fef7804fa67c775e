"""Gradient clipping: a single large gradient must not throw the weights far away.

Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013
"""

import math
from collections.abc import Iterable

import numpy as np

from minseg.array import Array, array_module
from minseg.tensor import Tensor

BLOCK = 2**16  # elements that are summed at once: in float64 they fit the cache


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float | Tensor:
    """Scale all gradients, in place, so that their norm as one vector is at most `max_norm`.

    Returns the norm before clipping: a float, or, for gradients on a GPU, a Tensor there, without
    waiting for it. Raises ValueError for a `norm_type` that is not positive, and, if
    `error_if_nonfinite`, RuntimeError for a norm that is infinite or NaN.
    """
    norm_type = float(norm_type)  # "inf" may come from a file or a command line
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type is {norm_type}, needs to be positive")
    grads = [g for g in _gradients("clip_grad_norm_", parameters) if g.size]
    if not grads:
        return 0.0
    xp = array_module(grads[0])
    if norm_type == math.inf:
        norm = xp.stack([abs(g).max() for g in grads]).max().astype(np.float64)  # keeps a NaN
    else:
        norm = sum(_sum_of_powers(g, norm_type) for g in grads) ** (1 / norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {float(norm)}")
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    if xp is not np or factor != 1:
        with np.errstate(invalid="ignore"):  # infinity * 0, where the norm is infinite
            for g in grads:
                g *= factor.astype(g.dtype)
    return float(norm) if xp is np else Tensor(norm)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each element of the gradients, in place, to [-clip_value, clip_value]."""
    for g in _gradients("clip_grad_value_", parameters):
        g.clip(-clip_value, clip_value, out=g)


def _gradients(op: str, parameters: Tensor | Iterable[Tensor]) -> list[Array]:
    if not isinstance(parameters, Tensor | Iterable):
        kind = type(parameters).__name__
        raise TypeError(f"{op}: parameters is a {kind}, needs Tensors, as model.parameters() gives")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad.data for p in parameters if p.grad is not None]


def _sum_of_powers(grad: Array, power: float) -> Array:
    """The sum of |g|^power, in blocks, in float64: no square of a float32 overflows there."""
    flat = grad.reshape(-1)
    block = BLOCK if isinstance(flat, np.ndarray) else max(flat.size, 1)
    pieces = (flat[i : i + block].astype(np.float64) for i in range(0, flat.size, block))
    if power == 2:
        return sum((piece * piece).sum() for piece in pieces)
    return sum((abs(piece) ** power).sum() for piece in pieces)
