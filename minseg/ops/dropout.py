"""Dropout: in training, set random elements (or whole channels) to 0 and scale the others up.

    y = x keep / (1 - p),   keep = 0 with probability p, else 1

so that the expectation of y is x, and nothing is left to do in evaluation. The draw is made on the
CPU, and copied where x is: the same seed gives the same mask on any device.

Shapes: any -> the same; dropout2d: (N, C, H, W), one draw for each of the N C channels
Source: Srivastava et al., "Dropout", 2014; channels: Tompson et al., "Efficient object localization
        using convolutional networks", 2015
"""

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import check_not_inplace, check_tensor
from minseg.ops.op import Op
from minseg.random import default_generator
from minseg.tensor import Tensor, record


def dropout_definition(x: Array, keep: Array, p: float) -> Array:
    """The formula above; `keep` has the shape of x, or 1 in the place of dimensions."""
    y = np.zeros_like(x)
    kept = np.broadcast_to(keep, x.shape)
    for index in np.ndindex(x.shape):
        if kept[index]:
            y[index] = x[index] / (1 - p)
    return y


def _forward(x: Array, keep: Array, p: float) -> Array:
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * (keep * x.dtype.type(scale))


op = Op(  # linear in x: the gradient is the same function
    "dropout", definition=dropout_definition, numpy={"forward": _forward, "grad_input": _forward}
)


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Drop each element with probability `p`; the input itself unless `training`.

    The draws come from `generator`, by default the one that minseg.manual_seed sets. Raises
    ValueError for p outside 0 .. 1, and for inplace=True: use the result.
    """
    check_tensor("dropout", "input", input, ndim=None)
    check_not_inplace("dropout", inplace)
    return _drop("dropout", input, input.shape, p, training, generator)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Drop each channel of (N, C, ...) with probability `p`; arguments as for dropout.

    Raises as dropout, and ValueError for an input of fewer than 3 dimensions.
    """
    check_tensor("dropout2d", "input", input, ndim=None)
    check_not_inplace("dropout2d", inplace)
    if input.ndim < 3:
        raise ValueError(f"dropout2d: input has shape {input.shape}, needs (N, C, H, W)")
    channels = input.shape[:2] + (1,) * (input.ndim - 2)
    return _drop("dropout2d", input, channels, p, training, generator)


def _drop(
    name: str,
    input: Tensor,
    draws: tuple[int, ...],
    p: float,
    training: bool,
    generator: np.random.Generator | None,
) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p is {p}, needs 0 to 1")
    if not training or p == 0:
        return input
    drawn = default_generator(generator).random(draws, np.float32) >= p
    keep = array_module(input.data).asarray(drawn)  # once, for the gradient, too
    y = op.forward(input.data, keep, p)
    return record(name, y, (input,), lambda grad: (op.grad_input(grad, keep, p),))
