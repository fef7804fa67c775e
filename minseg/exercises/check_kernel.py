"""Check a learner's CUDA kernel: own work, signature, values, sanitizer, the profiler's goals.

It runs in the emulator's instrumented build, a program of its own: what it writes past the end of
an array, or an endless loop, harms nobody.
"""

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from minseg import kernels
from minseg.cuda.source import Kernel
from minseg.emulator import instrumented
from minseg.emulator.compiler import CompileError, compiler
from minseg.emulator.findings import Finding
from minseg.emulator.profile import profile
from minseg.emulator.sanitize import sanitize_launch
from minseg.exercises.causes import explain
from minseg.exercises.diagnose import recognise
from minseg.exercises.task import KERNEL_TODO, Case, Exercise
from minseg.exercises.verdict import Failed, bound_of, different, whole, worst

WHERE = 2  # seconds of an endless loop that are enough to see where it is


def stages(
    exercise: Exercise, path: Path, text: str, seconds: float, printed: list[str]
) -> Iterator[str]:
    """Gives each stage that is passed; raises Failed at the first that is not."""
    try:
        compiler()
    except RuntimeError as error:
        raise Failed("compiler", str(error)) from None
    if include := re.search(r'^\s*#\s*include\s*["<].*', text, re.MULTILINE):
        raise Failed("own work", f"`{include[0].strip()}`: the kernel stands alone; write it here.")
    yield "own work"
    kernel = _read(exercise, path)
    yield "signature"
    if KERNEL_TODO.strip() in text:
        raise Failed("written", f"nothing is written yet. Fill in the kernel in {path.name}, and "
                     f"remove the line `{KERNEL_TODO.strip()}`.", "not written")  # fmt: skip
    for case in exercise.task.cases:
        _check_values(exercise, kernel, case, int(seconds), printed)
    yield "values"
    for case in exercise.task.cases:
        if findings := _findings(_launch(kernel, case), int(seconds)):
            pattern, advice = explain(findings, path)
            raise Failed("sanitizer", f"{case.name}: {advice}", pattern)
    yield "sanitizer"
    with redirect_stdout(StringIO()):
        _check_goals(exercise, kernel)
    if exercise.task.goals:
        yield "profiler"


def _read(exercise: Exercise, path: Path) -> Kernel:
    try:
        found = kernels.load(path).kernels
    except ValueError as error:
        raise Failed("signature", str(error)) from None
    if exercise.name not in found:
        raise Failed("signature", f"there is no kernel {exercise.name}; was it renamed?")
    kernel = found[exercise.name]
    want = re.search(rf"\b{exercise.name}\(([^)]*)\)", exercise.stub)
    assert want is not None
    names = re.findall(r"(\w+)\s*(?:,|$)", want[1])
    if [p.name for p in kernel.parameters] != names:
        got = ", ".join(p.name for p in kernel.parameters)
        raise Failed("signature", f"{exercise.name} has to take ({', '.join(names)}), yours takes "
                     f"({got})")  # fmt: skip
    return kernel


def _launch(kernel: Kernel, case: Case) -> kernels.Launch:
    try:
        return kernels.check(f"{kernel.path}:{kernel.name}", *case.arguments.values())
    except (ValueError, TypeError) as error:
        raise Failed("launch", str(error)) from None


def _check_values(
    exercise: Exercise, kernel: Kernel, case: Case, seconds: int, printed: list[str]
) -> None:
    launch = _launch(kernel, case)
    try:
        with redirect_stdout(StringIO()) as said:
            arrays = instrumented.run(launch, "counted", seconds).arrays
        if text := said.getvalue():
            printed.append(f"{case.name}:\n{text}")
    except (CompileError, ValueError) as error:  # of the emulator's own reading
        raise Failed("values", f"it does not compile:\n{_brief(str(error))}", "compiler") from None
    if arrays is None:
        pattern, advice = explain(_findings(launch, WHERE), kernel.path)
        raise Failed("values", f"{case.name}: no result. {advice}", pattern)
    task, names = exercise.task, exercise.task.outputs
    given: dict[str, Any] = dict(case.arguments)
    answers = task.reference(**given)
    right = [np.asarray(a) for a in (answers if len(names) > 1 else [answers])]
    results = [arrays[name] for name in names]
    for i, (name, got, want) in enumerate(zip(names, results, right, strict=True)):
        wrong = different(got, want, bound_of(want, got.dtype, task.terms))
        if not wrong.any():
            continue
        pattern, advice = recognise(task, given, results, i, want)
        known = pattern in {slip.name for slip in task.slips}
        findings = _findings(launch, seconds)
        if findings and (not known or any(f.kind == "racecheck" for f in findings)):
            pattern, advice = explain(findings, kernel.path)  # a race may look like anything
        advice = f"\n  {advice}" if advice else ""
        before = {p.name: f"{p.name} before" for p in kernel.parameters if p.role == "inout"}
        inputs = {before.get(n, n): v for n, v in given.items() if n in before or n not in names}
        raise Failed("values", f"{case.name}: {worst(name, got, want, wrong)}{advice}\n"
                     "The smallest case that fails:\n" + whole(inputs, {name: got}, {name: want}),
                     pattern)  # fmt: skip


def _findings(launch: kernels.Launch, seconds: int) -> list[Finding]:
    """The sanitizer's, of runs in several orders: what they print was printed before."""
    with redirect_stdout(StringIO()):
        return sanitize_launch(launch, seconds)


def _check_goals(exercise: Exercise, kernel: Kernel) -> None:
    if not exercise.task.goals:
        return
    case = exercise.task.cases[-1]
    counts = profile(f"{kernel.path}:{kernel.name}", *case.arguments.values())
    for goal in exercise.task.goals:
        if not goal.met(counts):
            raise Failed("profiler", f"The numbers are right, but: {goal.advice}\n{counts}",
                         goal.name)  # fmt: skip


def _brief(error: str) -> str:
    """The first errors of the compiler, which says much more."""
    lines = [line for line in error.splitlines() if "error:" in line]
    return "\n".join(f"  {line}" for line in lines[:3]) or error[:500]
