"""gradcheck: is the gradient that an op claims the gradient that it has?

The claim is compared with central differences, in float64. The upstream gradient is random: with
all ones, softmax (whose outputs sum to 1) and batch norm (to 0) would pass with any gradient.
"""

from collections.abc import Callable, Sequence

import numpy as np

from minseg.tensor import Tensor


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    seed: int = 0,
) -> bool:
    """True if the gradients of `function(*inputs)` equal their central differences.

    Checked are the inputs that require a gradient. Central differences err by eps**2 (the third
    derivative) and by rounding, 1e-16 / eps: about 1e-10 of the values at the default.

    Raises AssertionError naming input and element of the worst disagreement, TypeError for an input
    that is not float64 or an output that is no single Tensor, ValueError where no input requires a
    gradient.
    """
    if not any(x.requires_grad for x in inputs):
        raise ValueError("gradcheck: no input requires a gradient")
    for i, x in enumerate(inputs):
        if x.requires_grad and x.dtype != np.float64:
            raise TypeError(f"gradcheck: input {i} is {x.dtype}, needs float64")
        x.grad = None

    out = function(*inputs)
    if not isinstance(out, Tensor):
        raise TypeError(
            f"gradcheck: the function gives a {type(out).__name__}, needs one Tensor, as in "
            "gradcheck(lambda x: function(x)[0], [x])"
        )
    upstream = Tensor(np.random.default_rng(seed).standard_normal(out.shape)).to(out.device)
    out.backward(upstream)

    def weighted_sum() -> float:
        return float((function(*inputs).data * upstream.data).sum())

    for i, x in enumerate(inputs):
        if not x.requires_grad:
            continue
        claimed = np.zeros(x.shape) if x.grad is None else x.grad.numpy()
        numeric = np.empty(x.shape)
        given, x.data = x.data, x.data.copy()  # the differences write into it
        try:
            for index in np.ndindex(x.shape):
                value = float(x.data[index])  # of CuPy's, an element is a view
                x.data[index] = value + eps
                above = weighted_sum()
                x.data[index] = value - eps
                below = weighted_sum()
                x.data[index] = value
                numeric[index] = (above - below) / (2 * eps)
        finally:
            x.data = given
        excess = np.abs(claimed - numeric) - rtol * np.abs(numeric)
        if not (excess <= atol).all():  # so written, a NaN fails
            worst = np.unravel_index(np.argmax(np.nan_to_num(excess, nan=np.inf)), x.shape)
            raise AssertionError(
                f"gradcheck: input {i} at {tuple(int(k) for k in worst)}: "
                f"backward gives {claimed[worst]:.8g}, differences give {numeric[worst]:.8g}"
            )
    return True
