"""For tasks about parts of networks: the library's own part, on the weights of a case."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from minseg import nn
from minseg.exercises.task import Case
from minseg.tensor import Tensor


def with_weights(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The module, in evaluation, with these weights by their names; the tape leads to them.

    All else takes their dtype. Its batch norms change nothing but by the weights given: what they
    remember is mean 0 and variance 1.
    """
    module.to(next(iter(weights.values())).dtype).eval()
    for path, weight in weights.items():
        *parents, name = path.split(".")
        vars(reduce(getattr, parents, module))[name] = weight  # a Tensor where a Parameter was
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None
            norm.running_var = norm.running_var * 0 + (1 - norm.eps)
    return module


def part_case(
    name: str,
    part: Callable[..., Tensor],
    shapes: dict[str, tuple[int, ...]],
    digits: int = 0,
    **others: Any,
) -> Case:
    """Arrays of these shapes, rounded to few digits; `grad` = dL/dy has the shape of the part's y.

    Whole numbers are easy to follow, but their sums are often 0, where a ReLU has no slope.
    """
    rng = np.random.default_rng(len(name))
    arrays = {n: (2 * rng.standard_normal(s)).round(digits) + 0 for n, s in shapes.items()}
    y = part(**{n: Tensor(a) for n, a in arrays.items()}, **others)
    return Case(name, {**arrays, **others, "grad": rng.integers(-3, 4, y.shape).astype(float)})
