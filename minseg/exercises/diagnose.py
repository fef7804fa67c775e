"""Recognise a typical mistake by the numbers that it gives.

First the task's own slips: the learner's answer is *exactly* what one gets if the kernel is
flipped. Then patterns that need no knowledge of the task: signs, factors, axes, borders.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from minseg.exercises.task import Task
from minseg.exercises.verdict import bound_of, different


def recognise(
    task: Task, arguments: Mapping[str, Any], answers: Sequence[np.ndarray], output: int,
    want: np.ndarray,
) -> tuple[str, str]:  # fmt: skip
    """Name and advice of the first mistake that explains the answers; "" and "" if none does.

    `answers` are the learner's, of which number `output` should be `want`. A slip has to explain
    all of them that it says something about (it gives None for the others).
    """
    got = answers[output]
    for slip in task.slips:
        try:
            with np.errstate(all="ignore"):
                slipped = task.answers(slip.answer, arguments)
        except (ValueError, IndexError):  # it makes no sense for these shapes
            continue
        pairs = [(a, np.asarray(s)) for a, s in zip(answers, slipped, strict=True) if s is not None]
        if slipped[output] is not None and all(_same(a, s, task.terms) for a, s in pairs):
            return slip.name, slip.advice
    if got.shape == want.shape:
        if task.on_tape and output > 0:  # y is right: it is the way back that is cut
            return "off the tape", _cut_off(task, answers)
        for name, advice, answer in _patterns(got, want):
            if _same(got, answer, task.terms):
                return name, advice
        return _where(different(got, want, bound_of(want, got.dtype, task.terms)))
    if want.ndim >= 2 and got.shape == (*want.shape[:-2], *want.shape[:-3:-1]):
        return "transposed", "Height and width have changed places."
    for axes in permutations(range(want.ndim)) if got.ndim == want.ndim else ():
        if _same(got.transpose(axes), want, task.terms):
            return "order of axes", "The numbers are right, but the axes stand in another order: " \
                f"{task.outputs[output]}.transpose{axes} has them right."  # fmt: skip
    return "", ""


def _same(got: np.ndarray, answer: np.ndarray, terms: int) -> bool:
    if got.shape != answer.shape:
        return False
    return not different(got, answer, bound_of(answer, got.dtype, terms)).any()


def _patterns(got: np.ndarray, want: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Wrong answers that come from the right one."""
    if np.isnan(got).any() and not np.isnan(want).any():
        yield "not a number", "There is a NaN: 0 / 0, inf - inf, or the log of 0?", got
    yield "zeros", "All is zero: is the result ever written?", np.zeros_like(want)
    yield "sign", "Every number has the wrong sign.", -want
    for axis in range(want.ndim):
        yield "flipped", f"The result is back to front along axis {axis}.", np.flip(want, axis)
    if want.ndim >= 2 and want.shape[-1] == want.shape[-2]:
        yield "transposed", "Rows and columns have changed places.", want.swapaxes(-1, -2)
    at = np.unravel_index(np.argmax(np.abs(np.nan_to_num(want))), want.shape)
    if want[at] and np.isfinite(got[at]):
        factor = got[at] / want[at]
        if want.size == 1 and not _is_whole(factor) and not _is_whole(1 / factor):
            return  # a single number is always some times another
        advice = f"Every number is {factor:.6g} times the right one: a sum in place of a mean, " \
                 "a mean in place of a sum, or a division that is missing?"  # fmt: skip
        yield "factor", advice, want * factor
        yield (
            "offset",
            f"Every number is off by {got[at] - want[at]:.6g}.",
            want + got[at] - want[at],
        )
    if np.allclose(got, want, rtol=1e-5, atol=1e-6):
        yield "rounded", "Right to 7 digits only: something is computed in float32.", got


def _is_whole(number: float) -> bool:
    return abs(np.round(number)) >= 1 and abs(number - np.round(number)) <= 1e-3


def _cut_off(task: Task, answers: Sequence[np.ndarray]) -> str:
    """Where the tape does not lead."""
    pairs = zip(task.outputs, answers, strict=True)
    silent = [name.removeprefix("grad_") for name, grad in pairs if not grad.any()]
    where = f"No gradient arrives at {', '.join(silent)}" if silent else "A part of it is missing"
    return f"{where}: .data, .numpy() and .detach() leave the tape, operations on Tensors do not."


def _where(wrong: np.ndarray) -> tuple[str, str]:
    """Nothing is known but where it is wrong."""
    if wrong.ndim >= 2 and min(wrong.shape[-2:]) > 2 and not wrong[..., 1:-1, 1:-1].any():
        return "border", "All is right but the border: is an index off by one there?"
    for axis, what in enumerate(("image", "channel")[: max(0, wrong.ndim - 2)]):
        first, others = np.split(wrong, [1], axis)
        if not first.any() and others.any():
            return f"first {what}", f"Only the first {what} is right."
    return "", ""
