"""How the weights of the convolutions start."""

from typing import TypeVar

from minseg import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def he(layer: Layer, mode: str = "fan_in") -> Layer:
    """Normal weights of variance 2 / fan, for a ReLU that follows; bias zero. Returns the layer.

    Source: He et al. 2015, "Delving Deep into Rectifiers", arXiv:1502.01852, eq. 10 and 14.
    """
    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
    return zero_bias(layer)


def zero_bias(layer: Layer) -> Layer:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
