"""A loss that is a weighted sum of losses: cross-entropy + 0.5 Dice, say."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.tensor import Tensor

Loss = Callable[..., Tensor]


class WeightedSum:
    """loss(input, target) = sum of weight * loss(input, target, **options).

    WeightedSum((1.0, F.cross_entropy), (0.5, F.dice_loss), ignore_index=255)

    The options, here `ignore_index`, go to every term; functools.partial gives one to a single
    term. Raises ValueError without a term, TypeError for one that is not (number, function).
    """

    def __init__(self, *terms: tuple[float, Loss], **options: Any) -> None:
        if not terms:
            raise ValueError("WeightedSum: needs at least one (weight, loss)")
        for term in terms:
            number, loss = term if isinstance(term, tuple) and len(term) == 2 else (None, None)
            if not (isinstance(number, int | float | np.number) and callable(loss)):
                raise TypeError(f"WeightedSum: a term is {term!r}, needs (weight, loss)")
        self.terms = terms
        self.options = options

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        weighted = [w * loss(input, target, **self.options) for w, loss in self.terms]
        return sum(weighted[1:], start=weighted[0])
