"""summary: what a network consists of, what each layer costs, and how far it sees.

The network runs once, on zeros, in evaluation mode, with the tape on. After each layer the tape is
read, and cut, so that it never grows long: it gives the receptive field (receptive_field.py) and
the multiply-adds. These are the products of conv2d, conv_transpose2d, linear, matmul and
attention; adding a bias, normalisation, activations, pooling and resizing are not counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minseg import nn
from minseg.array import FLOATS
from minseg.receptive_field import ATTENTION, ReceptiveFields
from minseg.tape import recording, topological_order
from minseg.tensor import Tensor


@dataclass
class Layer:
    """One row of the table: one call of a layer."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: tuple[float, float] | None
    stride: tuple[float, float] | None

    def cells(self) -> list[str]:
        shape = " x ".join(map(str, self.output_shape))
        return [
            self.name,
            self.type,
            shape,
            f"{self.parameters:,}" if self.parameters else "-",
            f"{self.multiply_adds:,}" if self.multiply_adds else "-",
            _side_by_side(self.receptive_field),
            _side_by_side(self.stride),
        ]


@dataclass
class Summary:
    """The layers in the order in which they ran; prints as a table."""

    model: str
    input_shape: tuple[int, ...]
    total_parameters: int
    trainable_parameters: int
    layers: list[Layer] = field(default_factory=list)

    @property
    def total_multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    def __str__(self) -> str:
        head = ["layer", "type", "output", "parameters", "multiply-adds", "field", "stride"]
        rows = [head, *(layer.cells() for layer in self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        shape = " x ".join(map(str, self.input_shape))
        frozen = self.total_parameters - self.trainable_parameters
        return "\n".join(
            [
                f"{self.model}, input {shape}",
                rule,
                lines[0],
                rule,
                *lines[1:],
                rule,
                f"parameters: {self.total_parameters:,}"
                + (f" ({frozen:,} frozen)" if frozen else ""),
                f"multiply-adds: {self.total_multiply_adds:,}",
            ]
        )

    __repr__ = __str__


def summary(model: nn.Module, input_shape: Sequence[int]) -> Summary:
    """Run `model` on zeros of `input_shape`, (N, C, H, W), or (C, H, W) for a batch of one image.

    A layer is a module without children, or with parameters of its own; a layer that runs twice has
    two rows, the parameters in the first. Multiply-adds outside of layers have rows without a name.
    The model is left as it was. Raises TypeError for what is not a Module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"summary: model is a {type(model).__name__}, needs a Module")
    shape = (1, *input_shape) if len(input_shape) == 3 else tuple(input_shape)
    parameters = list(model.parameters())
    result = Summary(
        type(model).__name__,
        shape,
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
    )
    like = next((p for p in parameters if p.dtype in FLOATS), Tensor(np.zeros(1, np.float32)))
    image = Tensor(np.zeros(shape, like.dtype)).to(like.device).requires_grad_()

    trace = _Trace(result.layers, image)
    modes = [(module, module.training) for module in model.modules()]
    hooks = [
        module.register_forward_hook(trace.hook(name))
        for name, module in model.named_modules()
        if not module._modules or list(module.parameters(recurse=False))
    ]
    token = recording.set(True)
    try:
        trace.outside(model.eval()(image))
    finally:
        recording.reset(token)
        for handle in hooks:
            handle.remove()
        for module, training in modes:
            module.training = training
    return result


class _Trace:
    """Follows the tape from layer to layer and writes the rows."""

    def __init__(self, rows: list[Layer], image: Tensor) -> None:
        self.rows = rows
        self.fields = ReceptiveFields(image)
        self.counted: set[int] = set()  # parameters that have been in a row

    def hook(self, name: str) -> Any:
        def after_forward(module: nn.Module, inputs: tuple, output: Any) -> None:
            self.outside(inputs)
            outputs = list(_tensors(output))
            made = [node for tensor in outputs for node in self.follow(tensor, module)]
            for tensor in outputs:
                tensor._parents, tensor._backward = (), None
            own = [p for p in module.parameters(recurse=False) if id(p) not in self.counted]
            self.counted.update(map(id, own))
            count = sum(p.numel() for p in own)
            multiply_adds = sum(cost for _, cost in made)
            if outputs:
                self.row(name, type(module).__name__, outputs[0], count, multiply_adds)

        return after_forward

    def outside(self, value: Any) -> None:
        """Follow the tape of what is made between layers; what multiplies there gets a row."""
        for tensor in _tensors(value):
            for node, multiply_adds in self.follow(tensor, None):
                if multiply_adds:
                    self.row("", node._op, node, 0, multiply_adds)

    def row(self, name: str, kind: str, out: Tensor, parameters: int, multiply_adds: int) -> None:
        field, stride = self.fields.of(out) or (None, None)
        self.rows.append(Layer(name, kind, out.shape, parameters, multiply_adds, field, stride))

    def follow(self, tensor: Tensor, module: nn.Module | None) -> list[tuple[Tensor, int]]:
        """Note all that is new on the tape; what it is and how many multiply-adds it takes."""
        new = [node for node in topological_order(tensor) if not self.fields.knows(node)]
        costs = [_multiply_adds(node) for node in new]
        for node in new:
            self.fields.add(node, module)
        return list(zip(new, costs, strict=True))


def _multiply_adds(node: Tensor) -> int:
    parents = _parents(node)
    if node._op in ("conv2d", "linear"):
        return node.numel() * math.prod(parents[1].shape[1:])
    if node._op == "conv_transpose2d":
        return parents[0].numel() * math.prod(parents[1].shape[1:])
    if node._op == "matmul":
        return node.numel() * parents[0].shape[-1]
    if node._op == ATTENTION:  # Q K^T, and the weights times V
        query, key, value = parents[:3]
        return math.prod(query.shape[:-1]) * key.shape[-2] * (key.shape[-1] + value.shape[-1])
    return 0


def _parents(node: Tensor) -> list[Tensor]:
    return [parent for parent in node._parents if parent is not None]


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _side_by_side(sizes: tuple[float, float] | None) -> str:
    """(5.0, 5.0) as "5", (5.0, 3.0) as "5x3"."""
    if sizes is None:
        return "-"
    words = {math.inf: "all"}
    texts = ["?" if math.isnan(size) else words.get(size, f"{size:g}") for size in sizes]
    return texts[0] if texts[0] == texts[1] else "x".join(texts)
