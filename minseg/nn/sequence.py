"""Layers one after another; several of them fused into one, where nobody looks in between."""

from typing import Any

from minseg.nn.activation import ReLU
from minseg.nn.conv import Conv2d
from minseg.nn.module import Module
from minseg.nn.norm import BatchNorm2d
from minseg.ops.fast.conv_norm_relu import line, scaled_conv2d, serves
from minseg.ops.norm import are_numpy, batch_norm_relu
from minseg.tensor import Tensor


def in_turn(input: Any, *modules: Module) -> Any:
    """Each module on the output of the one before: in_turn(x, conv, norm) is norm(conv(x)).

    Two fusions make it faster. In prediction (evaluation, inside no_grad) a Conv2d, the BatchNorm2d
    after it and a ReLU after that become one convolution. In training a BatchNorm2d and the ReLU
    after it are computed together. Neither happens where a hook, an override or the emulator wants
    to see each layer.
    """
    rest: list[Any] = list(modules)
    while rest:
        first, second, third = (*rest, None, None)[:3]
        relu = _is(third, ReLU) and serves(input, relu=True)
        if _conv_and_norm(input, first, second) and (relu or serves(input, relu=False)):
            input = _conv_norm_relu(input, first, second, relu)
            del rest[: 2 + relu]
        elif _norm_and_relu(input, first, second):
            input = first._by(batch_norm_relu, input)
            del rest[:2]
        else:
            input = rest.pop(0)(input)
    return input


def _conv_and_norm(input: Any, conv: Any, norm: Any) -> bool:
    """Are these a convolution and a norm in evaluation, of one dtype, that can be one?"""
    if not (isinstance(input, Tensor) and _is(conv, Conv2d) and _is(norm, BatchNorm2d)):
        return False
    tensors = [input, conv.weight, conv.bias, norm.weight, norm.bias]
    return (
        not norm.training
        and norm.running_mean is not None
        and norm.eps > 0  # else a constant channel has an infinite scale
        and conv.padding_mode == "zeros"
        and conv.out_channels == norm.num_features
        and len({t.dtype for t in tensors if t is not None}) == 1
    )


def _norm_and_relu(input: Any, norm: Any, relu: Any) -> bool:
    """Are these a norm in training and a ReLU, both to run the library's own NumPy functions?"""
    return (
        isinstance(input, Tensor)
        and _is(norm, BatchNorm2d)
        and norm.training
        and _is(relu, ReLU)
        and are_numpy(input)
    )


def _is(module: Module | None, kind: type[Module]) -> bool:
    """Is it of this very class, not a subclass, and does nobody look at its output?"""
    return type(module) is kind and not module._forward_hooks and "forward" not in vars(module)


def _conv_norm_relu(input: Tensor, conv: Any, norm: Any, relu: bool) -> Tensor:
    scale, shift = line(
        conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
    )
    how = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return scaled_conv2d(input, conv.weight, scale, shift, *how, relu=relu)
