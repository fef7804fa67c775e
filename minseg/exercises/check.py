"""Check what a learner wrote, stage by stage, and stop at the first that fails.

syntax, own work, signature, first run, shape, dtype, values (from the smallest case to the
hardest), gradient, inputs untouched, edge cases. (`check_kernel.py` has the stages of a kernel.)
"""

import ast
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minseg.exercises import worker
from minseg.exercises.diagnose import recognise
from minseg.exercises.task import Case, Exercise
from minseg.exercises.verdict import Failed, Verdict, bound_of, different, whole, worst

SECONDS = 20  # for all calls: the cases are small


def check(exercise: Exercise, path: Path, seconds: float = SECONDS) -> Verdict:
    """Check the learner's file. Runs it in a process of its own, for at most `seconds`."""
    from minseg.exercises import check_kernel

    text = path.read_text("utf-8")
    stages = check_kernel.stages if exercise.suffix == ".cu" else _stages
    passed: list[str] = []
    printed: list[str] = []
    try:
        for stage in stages(exercise, path, text, seconds, printed):
            passed.append(stage)
    except Failed as failed:
        return Verdict(failed.stage, failed.message, failed.pattern, tuple(passed), *printed)
    return Verdict("", "", "", tuple(passed), *printed)


def _stages(
    exercise: Exercise, path: Path, text: str, seconds: float, printed: list[str]
) -> Iterator[str]:
    """Gives each stage that is passed; raises Failed at the first that is not."""
    task = exercise.task
    tree = _parse(text)
    yield "syntax"
    _check_own_work(tree)
    yield "own work"
    _check_signature(exercise, tree)
    yield "signature"

    first, single = task.cases[0], _single(task.cases[0])
    cases = [*task.cases, single, *task.edge_cases]
    replies, output = _run(path, exercise.name, [case.arguments for case in cases], seconds)
    printed.append(output)
    answers = _Answers(exercise, cases, replies, seconds)
    answers.of(first, "first run")
    yield "first run"
    answers.check_shapes(first, "shape")
    yield "shape"
    for case in (first, single):
        answers.check_dtypes(case)
    yield "dtype"
    gradients = [name.startswith("grad") for name in task.outputs]
    for stage, wanted in (("values", False), ("gradient", True)):
        chosen = [i for i, is_gradient in enumerate(gradients) if is_gradient == wanted]
        for case in task.cases if chosen else ():
            answers.check_values(case, stage, chosen)
        if chosen:
            yield stage
    answers.check_untouched(task.cases)
    yield "inputs untouched"
    for case in task.edge_cases:
        answers.check_values(case, "edge cases", range(len(task.outputs)))
    if task.edge_cases:
        yield "edge cases"


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        raise Failed("syntax", f"line {error.lineno}: {error.msg}\n    {line}") from None


def _check_own_work(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in worker.READY_MADE:
                raise Failed(
                    "own work",
                    f"line {node.lineno} imports {name}: to call a ready op is declined here; the "  # type: ignore[attr-defined]
                    "exercise is to write it. NumPy is all that it takes.",
                )


def _check_signature(exercise: Exercise, tree: ast.Module) -> None:
    want = _function(ast.parse(exercise.stub), exercise.name)
    got = _function(tree, exercise.name)
    assert want is not None
    if got is None:
        raise Failed("signature", f"there is no function {exercise.name}; was it renamed?")
    if _arguments(got) != _arguments(want):
        raise Failed(
            "signature",
            f"line {got.lineno}: {exercise.name} has to take ({_arguments(want)}), "
            f"yours takes ({_arguments(got)})",
        )


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    return found[-1] if found else None


def _arguments(function: ast.FunctionDef) -> str:
    arguments = ast.parse(ast.unparse(function.args).join(["def f(", "): ..."])).body[0]
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(arguments.args)  # type: ignore[attr-defined]


def _single(case: Case) -> Case:
    """The case in float32."""
    return Case(f"{case.name}, in float32", {
        name: value.astype(np.float32) if _is_float(value) else value
        for name, value in case.arguments.items()
    })  # fmt: skip


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def _run(
    path: Path, name: str, calls: Sequence[Mapping[str, Any]], seconds: float
) -> tuple[list[dict[str, Any]], str]:
    """The worker's replies, as many as there were in time, and what was printed."""
    with tempfile.TemporaryDirectory(prefix="minseg-") as folder:
        request, replies = Path(folder) / "request", Path(folder) / "replies"
        request.write_bytes(pickle.dumps([dict(arguments) for arguments in calls]))
        replies.touch()
        words = [sys.executable, worker.__file__, str(path), name, str(request), str(replies)]
        try:
            output = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                    timeout=seconds).stdout  # fmt: skip
        except subprocess.TimeoutExpired as late:
            output = late.stdout or b""
        found = []
        with replies.open("rb") as file:
            try:
                while True:
                    found.append(pickle.load(file))
            except (EOFError, pickle.UnpicklingError):  # the end, or an answer cut off
                pass
    return found, output.decode(errors="replace")


class _Answers:
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
        if reply.get("raised") == "NotImplementedError":
            raise Failed(
                stage,
                f"nothing is written yet. Replace `raise NotImplementedError` in {self._file()}.",
                "not written",
            )
        if "raised" in reply:
            given = ", ".join(_brief(n, v) for n, v in case.arguments.items())
            raise Failed(stage, f"{case.name}: {_raised(reply)}\n  called with {given}")
        names, types = self.task.outputs, reply["types"]
        if types == ["NoneType"]:
            raise Failed(stage, "the function returns nothing: is a `return` missing?", "no return")
        if len(types) != len(names) or any(output is None for output in reply["outputs"]):
            raise Failed(stage, f"{case.name}: has to return {', '.join(names)}; "
                         f"yours returns {', '.join(types)}")  # fmt: skip
        return reply["outputs"]

    def right(self, case: Case) -> list[np.ndarray]:
        answers = self.task.reference(**case.arguments)
        return [np.asarray(a) for a in (answers if len(self.task.outputs) > 1 else [answers])]

    def check_shapes(self, case: Case, stage: str) -> None:
        answers = self.of(case, stage)
        pairs = zip(self.task.outputs, answers, self.right(case), strict=True)
        for i, (name, got, want) in enumerate(pairs):
            if got.shape != want.shape:
                pattern, advice = recognise(self.task, case.arguments, answers, i, want)
                given = ", ".join(_brief(n, v) for n, v in case.arguments.items())
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
                    why = "\n  np.zeros(shape) makes float64; np.zeros(shape, x.dtype) does not."
                raise Failed("dtype", f"{case.name}: {name} is {got.dtype}, needs {needed}{why}")

    def check_values(self, case: Case, stage: str, outputs: Sequence[int]) -> None:
        got, want = self.of(case, stage), self.right(case)
        self.check_shapes(case, stage)
        for i in outputs:
            name, bound = self.task.outputs[i], bound_of(want[i], np.dtype(float), self.task.terms)
            wrong = different(got[i], want[i], bound)
            if wrong.any():
                pattern, advice = recognise(self.task, case.arguments, got, i, want[i])
                raise Failed(
                    stage,
                    f"{case.name}: {worst(name, got[i], want[i], wrong)}{_advice(advice)}\n"
                    "The smallest case that fails:\n"
                    + whole(case.arguments, {name: got[i]}, {name: want[i]}),
                    pattern,
                )

    def check_untouched(self, cases: Sequence[Case]) -> None:
        for case in cases:
            if changed := self.replies[case.name]["changed"]:
                raise Failed(
                    "inputs untouched",
                    f"{case.name}: {' and '.join(changed)} has other values after the call. The "
                    "caller still needs them: work on a copy (x.copy()), or write `x = x * 2`, "
                    "which makes a new array, in place of `x *= 2`.",
                )

    def _file(self) -> str:
        return f"{self.exercise.name}{self.exercise.suffix}"


def _raised(failure: Mapping[str, Any]) -> str:
    at = f"line {failure['line']}: " if failure["line"] else ""
    return f"{at}{failure['raised']}: {failure['text']}"


def _advice(advice: str) -> str:
    return f"\n  {advice}" if advice else ""


def _brief(name: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{name}: {'x'.join(map(str, value.shape)) or 'a number'}"
    return f"{name}={value}"
