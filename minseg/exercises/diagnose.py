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
        except (ArithmeticError, LookupError, ValueError):  # it makes no sense for these arguments
            continue
        pairs = [(a, np.asarray(s)) for a, s in zip(answers, slipped, strict=True) if s is not None]
        if slipped[output] is not None and all(_same(a, s, task.terms) for a, s in pairs):
            return slip.name, slip.advice
    for name in arguments:
        if _ignores(name, task, arguments, got, output):
            return "argument ignored", f"This is right for the default of `{name}`: is it used?"
    if got.shape == want.shape:
        if task.on_tape and output > 0:  # y is right: it is the way back that is cut
            return "off the tape", _cut_off(task, answers)
        for name, advice, answer in _patterns(got, want):
            if _same(got, answer, task.terms):
                return name, advice
        return _where(different(got, want, bound_of(want, got.dtype, task.terms)))
    if got.size == 0 and want.size > 0:
        return (
            "empty",
            "Nothing is left: where p is 0, [p:-p] is [0:0]. Say where it ends: [p:p + n].",
        )
    if want.ndim >= 2 and got.shape == (*want.shape[:-2], *want.shape[:-3:-1]):
        what = "Height and width" if want.ndim == 4 else "The last two axes"
        return "transposed", f"{what} have changed places."
    for axes in permutations(range(want.ndim)) if got.ndim == want.ndim else ():
        if _same(got.transpose(axes), want, task.terms):
            return "order of axes", "The numbers are right, but the axes stand in another order: " \
                f"{task.outputs[output]}.transpose{axes} has them right."  # fmt: skip
    return "", ""


def _ignores(
    name: str, task: Task, arguments: Mapping[str, Any], got: np.ndarray, output: int
) -> bool:
    """Is it the right answer for the argument's default? False for one that has none."""
    others = {n: value for n, value in arguments.items() if n != name}
    try:
        with np.errstate(all="ignore"):
            answer = task.answers(task.reference, others)[output]
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False
    return _same(got, np.asarray(answer), task.terms)


def _same(got: np.ndarray, answer: np.ndarray, terms: int) -> bool:
    if got.shape != answer.shape:
        return False
    return not different(got, answer, bound_of(answer, got.dtype, terms)).any()


def _patterns(got: np.ndarray, want: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Wrong answers that come from the right one."""
    if np.isnan(got).any() and not np.isnan(want).any():
        yield "not a number", "There is a NaN: 0 / 0, inf - inf, or the log of 0?", got
    yield (
        "zeros",
        "Everything is zero: is the result ever written, or is a value subtracted from itself?",
        np.zeros_like(want),
    )
    yield "sign", "Every number has the wrong sign.", -want
    for axis in range(want.ndim):
        yield "flipped", f"The result is back to front along axis {axis}.", np.flip(want, axis)
    if want.ndim >= 2 and want.shape[-1] == want.shape[-2]:
        yield "transposed", "Rows and columns have changed places.", want.swapaxes(-1, -2)
    if digits := _right_digits(got, want):
        yield "rounded", f"Right to {digits} digits: is something computed in float32, or with " \
            "another eps or h than the one that is given?", got  # fmt: skip
    at = np.unravel_index(np.argmax(np.abs(np.nan_to_num(want))), want.shape)
    if want[at] and np.isfinite(got[at]):
        factor = got[at] / want[at]
        if want.size == 1 and not _is_whole(factor) and not _is_whole(1 / factor):
            return  # a single number is always some times another
        what = "Every number" if want.size > 1 else "It"
        advice = f"{what} is {factor:.6g} times the right one: a sum in place of a mean, " \
                 "a mean in place of a sum, or a division that is missing?"  # fmt: skip
        yield "factor", advice, want * factor
        yield (
            "offset",
            f"{what} is off by {got[at] - want[at]:.6g}.",
            want + got[at] - want[at],
        )


def _right_digits(got: np.ndarray, want: np.ndarray) -> int:
    """How many digits of the largest number are right everywhere; 0 if fewer than five."""
    finite = np.isfinite(want)
    largest = np.abs(want[finite]).max(initial=0)
    if not largest or different(got[~finite], want[~finite], 0).any():
        return 0
    error = np.abs(got[finite] - want[finite]).max() / largest
    return int(-np.log10(error)) if 0 < error < 1e-5 else 0


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
        return (
            "border",
            "Everything is right except the border: is an index off by one there, or are the "
            "places outside given a wrong value?",
        )
    for axis, what in enumerate(("image", "channel")[: max(0, wrong.ndim - 2)]):
        first, others = np.split(wrong, [1], axis)
        if not first.any() and others.any():
            return f"first {what}", f"Only the first {what} is right."
    return "", ""
