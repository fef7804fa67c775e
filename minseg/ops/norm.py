"""Normalisation: subtract the mean, divide by the deviation, scale and shift.

    y = (x - mean) / sqrt(var + eps) * weight + bias,      mean, var: over one group of elements

The four layers differ only in what a group is. Each reshapes its input to (B, G, K, L), so that the
statistics run over B, K and L, and there is a weight for every (g, k):

    batch norm      a channel, over all images       (N, C, 1, H W)
    instance norm   a channel of one image           (1, N C, 1, H W)
    group norm      some channels of one image       (1, N groups, C / groups, H W)
    layer norm      the last dimensions              (1, rest, last, 1)

norm_formulas.py holds the computation and its gradient, as whole-array formulas and as launches of
CUDA kernels. On the CPU, fast/norm.py computes large arrays in fewer passes over memory,
together with a ReLU that follows, and fast/layer_norm.py all rows of a layer norm.

Source: Ioffe & Szegedy, "Batch Normalization", 2015, algorithm 1; Ba et al., "Layer Normalization",
        2016; Ulyanov et al., "Instance Normalization", 2016; Wu & He, "Group Normalization", 2018
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minseg.array import Array
from minseg.device import device_of
from minseg.ops.activation import relu_op
from minseg.ops.checks import check_tensor
from minseg.ops.fast import norm as fast
from minseg.ops.fast.layer_norm import layer_norm as norm_of_rows
from minseg.ops.norm_formulas import PARTS, norm_definition
from minseg.ops.op import Op
from minseg.tensor import Tensor, record

batch_norm_op, instance_norm_op, group_norm_op, layer_norm_op = (
    Op(name, definition=norm_definition, **PARTS)
    for name in ("batch_norm", "instance_norm", "group_norm", "layer_norm")
)


def batch_norm(
    input: Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of input (N, C, ...), over the batch and all places.

    In training with the batch's own statistics; the running ones (C,), Tensors or arrays, are then
    updated in place: running = (1 - momentum) running + momentum batch, with the batch's variance
    divided by m - 1. In evaluation with the running ones.

    Raises ValueError for shapes that do not fit, for running statistics that are missing in
    evaluation, and in training for a single value a channel, whose variance says nothing.
    """
    return _batch_norm(
        False, input, running_mean, running_var, weight, bias, training, momentum, eps
    )


def batch_norm_relu(*arguments: Any) -> Tensor:
    """relu(batch_norm(*arguments)), computed together: in training, and where `are_numpy` holds."""
    return _batch_norm(True, *arguments)


def are_numpy(input: Tensor) -> bool:
    """Would batch norm and ReLU both run the library's own NumPy functions?"""
    return all(op.is_numpy(input.data) for op in (batch_norm_op, relu_op))


def _batch_norm(
    relu: bool,
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    op = batch_norm_op
    channels = _check(op.name, input, weight, bias, running_mean, running_var)
    count = input.numel() // channels if channels else 0
    if training and count == 1:
        raise ValueError(
            f"batch_norm: input {input.shape} has one value a channel; training needs at least 2"
        )
    view = (input.shape[0], channels, 1, -1 if input.numel() else 0)
    given = None if training else _running(op.name, running_mean, running_var)
    y, moments = _normalize(op, input, view, weight, bias, given, eps, relu)
    if training and count:
        _update_running((running_mean, running_var), moments, count, momentum)
    return y


def instance_norm(
    input: Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each image of input (N, C, ...) over its places.

    Running statistics as in batch_norm (the mean of the images' own); they are used where
    `use_input_stats` is False. Raises ValueError as batch_norm does.
    """
    op = instance_norm_op
    channels = _check(op.name, input, weight, bias, running_mean, running_var)
    count = math.prod(input.shape[2:])
    if use_input_stats and count == 1:
        raise ValueError(
            f"instance_norm: input {input.shape} has one value a channel; needs at least 2"
        )
    view = (1, input.shape[0] * channels, 1, count)
    given = None
    if not use_input_stats:
        mean, var = _running(op.name, running_mean, running_var)
        given = np.tile(mean, input.shape[0]), np.tile(var, input.shape[0])
    y, moments = _normalize(op, input, view, weight, bias, given, eps)
    if use_input_stats and input.numel():
        means = [s.reshape(-1, channels).mean(axis=0) for s in moments]
        _update_running((running_mean, running_var), means, count, momentum)
    return y


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise input (N, C, ...) over each of `num_groups` groups of channels of each image.

    Raises ValueError where num_groups does not divide C.
    """
    op = group_norm_op
    channels = _check(op.name, input, weight, bias)
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"group_norm: num_groups is {num_groups}, needs to divide the {channels} channels"
        )
    places = math.prod(input.shape[2:])
    view = (1, input.shape[0] * num_groups, channels // num_groups, places)
    return _normalize(op, input, view, weight, bias, None, eps)[0]


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dimensions; `normalized_shape`, weight and bias have their sizes.

    Raises ValueError where they do not.
    """
    op = layer_norm_op
    check_tensor(op.name, "input", input, ndim=None)
    last = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not last or input.shape[-len(last) :] != last:
        raise ValueError(
            f"layer_norm: input has shape {input.shape}, which does not end in "
            f"normalized_shape {last}"
        )
    _check_affine(op.name, input, last, weight=weight, bias=bias)
    view = (1, math.prod(input.shape[: -len(last)]), math.prod(last), 1)
    if not op.is_numpy(input.data):
        return _normalize(op, input, view, weight, bias, None, eps)[0]

    w, b = (None if values is None else values.data for values in (weight, bias))
    y, gradients = norm_of_rows(input.data.reshape(view[1:3]), w, b, eps)

    def backward(grad: Array) -> list[Array | None]:
        return [
            None if values is None else d.reshape(values.shape)
            for values, d in zip((input, weight, bias), gradients(grad), strict=True)
        ]

    return record(op.name, y.reshape(input.shape), (input, weight, bias), backward)


def _normalize(
    op: Op,
    input: Tensor,
    view: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    given: tuple[Array, Array] | None,
    eps: float,
    relu: bool = False,
) -> tuple[Tensor, tuple[Array, Array]]:
    """What the four layers share: y, and the moments (mean, variance) that it was normalised by.

    view: (B, G, K, L). given: moments to use in place of the input's own. relu: y is max(y, 0).
    """
    x = input.data.reshape(view)
    groups = view[1:3]

    def for_each_group(values: Tensor | None) -> Array | None:
        """(C,) or (last,) -> (G, K): repeated for each image, where images are groups."""
        if values is None:
            return None
        repeats = math.prod(groups) // max(values.numel(), 1)
        return values.data.reshape(1, -1).repeat(repeats, axis=0).reshape(groups)

    def quick() -> bool:
        return fast.fits(x) and (are_numpy(input) if relu else op.is_numpy(x))

    w, b = for_each_group(weight), for_each_group(bias)
    if quick():
        y, moments = fast.forward(x, w, b, eps, given, relu)
    else:
        moments = op.moments(x) if given is None else given
        y = op.forward(x, *moments, w, b, eps)
        y = relu_op.forward(y) if relu else y

    def backward(grad: Array) -> list[Array | None]:
        grad = grad.reshape(x.shape)
        if quick():
            how = (*moments, w, eps, given is not None)
            dx, *affine = fast.grad(grad, x, y if relu else None, *how)
        else:
            grad = relu_op.grad_input(grad, y) if relu else grad
            dx, *affine = op.grad(grad, x, *moments, w, eps, given is not None)
        gradients = [dx.reshape(input.shape)]
        for values, d in zip((weight, bias), affine, strict=True):
            if values is None:
                gradients.append(None)
            else:
                gradients.append(d.reshape(-1, *values.shape).sum(axis=0))
        return gradients

    name = f"{op.name}_relu" if relu else op.name
    return record(name, y.reshape(input.shape), (input, weight, bias), backward), moments


def _running(op: str, mean: Any, var: Any) -> tuple[Array, Array]:
    """The running statistics as moments, in float64. Raises ValueError where they are missing."""
    if mean is None or var is None:
        raise ValueError(f"{op}: needs running_mean and running_var to do without the input's own")
    return _array(mean).astype(np.float64), _array(var).astype(np.float64)


def _update_running(
    statistics: tuple[Any, Any], moments: Sequence[Array], count: int, momentum: float
) -> None:
    """Move the running mean and variance towards the moments of `count` elements, in place."""
    mean, var = moments
    unbiased = var * (count / (count - 1))
    for running, value in zip(statistics, (mean, unbiased), strict=True):
        if running is not None:
            array = _array(running)
            array[...] = (1 - momentum) * array + momentum * value


def _array(value: Any) -> Array:
    return value.data if isinstance(value, Tensor) else value


def _check(
    op: str,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Any = None,
    running_var: Any = None,
) -> int:
    """Check everything that has one value a channel; return the number of channels."""
    check_tensor(op, "input", input, ndim=None)
    if input.ndim < 2:
        raise ValueError(f"{op}: input has shape {input.shape}, needs (N, C, ...)")
    shape = (input.shape[1],)
    _check_affine(op, input, shape, weight=weight, bias=bias)
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is None:
            continue
        if np.shape(_array(running)) != shape:
            raise ValueError(f"{op}: {name} has shape {np.shape(_array(running))}, needs {shape}")
        if (device := device_of(_array(running))) != input.device:
            raise ValueError(f"{op}: {name} is on {device} but the input is on {input.device}")
    return shape[0]


def _check_affine(op: str, input: Tensor, shape: tuple[int, ...], **values: Tensor | None) -> None:
    for name, value in values.items():
        if value is not None:
            check_tensor(op, name, value, ndim=None, like=input)
            if value.shape != shape:
                raise ValueError(f"{op}: {name} has shape {value.shape}, needs {shape}")
