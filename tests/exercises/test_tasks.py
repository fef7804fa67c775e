"""The tasks themselves: solutions pass, stubs and mutants fail in the right way, nothing drifts."""

import ast
import subprocess
import sys

import numpy as np
import pytest

from minseg.emulator import compiler
from minseg.exercises.task import Exercise, exercises
from minseg.exercises.verify import verify

each_exercise = pytest.mark.parametrize("exercise", exercises().values(), ids=lambda e: e.name)


def test_there_are_exercises() -> None:
    assert len(exercises()) >= 30


@each_exercise
def test_solution_passes_and_mutants_are_told_apart(exercise: Exercise) -> None:
    if exercise.suffix == ".cu":
        try:
            compiler.compiler()
        except RuntimeError as error:
            pytest.skip(str(error))
    heard = sys.stdout
    assert verify(exercise) == []
    assert sys.stdout is heard  # each check of a kernel redirects it, several at a time


def test_python_without_docstrings_has_the_texts_all_the_same() -> None:
    code = (
        "from minseg.exercises.task import exercises\n"
        "print([(e.title, e.statement, e.stub) for e in exercises().values()])"
    )
    run = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(run.stdout) == [
        (e.title, e.statement, e.stub) for e in exercises().values()
    ]


@each_exercise
def test_form(exercise: Exercise) -> None:
    task = exercise.task
    assert exercise.title
    assert exercise.statement
    assert len(task.hints) == 3
    assert len(task.mutants) >= 4
    assert len({mutant.diagnosis for mutant in task.mutants}) >= 4
    assert all(len(line) <= 103 for line in exercise.stub.splitlines())
    for case in (*task.cases, *task.edge_cases):
        sizes = [v.size for v in case.arguments.values() if isinstance(v, np.ndarray)]
        assert max(sizes) <= 200 or exercise.suffix == ".cu"  # else it is not printed whole


@each_exercise
def test_stub_holds_no_solution(exercise: Exercise) -> None:
    """It is the solution up to the docstring, or to the kernel's body; or it has the bug."""
    if (bug := exercise.task.bug) is not None:
        before, after = exercise.solution.split(bug.old)
        assert exercise.stub == before + bug.new + after
        return
    assert "TODO" in exercise.stub
    if exercise.suffix == ".py":
        stub, solution = (
            next(n for n in ast.parse(text).body
                 if isinstance(n, ast.FunctionDef) and n.name == exercise.name)
            for text in (exercise.stub, exercise.solution)
        )  # fmt: skip
        assert ast.unparse(stub.args) == ast.unparse(solution.args)
        assert ast.get_docstring(stub) == ast.get_docstring(solution)
        assert [ast.unparse(node) for node in stub.body[1:]] == ["raise NotImplementedError"]
    else:
        start = exercise.stub.index("__global__")
        assert exercise.stub[start:].split("{\n")[1] == "    // TODO: your code\n}\n"


def test_mutant_that_does_not_fit_is_refused() -> None:
    from minseg.exercises.task import Mutant

    with pytest.raises(ValueError, match="not in the solution once"):
        exercises()["conv2d"].mutated(Mutant("x", "no such text", ""))
