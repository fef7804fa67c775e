"""`minseg lesson run 14 --with conv2d=my/conv2d.py`: a lesson on what a learner wrote.

A task's `Use` names the part of an op that its solution can take over, and adapts the arguments.
`minseg.override` puts it there, a kernel too: it is launched on the op's arrays, in the emulator or
on the GPU, as the production kernel would be. A part of a network is a function of its module, or a
method, and is replaced there. The printout and the figures say what was used.
"""

import runpy
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import minseg.functional  # noqa: F401, all ops
from minseg import kernels, lesson
from minseg.exercises.check import check
from minseg.exercises.task import Exercise, Use, exercises, get_exercise
from minseg.ops.op import get_op, override

PATIENCE = 10.0  # seconds in a learner's function until a line says that it takes its time


class StandIn:
    """A learner's function or kernel in the place of a part of an op; counts its calls."""

    def __init__(self, exercise: Exercise, file: Path) -> None:
        assert exercise.task.use is not None
        self.exercise, self.file, self.use = exercise, file, exercise.task.use
        self.solution = load(exercise, file)
        self.fault = fault(exercise, file)
        self.built_in = built_in(self.use)
        self.calls, self.left, self.seconds, self.patience = 0, 0, 0.0, PATIENCE

    def __call__(self, array: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = self.use.adapt(self.solution, array, *arguments)
        if result is NotImplemented:  # not what the exercise asks for: another mode, a dilation
            self.left += 1
            return self.built_in(array, *arguments)
        self.calls += 1
        self.seconds += time.perf_counter() - start
        if self.seconds > self.patience:
            print(f"{self.file.name}: {self.called}, {self.seconds:.0f} s so far; --fast asks for "
                  "less, Ctrl-C stops", file=sys.stderr, flush=True)  # fmt: skip
            self.patience *= 2
        return result

    def __str__(self) -> str:
        """What was used, for the foot of a figure."""
        text = f"{self.file.name}, {self.called}"
        text += f" ({self.left} more stayed minseg's)" if self.left else ""
        return self.used(text + (", fails its check" if self.fault else ""))

    @property
    def called(self) -> str:
        return f"{self.calls or 'no'} call{'s' * (self.calls != 1)}"

    def used(self, own: Path | str) -> str:
        """Which part is the learner's `own`, and which are not."""
        if in_network(self.use):
            return f"{self.use.op}.{self.use.part}: {own}"
        op = get_op(self.use.op)
        kept = ", ".join(part for part in op.numpy if part not in op.overrides)
        return f"{op.name} {self.use.part}: {own}" + (f"; {kept}: minseg's" if kept else "")


def in_network(use: Use) -> bool:
    """Whether it is a function of a network's module, not a part of an op."""
    return "." in use.op


def owner(use: Use) -> tuple[Any, str]:
    """The network's module, or the class in it, and the name of the function there."""
    *path, name = use.part.split(".")
    return reduce(getattr, path, import_module(use.op)), name


def built_in(use: Use) -> Callable[..., Any]:
    """The library's own."""
    if in_network(use):
        return getattr(*owner(use))
    return partial(get_op(use.op).built_in, use.part)


@contextmanager
def replaced(use: Use, one: StandIn) -> Iterator[None]:
    """Inside, the network calls what was written. (A method: with the module as first argument.)"""
    place, name = owner(use)
    setattr(place, name, lambda *arguments: one(*arguments))
    try:
        yield
    finally:
        setattr(place, name, one.built_in)


def load(exercise: Exercise, file: Path) -> Callable[..., Any]:
    """The function in the file, or one that launches its kernel. ValueError if there is none."""
    if file.suffix != exercise.suffix:
        raise ValueError(f"--with {exercise.name}: {file} is no {exercise.suffix} file")
    if not file.is_file():
        raise ValueError(f"--with {exercise.name}: there is no file {file}")
    if exercise.suffix == ".cu":
        name = f"{file}:{exercise.name}"
        kernels.kernel_info(name)
        return partial(kernels.launch, name)
    try:
        names = runpy.run_path(str(file))
    except Exception as error:
        raise ValueError(f"{file}: {type(error).__name__}: {error}") from error
    if exercise.name not in names:
        raise ValueError(f"{file} has no function {exercise.name}")
    return names[exercise.name]


def fault(exercise: Exercise, file: Path) -> str:
    """Where its check fails, "" for a pass: a wrong layer may be run, to see what it does.

    ValueError if nothing is written.
    """
    verdict = check(exercise, file)
    if verdict.pattern == "not written":
        raise ValueError(f"{file}: {verdict.message}")
    return f"{verdict.stage}, {verdict.pattern}" if verdict.pattern else verdict.stage


def read(text: str) -> StandIn:
    """ "conv2d=my/conv2d.py". ValueError for what cannot be replaced: it says what can."""
    name, equals, file = text.partition("=")
    if not equals or not file:
        raise ValueError(f"--with {text}: needs NAME=FILE, an exercise's name and what you wrote")
    exercise = get_exercise(name)
    if exercise.task.use is None:
        able = ", ".join(e.name for e in exercises().values() if e.task.use)
        raise ValueError(f"--with {name}: no network computes just this, so there is "
                         f"nothing for it to replace. There is for {able}")  # fmt: skip
    return StandIn(exercise, Path(file))


@contextmanager
def standing_in(texts: Sequence[str], device: str = "cpu") -> Iterator[None]:
    """Put what was written in the place of the library's, and say so, before and after.

    ValueError for what cannot be put there, and for a Python function on a GPU's arrays.
    """
    found = [read(text) for text in texts]
    on_arrays = [one for one in found if not in_network(one.use)]
    if device != "cpu" and (python := [one for one in on_arrays if one.file.suffix == ".py"]):
        raise ValueError(f"--with {python[0].exercise.name}: a function for NumPy arrays, which "
                         f"are not on {device}; leave --device out")  # fmt: skip
    parts: dict[str, dict[str, StandIn]] = {}
    for one in found:
        before = parts.setdefault(one.use.op, {}).setdefault(one.use.part, one)
        if before is not one:
            raise ValueError(f"--with: {before.exercise.name} and {one.exercise.name} are both the "
                             f"{one.use.part} of {one.use.op}; give one")  # fmt: skip
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what stays minseg's: it is said below
            for op, functions in parts.items():
                if "." not in op:
                    stack.enter_context(override(op, **functions))
        for one in found:
            if in_network(one.use):
                stack.enter_context(replaced(one.use, one))
        for one in found:
            print(one.used(one.file))
            if one.fault:
                print(f"{one.file} fails its check ({one.fault}): the lesson shows what that does")
        lesson.stand_ins[:] = found
        try:
            yield
        finally:
            lesson.stand_ins.clear()
            print(*found, sep="\n")
