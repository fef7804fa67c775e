"""Cases without gradients: one step of an optimizer, the confusion matrix."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import optim
from minseg.compare.cases.case import Case, Draw, cases
from minseg.metrics import confusion
from minseg.tensor import Tensor

IGNORE = 3  # one of the five classes, so that counting it would show
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    "adam": {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01},
}


@cases("sgd", "adam")
def optimizer(draw: Draw, op: str) -> Iterator[Case]:
    """Two steps, so that the second uses the state that the first left."""
    name = {"sgd": "SGD", "adam": "Adam"}[op]

    def two_steps(library: Any, input: Any, gradient: Any) -> Any:
        home = optim if library is F else sys.modules["torch"].optim
        p = (input * 1).detach()
        p.requires_grad_()
        stepper = getattr(home, name)([p], **OPTIONS[op])
        for _ in range(2):
            p.grad = gradient
            stepper.step()
        return p.detach()

    for shape in ((3, 7, 5), (draw.images, 16, 192, 256)):
        large = len(shape) == 4
        yield Case(
            op,
            {"input": draw.normal(*shape), "gradient": draw.normal(*shape)},
            gradients=(),
            definition=None if large else {"sgd": _sgd, "adam": _adam}[op],
            call=two_steps,
            large=large,
        )


def _sgd(input: Any, gradient: Any) -> Any:
    """Nesterov: Sutskever et al., 2013, in the form of torch.optim.SGD's documentation."""
    p, how = input.copy(), OPTIONS["sgd"]
    for i in np.ndindex(p.shape):
        velocity = 0.0
        for _ in range(2):
            g = gradient[i] + how["weight_decay"] * p[i]
            velocity = how["momentum"] * velocity + g
            p[i] -= how["lr"] * (g + how["momentum"] * velocity)
    return p


def _adam(input: Any, gradient: Any) -> Any:
    """Kingma & Ba, "Adam", 2015, algorithm 1."""
    p, how = input.copy(), OPTIONS["adam"]
    beta1, beta2 = how["betas"]
    for i in np.ndindex(p.shape):
        m = v = 0.0
        for t in (1, 2):
            g = gradient[i] + how["weight_decay"] * p[i]
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            mean, variance = m / (1 - beta1**t), v / (1 - beta2**t)
            p[i] -= how["lr"] * mean / (variance**0.5 + how["eps"])
    return p


@cases("confusion_matrix")
def confusion_matrix(draw: Draw) -> Iterator[Case]:
    """Counts, which must be equal."""
    for shape in ((2, 9, 7), (draw.images, 384, 512)):
        large = shape[1] > 9
        yield Case(
            "confusion_matrix",
            {"input": draw.labels(5, *shape), "target": draw.labels(5, *shape, ignore=IGNORE)},
            gradients=(),
            definition=None if large else _counts,
            call=lambda _, input, target: Tensor(
                confusion.op.forward(input.data, target.data, 5, IGNORE)
            ),
            torch=False,
            large=large,
        )


def _counts(input: Any, target: Any) -> Any:
    assert confusion.op.definition is not None
    return confusion.op.definition(input, target, 5, IGNORE)
