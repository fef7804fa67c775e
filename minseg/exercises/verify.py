"""Are the exercises themselves right? Solutions pass; stubs and mutants fail in the right way."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from minseg.exercises.check import check
from minseg.exercises.task import Exercise
from minseg.parallel import get_num_threads

Trial = tuple[str, str, str]  # what is checked, its text, and its diagnosis: "" for passed


def trials(exercise: Exercise) -> Iterator[Trial]:
    """The solution, the stub, and every mutant."""
    yield "solution", exercise.solution, ""
    bug = exercise.task.bug
    yield "stub", exercise.stub, bug.diagnosis if bug else "not written"
    for number, mutant in enumerate(exercise.task.mutants, 1):
        yield f"mutant {number} ({mutant.diagnosis})", exercise.mutated(mutant), mutant.diagnosis


def verify(exercise: Exercise) -> list[str]:
    """What is wrong with the exercise, a line each. Runs every trial as a learner's file is run."""

    def complaint(trial: Trial) -> str:
        what, text, diagnosis = trial
        with tempfile.TemporaryDirectory(prefix="minseg-") as folder:
            path = Path(folder) / f"{exercise.name}{exercise.suffix}"
            path.write_text(text, encoding="utf-8")
            verdict = check(exercise, path)
        if verdict.diagnosis == diagnosis:
            return ""
        said = (
            f"{verdict.stage}: {verdict.pattern}: {verdict.message}" if verdict.stage else "passed"
        )
        return f"{exercise.name}: {what}: {said}"

    # A kernel's check redirects what is printed, for all threads: the last would leave it so.
    with redirect_stdout(StringIO()), ThreadPoolExecutor(get_num_threads()) as pool:
        return [line for line in pool.map(complaint, trials(exercise)) if line]
