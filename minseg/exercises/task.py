"""What an exercise is: a file in lessons/exercises/, from which all else is derived.

`NN_name.py` holds, in this order:

- its docstring: the title, and what is to be done;
- the solution, a function `name`; its signature and its docstring are the learner's stub. It works
  on arrays, or, a part of a network, on Tensors. A CUDA kernel's solution is a text, `SOLUTION`,
  and the stub is all of it but the kernel's body; or all of it, with a bug that is to be found;
- `TASK`, how it is checked: cases, the right answers, typical mistakes, hints, and mutants of the
  solution, which the suite checks to be rejected with the right words.
"""

import ast
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from minseg.exercises.tape import on_tape
from minseg.lessons import lessons_folder
from minseg.suggest import suggest

TODO = "    # TODO: your code, in place of the next line\n    raise NotImplementedError\n"
IMPORTS = "import numpy as np\n"
PART_IMPORTS = "import minseg.functional as F\nfrom minseg import Tensor, cat\n"
KERNEL_TODO = "    // TODO: your code\n"


@dataclass(frozen=True)
class Case:
    """Arguments to call the learner's function with. A case is small: it may be printed whole."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Slip:
    """A typical mistake, recognised by the answer that it gives for a case's arguments."""

    name: str
    advice: str  # in a learner's words: what is seen, and where to look
    answer: Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """A wrong solution, and the name of the slip, pattern or stage by which it is rejected."""

    diagnosis: str
    old: str
    new: str


@dataclass(frozen=True)
class Goal:
    """What a kernel is to ask of the memory, as the profiler counts it."""

    name: str
    advice: str
    met: Callable[[Any], bool]  # of a Profile


@dataclass(frozen=True)
class Use:
    """Where a solution can do the library's work: one part of an op, in every network.

    Or one of a network's own functions: then `op` is the module, "minseg.models.unet", and `part`
    the function in it, "join", or a class's method, "Gate.forward".

    adapt(solution, *arguments) computes the part, for its arguments, by the solution (a kernel's is
    a function that launches it); or it returns NotImplemented, where the exercise asks for less
    than the op can do: then the library's own is called. lesson: the number of one to run on it.
    """

    op: str
    part: str
    adapt: Callable[..., Any]
    lesson: str


@dataclass(frozen=True)
class Task:
    """How an exercise is checked.

    outputs: names of what the function returns; those that begin with "grad" are compared in a
    stage of their own. reference: the right answers, in float64, from the library. terms: the
    longest sum behind a number, from which follows how far rounding may carry it.
    goals: for a kernel, whose cases' arguments are the kernel's, in its order. bug: of a kernel
    that is to be repaired, not written: the stub is the solution with it. use: None where no op of
    a network computes just this. on_tape: the functions, slips too, take Tensors and return one,
    y; the outputs are y and, by the tape, the gradients of all float arguments, for the dL/dy that
    each case has as `grad`.
    """

    outputs: tuple[str, ...]
    reference: Callable[..., Any]
    terms: int
    cases: tuple[Case, ...]  # from the smallest to the hardest
    hints: tuple[str, str, str]  # the idea, the index formula, nearly the code
    slips: tuple[Slip, ...]
    mutants: tuple[Mutant, ...]
    edge_cases: tuple[Case, ...] = ()
    goals: tuple[Goal, ...] = ()
    bug: Mutant | None = None
    use: Use | None = None
    on_tape: bool = False

    def answers(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple:
        """What the reference, or a slip, gives for a case's arguments: all outputs."""
        if self.on_tape:
            return on_tape(function)(**arguments)
        answers = function(**arguments)
        return answers if len(self.outputs) > 1 else (answers,)


@dataclass(frozen=True)
class Exercise:
    """A task with the texts that are derived from its file."""

    name: str
    title: str
    statement: str
    solution: str
    stub: str
    suffix: str  # of the learner's file: ".py" or ".cu"
    task: Task

    def mutated(self, mutant: Mutant) -> str:
        """The solution with the mutant's change."""
        if self.solution.count(mutant.old) != 1:
            raise ValueError(f"{self.name}: {mutant.old!r} is not in the solution once")
        return self.solution.replace(mutant.old, mutant.new)


def exercises_folder() -> Path:
    """Where the tasks are: beside the lessons."""
    return lessons_folder() / "exercises"


@lru_cache(maxsize=1)
def exercises() -> dict[str, Exercise]:
    """All exercises by name, in the order in which they are to be done."""
    files = sorted(exercises_folder().glob("[0-9][0-9]_*.py"))
    return {exercise.name: exercise for exercise in map(read_exercise, files)}


def get_exercise(name: str) -> Exercise:
    """The exercise of this name. Raises ValueError for another."""
    if name not in exercises():
        near = suggest(name, exercises())
        raise ValueError(
            f"there is no exercise {name!r}{near}; `minseg exercise list` names them all"
        )
    return exercises()[name]


def read_exercise(path: Path) -> Exercise:
    """Read a task's file."""
    name, text, module = path.stem[3:], path.read_text("utf-8"), _import(path)
    # `python -OO` leaves out `module.__doc__`, and from Python 3.14 on what ast.parse gives, too.
    tree: Any = compile(text, str(path), "exec", ast.PyCF_ONLY_AST, optimize=0)
    title, _, statement = (ast.get_docstring(tree) or "").partition("\n")
    statement = statement.strip()
    if hasattr(module, "SOLUTION"):
        head = "".join(f"// {line}".rstrip() + "\n" for line in [title, "", *statement.split("\n")])
        solution = head + "\n" + module.SOLUTION.lstrip()
        stub = re.sub(r"(__global__[^{]*\{\n).*?(^\})", rf"\1{KERNEL_TODO}\2", solution,
                      flags=re.DOTALL | re.MULTILINE)  # fmt: skip
        exercise = Exercise(name, title, statement, solution, stub, ".cu", module.TASK)
        bug = exercise.task.bug
        return replace(exercise, stub=exercise.mutated(bug)) if bug else exercise
    imports = PART_IMPORTS if module.TASK.on_tape else IMPORTS
    head = f'"""{title}\n\n{statement}\n"""\n\n{imports}\n\n'
    lines = text.splitlines(keepends=True)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    own = next(node for node in functions if node.name == name)
    code = "".join(lines[functions[0].lineno - 1 : own.end_lineno])  # with its helpers
    signature = "".join(lines[own.lineno - 1 : own.body[0].end_lineno])  # and its docstring
    return Exercise(name, title, statement, head + code, head + signature + TODO, ".py",
                    module.TASK)  # fmt: skip


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"minseg_exercise_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
