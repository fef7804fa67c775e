"""A case: one op on random arrays, with how much it may round and how much it has to compute."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minseg.ops.op import list_ops
from minseg.suggest import suggest

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One call of a public function, whose name and arguments are the same in PyTorch.

    Args:
        op: the function's name in minseg.functional, and in torch.nn.functional if it is there.
        arrays: the arguments that become tensors, floats in float64.
        options: the other arguments.
        lengths: part ("forward", "grad_weight", ...) -> how many rounded terms an element is made
            of, from which its tolerance follows; that of "forward" holds for parts not named.
        gradients: the arguments whose gradients are compared.
        definition: the function that computes the output(s) in loops, from the arrays by name.
        operations: part -> multiplications and additions, if these may set the floor.
        call: what to call instead of the function `op`; its first argument is the library.
        torch: does PyTorch have the same function?
        large: a size for timing; the definition and the emulator leave it out.
    """

    op: str
    arrays: Arrays
    options: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=lambda: {"forward": 1})
    gradients: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("forward",)
    definition: Callable[..., Any] | None = None
    operations: Mapping[str, int] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    torch: bool = True
    large: bool = False

    @property
    def parts(self) -> list[str]:
        return [*self.outputs, *(f"grad_{name}" for name in self.gradients)]

    def length(self, part: str) -> int:
        return self.lengths.get(part, self.lengths["forward"])

    def in_dtype(self, dtype: Any) -> Arrays:
        """The arrays, floats rounded to `dtype`."""
        return {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in self.arrays.items()}

    def upstream(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """The upstream gradient: random, since ones would hide faults of softmax."""
        return np.asarray(np.random.default_rng(1).standard_normal(shape)).astype(dtype)

    def run(self, library: Any, tensors: Mapping[str, Any]) -> tuple[Any, ...]:
        """The outputs of the public function on tensors of that library."""
        if self.call is not None:
            result = self.call(library, **tensors)
        else:
            result = getattr(library, self.op)(**tensors, **self.options)
        return result if isinstance(result, tuple) else (result,)

    @property
    def shape(self) -> str:
        """Shapes and options as the caller would write them."""
        shapes = [f"{name} {_short(a.shape)}" for name, a in self.arrays.items()]
        return " ".join(shapes + [f"{k}={_short(v)}" for k, v in self.options.items()])


def _short(value: Any) -> str:
    if isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
        return "x".join(map(str, value))
    return repr(value)


class Draw:
    """Random arrays of a case; `images` is the batch of the large ones."""

    def __init__(self, op: str, images: int) -> None:
        self.rng = np.random.default_rng(zlib.crc32(op.encode()))
        self.images = images

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape)

    def ties(self, *shape: int) -> np.ndarray:
        """Many values are equal, so that the index of a maximum depends on the tie-breaking."""
        return (self.normal(*shape) * 2).round() / 2

    def labels(self, classes: int, *shape: int, ignore: int | None = None) -> np.ndarray:
        labels = self.rng.integers(0, classes, shape)
        if ignore is not None:
            labels[self.rng.random(shape) < 0.2] = ignore
        return labels


# Ops without a function of their own, and the functions whose cases cover them.
WITHIN = {"overlap": ("dice_loss", "tversky_loss", "generalized_dice_loss")}

Maker = Callable[[Draw], Iterator[Case]]
_makers: dict[str, Maker] = {}


def cases(*ops: str) -> Callable[[Callable[..., Iterator[Case]]], Callable[..., Iterator[Case]]]:
    """Registers a function that yields an op's cases; one for several ops also gets the name."""

    def register(make: Callable[..., Iterator[Case]]) -> Callable[..., Iterator[Case]]:
        for op in ops:
            _makers[op] = make if len(ops) == 1 else _bound(make, op)
        return make

    return register


def _bound(make: Callable[..., Iterator[Case]], op: str) -> Maker:
    return lambda draw: make(draw, op)


def cases_of(op: str, images: int = 2) -> list[Case]:
    """The cases of an op, with the same arrays each time. ValueError for an op without any."""
    if op not in _makers:
        hint = suggest(op, _makers)
        raise ValueError(f"compare: no op {op!r}{hint}; the ops are: {', '.join(list_cases())}")
    return list(_makers[op](Draw(op, images)))


def without_cases() -> list[str]:
    """The registered ops that no case covers."""
    return [op for op in list_ops() if op not in _makers and op not in WITHIN]


def list_cases() -> list[str]:
    """The ops that have cases, sorted."""
    return sorted(_makers)
