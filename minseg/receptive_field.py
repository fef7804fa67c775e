"""Receptive fields: how many input pixels, along height and width, a value can depend on.

Read backwards, a layer turns a window of n neighbouring outputs into the window of inputs that they
are made from, along each axis:

    convolution, pooling            (n - 1) stride + (kernel - 1) dilation + 1
    transposed convolution          as many as its taps reach, at the worst position
    resizing by factor f            ceil((n - 1) / f) + taps: 1 nearest, 2 bilinear, 4 bicubic
    adaptive pooling                from where the first of n windows begins to where the last ends
    everything done pixel by pixel  n

The field of a value is what a window of 1 has become when this reaches the input; where a branch
left, the larger window goes on. Its stride is how many input pixels lie from one value to the next.

The border cuts fields off; this is not counted. Nor are the statistics of group, layer and instance
norm, which reach over the whole image. Infinite means the whole image: global pooling, attention, a
flattened image. NaN means unknown: behind a convolution or pooling that no layer made, so that none
tells its window. A functional interpolate is taken for bilinear.

Source: Araujo et al., "Computing receptive fields of convolutional neural networks", Distill, 2019,
        which this follows but for upsampling, where windows do not grow evenly
"""

import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from minseg import nn
from minseg.ops.checks import pair
from minseg.tensor import Tensor

Spans = tuple[Callable[[float], float], Callable[[float], float]]
Sizes = tuple[float, float]  # (rows, columns)

ATTENTION = "scaled_dot_product_attention"
TAPS = {"nearest": 1, "nearest-exact": 1, "bilinear": 2, "bicubic": 4}


class Step(NamedTuple):
    """A result on the way: which it is made from, its windows read backwards, its stride."""

    parents: list[int]
    spans: Spans
    stride: Sizes


class ReceptiveFields:
    """The steps that lead from an image to each result; they outlive the tape that they are from.

    Args: image: the network's input, (N, C, H, W).
    """

    def __init__(self, image: Tensor) -> None:
        self._steps = [Step([], (_same, _same), (1.0, 1.0))]
        self._numbers: dict[int, tuple[Any, int | None]] = {id(image): (weakref.ref(image), 0)}

    def knows(self, tensor: Tensor) -> bool:
        reference, _ = self._numbers.get(id(tensor), (lambda: None, None))
        return reference() is tensor  # an id may be that of a tensor that is gone

    def add(self, tensor: Tensor, module: nn.Module | None) -> None:
        """Note how `tensor` was made, by `module` if a layer made it; its parents are known."""
        made_from = [p for p in tensor._parents if p is not None and self.knows(p)]
        found = [self._numbers[id(p)][1] for p in made_from]
        parents = [number for number in found if number is not None]
        number = None  # a constant, which sees nothing
        if parents:
            spans, factors = _read_backwards(tensor, made_from[0], module)
            # Attention has a value for each query, however few keys there are.
            on_grid = parents[:1] if tensor._op == ATTENTION else parents
            strides = zip(*(self._steps[number].stride for number in on_grid), strict=True)
            rows, cols = (_largest(axis) * f for axis, f in zip(strides, factors, strict=True))
            number = len(self._steps)
            self._steps.append(Step(parents, spans, (rows, cols)))
        self._numbers[id(tensor)] = (weakref.ref(tensor), number)

    def of(self, tensor: Tensor) -> tuple[Sizes, Sizes] | None:
        """Field and stride of a known tensor; None for a constant."""
        number = self._numbers[id(tensor)][1]
        if number is None:
            return None
        return (self._field(number, 0), self._field(number, 1)), self._steps[number].stride

    def _field(self, number: int, axis: int) -> float:
        windows: dict[int, float] = {number: 1}
        for i in range(number, 0, -1):
            if i in windows:
                step, window = self._steps[i], windows[i]
                span = step.spans[axis](window) if math.isfinite(window) else window
                for parent in step.parents:
                    windows[parent] = _largest([span, windows.get(parent, 0)])
        return windows[0]


def _read_backwards(node: Tensor, source: Tensor, module: nn.Module | None) -> tuple[Spans, Sizes]:
    """The windows of a result, read backwards, and by what factors its strides grow."""
    if node._op in ("conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"):
        return _windowed(node._op, module)
    if node._op in ("unfold", "fold", "grid_sample", "pixel_unshuffle"):
        return _everywhere(math.nan)
    if _sees_all(node, source):
        return _everywhere(math.inf)
    moved = node._op in ("pad", "getitem", "cat", "permute", "transpose")
    if moved or node.ndim != 4 or source.ndim != 4:
        return (_same, _same), (1.0, 1.0)
    sizes = list(zip(source.shape[2:], node.shape[2:], strict=True))
    span: Callable[..., float] = partial(_resized, taps=1)
    if node._op.startswith("adaptive"):
        span = _adaptive
    elif node._op == "interpolate":
        mode = module.mode if isinstance(module, nn.Upsample) else "bilinear"
        span = _adaptive if mode == "area" else partial(_resized, taps=TAPS[mode])
    rows, cols = (partial(span, before=before, after=after) for before, after in sizes)
    return (rows, cols), (sizes[0][0] / sizes[0][1], sizes[1][0] / sizes[1][1])


def _sees_all(node: Tensor, source: Tensor) -> bool:
    """Does each value depend on the whole image?"""
    if node._op == ATTENTION:
        return True
    if node._op == "matmul":  # of two results: attention; with a parameter: a linear layer
        return all(parent is not None and parent._op for parent in node._parents)
    if source.ndim != 4 or source.shape[2] * source.shape[3] == 1:
        return False
    if node._op == "reshape":
        return node.ndim == 2
    if node._op in ("sum", "amax"):
        return node.shape[2:] != source.shape[2:]
    return node._op.startswith("adaptive") and node.shape[2:] == (1, 1)


def _windowed(op: str, module: nn.Module | None) -> tuple[Spans, Sizes]:
    if module is None or not hasattr(module, "kernel_size"):
        return _everywhere(math.nan)
    kernel, stride, dilation = (
        pair("receptive field", name, getattr(module, name, 1), least=1)
        for name in ("kernel_size", "stride", "dilation")
    )
    axes = list(zip(kernel, stride, dilation, strict=True))
    if op == "conv_transpose2d":
        return _per_axis(_transposed, axes), (1 / stride[0], 1 / stride[1])
    return _per_axis(_convolved, axes), (float(stride[0]), float(stride[1]))


def _per_axis(span: Callable[..., float], axes: list[tuple[int, int, int]]) -> Spans:
    rows, cols = (partial(span, kernel=k, stride=s, dilation=d) for k, s, d in axes)
    return rows, cols


def _everywhere(size: float) -> tuple[Spans, Sizes]:
    factor = 1.0 if size == math.inf else math.nan
    return (lambda n: size, lambda n: size), (factor, factor)


def _same(n: float) -> float:
    return n


def _convolved(n: int, kernel: int, stride: int, dilation: int) -> int:
    return (n - 1) * stride + (kernel - 1) * dilation + 1


def _transposed(n: int, kernel: int, stride: int, dilation: int) -> int:
    """Output o is made from the inputs i for which o - i stride is a tap: 0, dilation, .."""
    taps = range(0, kernel * dilation, dilation)
    largest = 0
    for begin in range(stride):
        end = begin + n
        # the extreme inputs belong to the first and the last outputs, one of each remainder
        outputs = [*range(begin, min(begin + stride, end)), *range(max(begin, end - stride), end)]
        inputs = [(o - t) // stride for o in outputs for t in taps if (o - t) % stride == 0]
        if inputs:
            largest = max(largest, max(inputs) - min(inputs) + 1)
    return largest


def _resized(n: int, before: int, after: int, taps: int) -> int:
    return -(-(n - 1) * before // after) + taps


def _adaptive(n: int, before: int, after: int) -> int:
    """Window i goes from floor(i before / after) to ceil((i + 1) before / after)."""
    if n >= after:
        return before
    starts = range(after - n + 1)
    return max(-(-(i + n) * before // after) - i * before // after for i in starts)


def _largest(values: Any) -> float:
    """The maximum; NaN, which compares as nothing, wins."""
    values = list(values)
    return math.nan if any(math.isnan(value) for value in values) else max(values)
