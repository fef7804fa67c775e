"""A part of a network as an exercise: Tensors in, a Tensor out, and the tape does the gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.tensor import Tensor


def on_tape(part: Callable[..., Any]) -> Callable[..., Any]:
    """The part as a function on arrays, which returns y and the gradient of every float array.

    It takes what the part takes, and `grad` = dL/dy; float arrays reach the part as Tensors. The
    gradients are those of the leaves, in their order: zeros where the tape does not lead to one, or
    where y has another shape than `grad`. What is no Tensor is returned as it is.
    """

    def call(grad: np.ndarray, **arguments: Any) -> Any:
        leaves = {
            name: Tensor(value, requires_grad=True)
            for name, value in arguments.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }
        y = part(**{**arguments, **leaves})
        if not isinstance(y, Tensor):
            return y
        if y.requires_grad and y.shape == grad.shape:
            y.backward(grad.astype(y.dtype))
        grads = (np.zeros_like(t.data) if t.grad is None else t.grad.data for t in leaves.values())
        return (y.data, *grads)

    return call
