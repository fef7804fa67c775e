"""The learner's answers to the cases, held against the right ones."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from minseg.exercises.diagnose import recognise
from minseg.exercises.task import Case, Exercise
from minseg.exercises.verdict import Failed, bound_of, brief, different, whole, worst


class Answers:
    """The learner's answers to the cases, and the right ones."""

    def __init__(
        self, exercise: Exercise, cases: list[Case], replies: list[dict[str, Any]], seconds: float
    ) -> None:
        self.exercise, self.task, self.seconds = exercise, exercise.task, seconds
        self.replies = {case.name: r for case, r in zip(cases, replies, strict=False)}
        if replies and (failure := replies[0].get("import")):
            text = _raised(failure)
            raise Failed("first run", f"the file cannot be imported: {text}")

    def of(self, case: Case, stage: str) -> list[np.ndarray]:
        """The outputs for a case. Failed if there are none."""
        reply = self.replies.get(case.name)
        if reply is None:
            raise Failed(stage, f"{case.name}: no answer within {self.seconds:g} seconds, or the "
                         "process died: an endless loop?", "no answer")  # fmt: skip
        if all(r.get("raised") == "NotImplementedError" for r in self.replies.values()):
            raise Failed(
                stage,
                "nothing is written yet, or `raise NotImplementedError` still stands after it. "
                f"Replace that line in {self._file()}.",
                "not written",
            )
        if "raised" in reply:
            given = ", ".join(brief(n, v) for n, v in self._given(case).items())
            raise Failed(stage, f"{case.name}: {_raised(reply)}\n  called with {given}")
        names, types = self.task.outputs, reply["types"]
        if types == ["NoneType"]:
            raise Failed(stage, "the function returns nothing: is a `return` missing?", "no return")
        if len(types) != len(names) or any(output is None for output in reply["outputs"]):
            wanted = ", ".join(names)
            if len(names) == 1 or self.task.on_tape:
                wanted = "y, a Tensor" if self.task.on_tape else f"{names[0]}, an array"
            raise Failed(stage, f"{case.name}: has to return {wanted}; "
                         f"yours returns {', '.join(types)}")  # fmt: skip
        return reply["outputs"]

    def right(self, case: Case) -> list[np.ndarray]:
        return [np.asarray(a) for a in self.task.answers(self.task.reference, case.arguments)]

    def check_order(self, case: Case) -> None:
        """The outputs in another order: nothing else is wrong with their shapes, types, values."""
        got, want, names = self.of(case, "first run"), self.right(case), self.task.outputs
        for order in permutations(range(len(names))) if not self.task.on_tape else ():
            if all(self._equal(got[i], want[j]) for i, j in enumerate(order)):
                yours = ", ".join(names[j] for j in order)
                if yours == ", ".join(names):
                    return
                raise Failed("first run", f"{case.name}: has to return {', '.join(names)}, in this "
                             f"order; yours are {yours}", "order of outputs")  # fmt: skip

    def check_shapes(self, case: Case, stage: str) -> None:
        answers = self.of(case, stage)
        pairs = zip(self.task.outputs, answers, self.right(case), strict=True)
        for i, (name, got, want) in enumerate(pairs):
            if got.dtype.kind not in "biufc":
                raise Failed(stage, f"{case.name}: {name} has the dtype {got.dtype}, needs "
                             f"{want.dtype}: what it holds is not a number (None?)")  # fmt: skip
            if got.shape != want.shape:
                pattern, advice = recognise(self.task, case.arguments, answers, i, want)
                given = ", ".join(brief(n, v) for n, v in self._given(case).items())
                raise Failed(
                    stage,
                    f"{case.name}: {name} has shape {got.shape}, needs {want.shape}"
                    f"\n  called with {given}" + _advice(advice),
                    pattern,
                )

    def check_dtypes(self, case: Case) -> None:
        floats = [v.dtype for v in case.arguments.values() if isinstance(v, np.ndarray)]
        float_in = next((d for d in floats if d.kind == "f"), np.dtype(np.float64))
        pairs = zip(self.task.outputs, self.of(case, "dtype"), self.right(case), strict=True)
        for name, got, want in pairs:
            needed = float_in if want.dtype.kind == "f" else want.dtype
            if want.dtype.kind == "f" and got.ndim == 0 and got.dtype == np.float64:
                continue  # a number of Python's
            if got.dtype.kind != needed.kind or (needed.kind == "f" and got.dtype != needed):
                why = ""
                if got.dtype == np.float64 and needed == np.float32:
                    why = (
                        "\n  np.zeros(shape) makes float64, and so do a quotient of integers and "
                        "a product of float32 and an array of integers; "
                        "np.zeros(shape, x.dtype) and .astype(x.dtype) do not."
                    )
                raise Failed("dtype", f"{case.name}: {name} is {got.dtype}, needs {needed}{why}")

    def check_values(self, case: Case, stage: str, outputs: Sequence[int]) -> None:
        self.check_shapes(case, stage)
        got, want = (list(map(_numbers, a)) for a in (self.of(case, stage), self.right(case)))
        for i in outputs:
            name, bound = self.task.outputs[i], bound_of(want[i], np.dtype(float), self.task.terms)
            wrong = different(got[i], want[i], bound)
            if wrong.any():
                pattern, advice = recognise(self.task, case.arguments, got, i, want[i])
                given = case.arguments if name.startswith("grad") else self._given(case)
                raise Failed(
                    stage,
                    f"{case.name}: {worst(name, got[i], want[i], wrong)}{_advice(advice)}\n"
                    "The smallest case that fails:\n"
                    + whole(given, {name: got[i]}, {name: want[i]}),
                    pattern,
                )

    def check_untouched(self, cases: Sequence[Case]) -> None:
        for case in cases:
            if changed := self.replies[case.name]["changed"]:
                have = "has" if len(changed) == 1 else "have"
                raise Failed(
                    "inputs untouched",
                    f"{case.name}: {' and '.join(changed)} {have} other values after the call. The "
                    "caller still needs them: work on a copy (x.copy()), or write `x = x * 2`, "
                    "which makes a new array, in place of `x *= 2`.",
                )

    def _equal(self, got: np.ndarray, want: np.ndarray) -> bool:
        if got.shape != want.shape or got.dtype.kind not in "biuf":
            return False
        got, want = _numbers(got), _numbers(want)
        return not different(got, want, bound_of(want, np.dtype(float), self.task.terms)).any()

    def _given(self, case: Case) -> dict[str, Any]:
        """What the learner's function is called with: dL/dy is for the tape."""
        own = not self.task.on_tape
        return {name: value for name, value in case.arguments.items() if own or name != "grad"}

    def _file(self) -> str:
        return f"{self.exercise.name}{self.exercise.suffix}"


def _numbers(values: np.ndarray) -> np.ndarray:
    """True and False as 1 and 0, which can be subtracted."""
    return values.astype(int) if values.dtype == bool else values


def _raised(failure: Mapping[str, Any]) -> str:
    at = f"line {failure['line']}: " if failure["line"] else ""
    return f"{at}{failure['raised']}: {failure['text']}"


def _advice(advice: str) -> str:
    return f"\n  {advice}" if advice else ""
