"""Check what a learner wrote, stage by stage, and stop at the first that fails.

syntax, own work, signature, first run, shape, dtype, values (from the smallest case to the
hardest), gradient, inputs untouched, edge cases. (`check_kernel.py` has the stages of a kernel.)
"""

import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minseg import capture
from minseg.exercises import source, worker
from minseg.exercises.answers import Answers
from minseg.exercises.task import Case, Exercise
from minseg.exercises.verdict import Failed, Verdict

SECONDS = 20  # for all calls: the cases are small


def check(exercise: Exercise, path: Path, seconds: float = SECONDS) -> Verdict:
    """Check the learner's file. Runs it in a process of its own, for at most `seconds`."""
    from minseg.exercises import check_kernel

    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        return Verdict("syntax", f"{path.name} is not saved as UTF-8 ({error})")
    stages = check_kernel.stages if exercise.suffix == ".cu" else _stages
    passed: list[str] = []
    printed: list[str] = []
    try:
        for stage in stages(exercise, path, text, seconds, printed):
            passed.append(stage)
    except Failed as failed:
        return Verdict(
            failed.stage, failed.message, failed.pattern, tuple(passed), "".join(printed)
        )
    return Verdict("", "", "", tuple(passed), "".join(printed))


def _stages(
    exercise: Exercise, path: Path, text: str, seconds: float, printed: list[str]
) -> Iterator[str]:
    """Gives each stage that is passed; raises Failed at the first that is not."""
    task = exercise.task
    tree = source.parse(text)
    yield "syntax"
    source.check_own_work(exercise, tree)
    yield "own work"
    source.check_signature(exercise, tree)
    yield "signature"

    first, single = task.cases[0], _single(task.cases[0])
    cases = [*task.cases, single, *task.edge_cases]
    replies, output = _run(exercise, path, cases, seconds)
    printed.append(output)
    answers = Answers(exercise, cases, replies, seconds)
    answers.check_order(first)
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


def _single(case: Case) -> Case:
    """The case in float32."""
    return Case(f"{case.name}, in float32", {
        name: value.astype(np.float32) if _is_float(value) else value
        for name, value in case.arguments.items()
    })  # fmt: skip


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def _run(
    exercise: Exercise, path: Path, cases: Sequence[Case], seconds: float
) -> tuple[list[dict[str, Any]], str]:
    """The worker's replies, as many as there were in time, and what was printed."""
    with tempfile.TemporaryDirectory(prefix="minseg-") as folder:
        request, replies = Path(folder) / "request", Path(folder) / "replies"
        request.write_bytes(pickle.dumps([(c.name, dict(c.arguments)) for c in cases]))
        replies.touch()
        words = [sys.executable, worker.__file__, str(path), exercise.name, str(request)]
        words += [str(replies), *(["tape"] if exercise.task.on_tape else [])]
        output = capture.run(words, seconds).printed
        found = []
        with replies.open("rb") as file:
            try:
                while True:
                    found.append(pickle.load(file))
            except (EOFError, pickle.UnpicklingError):  # the end, or an answer cut off
                pass
    return found, output
