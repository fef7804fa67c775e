"""Dropout: zeros at random in training, so that no unit can rely on another.

Source: Srivastava et al., "Dropout", 2014
"""

import minseg.functional as F
from minseg.nn.module import Module
from minseg.tensor import Tensor


class Dropout(Module):
    """Zeros each value with probability p and divides the rest by 1 - p; nothing in evaluation."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is {p}, needs a probability, 0 to 1")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)


class Dropout2d(Dropout):
    """Zeros whole channels: neighbouring pixels are alike, and would give a dropped one away."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training)
