"""Normalisation layers: mean 0 and variance 1, then a learnt scale (weight) and shift (bias)."""

from collections.abc import Callable, Sequence

import numpy as np

import minseg.functional as F
from minseg.nn.module import Module, Parameter
from minseg.tensor import Tensor


def _scale(shape: int | tuple[int, ...], wanted: bool) -> Parameter | None:
    return Parameter(np.ones(shape, np.float32)) if wanted else None


def _shift(shape: int | tuple[int, ...], wanted: bool) -> Parameter | None:
    return Parameter(np.zeros(shape, np.float32)) if wanted else None


class _Norm2d(Module):
    """What BatchNorm2d and InstanceNorm2d have in common: their parameters and buffers."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(
                f"{type(self).__name__}: num_features is {num_features}, needs at least 1"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight, self.bias = _scale(num_features, affine), _shift(num_features, affine and bias)
        for name, start in {
            "running_mean": np.zeros(num_features, np.float32),
            "running_var": np.ones(num_features, np.float32),
            "num_batches_tracked": np.array(0),
        }.items():
            self.register_buffer(name, Tensor(start) if track_running_stats else None)

    def _check(self, input: Tensor) -> None:
        if input.ndim != 4 or input.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input has shape {input.shape}, needs "
                f"(N, {self.num_features}, H, W)"
            )


class BatchNorm2d(_Norm2d):
    """Each channel normalised over batch and image; in evaluation by tracked statistics.

    `momentum` is the weight of the new batch in the tracked mean and variance; None gives the plain
    average of all batches. Source: Ioffe & Szegedy, "Batch normalization", 2015
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, input: Tensor) -> Tensor:
        return self._by(F.batch_norm, input)

    def _by(self, function: Callable[..., Tensor], input: Tensor) -> Tensor:
        """What `function`, with batch_norm's arguments, makes of the input."""
        self._check(input)
        momentum = self.momentum or 0.0
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.data += 1
            if self.momentum is None:
                momentum = 1 / self.num_batches_tracked.item()
        by_batch = self.training or self.running_mean is None
        return function(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            by_batch,
            momentum,
            self.eps,
        )


class InstanceNorm2d(_Norm2d):
    """Each channel of each image normalised by itself.

    Source: Ulyanov et al., "Instance normalization", 2016
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        by_image = self.training or self.running_mean is None
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            by_image,
            self.momentum or 0.0,
            self.eps,
        )


class GroupNorm(Module):
    """Each image normalised over groups of channels: (N, num_channels, ..).

    Source: Wu & He, "Group normalization", 2018
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_groups is {num_groups}, needs to divide num_channels "
                f"{num_channels}"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        self.weight, self.bias = _scale(num_channels, affine), _shift(num_channels, affine and bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(Module):
    """Normalised over the last axes, whose sizes are `normalized_shape`.

    Source: Ba et al., "Layer normalization", 2016
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = _scale(self.normalized_shape, elementwise_affine)
        self.bias = _shift(self.normalized_shape, elementwise_affine and bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
