"""Cases of ops on the scores of classes: softmax and the losses of segmentation."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minseg.compare.cases.case import Case, Draw, cases
from minseg.ops.cross_entropy import cross_entropy_definition
from minseg.ops.nll_loss import nll_loss_definition
from minseg.ops.op import get_op
from minseg.ops.overlap_loss import overlap_definition
from minseg.ops.softmax import softmax_definition

IGNORE = 255


@cases("softmax", "log_softmax")
def softmax(draw: Draw, op: str) -> Iterator[Case]:
    for shape in ((2, 5, 3, 4), (2, 19, 5, 7), (draw.images, 21, 192, 256)):
        large = shape[2] > 5
        yield Case(
            op,
            {"input": draw.normal(*shape) * 3},
            {"dim": 1},
            lengths={"forward": shape[1]},
            definition=None if large else lambda input: get_op(op).definition(input, 1),  # type: ignore
            large=large,
        )


@cases("cross_entropy", "nll_loss", "focal_loss")
def with_labels(draw: Draw, op: str) -> Iterator[Case]:
    yield _with_labels(draw, op, (2, 5, 4, 7), "none")
    yield _with_labels(draw, op, (2, 5, 4, 7), "mean", smoothing=0.1)
    if op == "cross_entropy":
        yield _with_probabilities(draw, 2, 5, 4, 7)
    yield _with_labels(draw, op, (draw.images, 21, 192, 256), "mean", large=True)


def _with_labels(
    draw: Draw, op: str, shape: tuple[int, ...], reduction: str, smoothing: float = 0.0,
    large: bool = False,
) -> Case:  # fmt: skip
    N, C, H, W = shape
    weight = "alpha" if op == "focal_loss" else "weight"
    smooth = {"label_smoothing": smoothing} if smoothing and op == "cross_entropy" else {}

    def definition(input: Any, target: Any, **weights: Any) -> Any:
        x, t, w = input.reshape(N, C, -1), target.reshape(N, -1), weights[weight]
        counted = t != IGNORE
        total = w[t[counted]].sum()
        if op == "nll_loss":
            loss = nll_loss_definition(x, t, w, IGNORE)
        elif op == "cross_entropy":
            loss = cross_entropy_definition(x, t, w, IGNORE, sum(smooth.values()))
        else:
            ce = cross_entropy_definition(x, t, np.ones_like(w), IGNORE, 0.0)
            each = np.where(counted, w[np.where(counted, t, 0)], 0).astype(input.dtype)
            loss = get_op("focal_loss").definition(ce, 2.0) * each  # type: ignore[misc]
            total = input.dtype.type(counted.sum())
        return loss.reshape(N, H, W) if reduction == "none" else np.asarray(loss.sum() / total)

    scores = draw.normal(*shape) * 2
    return Case(
        op,
        {
            "input": -abs(scores) if op == "nll_loss" else scores,
            "target": draw.labels(C, N, H, W, ignore=IGNORE),
            weight: draw.rng.uniform(0.5, 2, C),
        },
        {"ignore_index": IGNORE, "reduction": reduction} | smooth,
        lengths={"forward": C if reduction == "none" else C + N * H * W},
        definition=None if large else definition,
        large=large,
    )


def _with_probabilities(draw: Draw, N: int, C: int, H: int, W: int) -> Case:
    def definition(input: Any, target: Any, weight: Any) -> Any:
        x, t = input.reshape(N, C, -1), target.reshape(N, C, -1)
        return cross_entropy_definition(x, t, weight, IGNORE, 0.1).reshape(N, H, W)

    return Case(
        "cross_entropy",
        {
            "input": draw.normal(N, C, H, W) * 2,
            "target": np.moveaxis(draw.rng.dirichlet(np.ones(C), (N, H, W)), -1, 1),
            "weight": draw.rng.uniform(0.5, 2, C),
        },
        {"reduction": "none", "label_smoothing": 0.1},
        lengths={"forward": C},
        gradients=("input", "target"),
        definition=definition,
    )


@cases("dice_loss", "tversky_loss", "generalized_dice_loss")
def overlap(draw: Draw, op: str) -> Iterator[Case]:
    for shape in ((2, 4, 5, 6), (draw.images, 21, 192, 256)):
        N, C, H, W = shape
        large = H > 5
        yield Case(
            op,
            {
                "input": draw.normal(*shape) * 2,
                "target": draw.labels(C, N, H, W, ignore=IGNORE),
            },
            {"ignore_index": IGNORE},
            lengths={"forward": C + N * H * W},
            definition=None if large else lambda **arrays: _overlap_definition(op, **arrays),
            large=large,
        )


def _overlap_definition(op: str, input: Any, target: Any) -> Any:
    """Class by class, in the input's dtype; every class occurs in these cases."""
    p, valid = softmax_definition(input, 1), target != IGNORE
    numerators, denominators = [], []
    for c in range(input.shape[1]):
        truth = (target == c).astype(input.dtype)
        tp, fp, fn = overlap_definition(p[:, c].ravel(), truth.ravel(), valid.ravel())
        if op == "tversky_loss":
            numerators.append(tp)
            denominators.append(tp + 0.3 * fp + 0.7 * fn)
        else:
            w = 1 / truth.sum() ** 2 if op == "generalized_dice_loss" else 1.0
            numerators.append(2 * w * tp)
            denominators.append(w * (2 * tp + fp + fn))
    if op == "generalized_dice_loss":
        loss = 1 - sum(numerators) / sum(denominators)
    else:
        ratios = [n / d for n, d in zip(numerators, denominators, strict=True)]
        loss = 1 - sum(ratios) / len(ratios)
    return np.asarray(loss, input.dtype)
