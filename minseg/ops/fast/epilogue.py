"""Scale, bias and ReLU of a convolution, applied to each block of outputs while it is in cache."""

from typing import NamedTuple

import numpy as np

from minseg.array import Array


class Epilogue(NamedTuple):
    """y -> relu(scale y + bias), where each of the three may be absent.

    scale and bias are (O,), a number for each output channel.
    """

    bias: Array | None = None
    scale: Array | None = None
    relu: bool = False

    def apply(self, out: Array, axis: int, channels: slice = slice(None)) -> None:
        """Apply it in place to a block of outputs, whose `axis` has the given channels."""
        shape = (-1, *[1] * (out.ndim - axis - 1))
        if self.scale is not None:
            out *= self.scale[channels].reshape(shape)
        if self.bias is not None:
            out += self.bias[channels].reshape(shape)
        if self.relu:
            np.clip(out, 0, np.inf, out=out)  # three times as fast as np.maximum


NOTHING = Epilogue()
