"""The fully connected layer."""

import minseg.functional as F
from minseg.nn.conv import default_init, empty
from minseg.nn.module import Module
from minseg.tensor import Tensor


class Linear(Module):
    """y = x W^T + b along the last axis: (.., in_features) -> (.., out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"Linear: {in_features} -> {out_features} features, needs at least 1")
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty(out_features, in_features)
        self.bias = empty(out_features) if bias else None
        default_init(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)
