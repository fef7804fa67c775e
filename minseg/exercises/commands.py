"""What `minseg exercise ...` does: prints, and returns the exit code."""

import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from minseg.exercises import workspace as workspaces
from minseg.exercises.check import check as check_file
from minseg.exercises.task import Exercise, exercises, get_exercise
from minseg.exercises.workspace import Workspace
from minseg.lessons import get_lesson

LOOK_EVERY = 0.3  # seconds: how soon a saved file is seen


def run(console: Console, action: str, name: str | None) -> int:
    """Do one action. `name`: of an exercise, or its file; for init, the folder."""
    if action in ("list", "verify", "watch", "next") and name is not None:
        raise ValueError(f"exercise {action}: takes no name, got {name!r}")
    if action == "solution" and name is None:
        raise ValueError("exercise solution: which one? `minseg exercise list` names them")
    if action == "init":
        return init(console, Path(name) if name else workspaces.home())
    if action == "verify":
        return verify(console)
    file, name = Path(name or ""), name and Path(name).stem  # a shell completes exercises/conv2d.py
    if action == "solution":
        return solution(console, get_exercise(str(name)))
    workspace = workspaces.of(file) if file.suffix else workspaces.find()
    if action == "list":
        return show_list(console, workspace)
    if action == "watch":
        return watch(console, workspace)
    exercise = get_exercise(name) if name else workspace.next()
    if exercise is None:
        console.print("All exercises are passed.", style="green")
        return 0
    actions: dict[str, Callable[[Console, Workspace, Exercise], int]] = {
        "next": show, "check": check, "hint": hint, "reset": reset,
    }  # fmt: skip
    return actions[action](console, workspace, exercise)


def init(console: Console, folder: Path) -> int:
    workspace, new = workspaces.create(folder)
    kept = len(exercises()) - new
    written = f"{new} exercise{'s' * (new != 1)} written to {folder}"
    written += f", {kept} were there and stay" if kept else ""
    console.print(f"{written}; {'go on' if workspace.passed else 'begin'} with")
    show(console, workspace, workspace.next() or next(iter(exercises().values())))
    return 0


def show_list(console: Console, workspace: Workspace) -> int:
    width = max(map(len, exercises()))
    for name, exercise in exercises().items():
        done = name in workspace.passed
        mark, style = ("passed", "green") if done else ("      ", "")
        console.print(f"{mark}  {name:{width}}  {exercise.title}", style=style)
    passed = len(set(workspace.passed) & set(exercises()))  # an older version had others, too
    console.print(f"{passed} of {len(exercises())} passed")
    return 0


def show(console: Console, workspace: Workspace, exercise: Exercise) -> int:
    """What is to be done, and where."""
    console.print(f"\n{exercise.name}: {exercise.title}\n", style="bold")
    console.print(exercise.statement)
    console.print(f"\nedit:   {workspace.file(exercise)}")
    word = _word(workspace, exercise)
    stuck = "minseg exercise hint" + (f" {word}" if word != exercise.name else "")
    console.print(f"check:  minseg exercise check {word}   (stuck? {stuck})")
    return 0


def _word(workspace: Workspace, exercise: Exercise) -> str:
    """What the commands take here: the exercise's name, or its file if the folder is elsewhere."""
    with suppress(ValueError):
        if workspaces.find().folder.samefile(workspace.folder):
            return exercise.name
    return shlex.quote(Path(os.path.relpath(workspace.file(exercise))).as_posix())


def check(console: Console, workspace: Workspace, exercise: Exercise) -> int:
    """0 if passed, 1 if not. What counts for the list is the last check."""
    file = workspace.file(exercise)
    if not file.is_file():
        raise ValueError(f"{file} is not there; `minseg exercise reset {exercise.name}` writes it")
    with console.status(f"checking {exercise.name}"):
        verdict = check_file(exercise, file)
    if verdict.printed:
        console.print(f"your code printed:\n{verdict.printed.rstrip()}", style="dim")
    for stage in verdict.passed:
        console.print(f"  ok  {stage}", style="green")
    workspace.remember(exercise, passed=not verdict.stage)
    if verdict.stage:
        console.print(f"  --  {verdict.stage}", style="bold red")
        if verdict.pattern and verdict.pattern != "not written":
            console.print(f"\n{exercise.name}: {verdict.pattern}", style="bold")
        console.print(f"\n{verdict.message}")
        seen = workspace.hints.get(exercise.name, 0)
        if seen < len(exercise.task.hints):
            how = f"minseg exercise hint {_word(workspace, exercise)}"
            console.print(f"\nhint {seen + 1} of {len(exercise.task.hints)}: {how}", style="dim")
        return 1
    console.print(f"\n{exercise.name} is right.", style="bold green")
    console.print(f"another way to write it: minseg exercise solution {exercise.name}")
    if (use := exercise.task.use) is not None:
        words = ["minseg", "lesson", "run", use.lesson, "--fast", "--with"]
        words += [f"{exercise.name}={Path(os.path.relpath(file)).as_posix()}"]
        title = get_lesson(use.lesson).title.partition(":")[0]
        console.print(f"now run the networks of lesson {use.lesson}, {title}, on it:")
        console.print(f"  {shlex.join(words)}")
    following = workspace.next()
    console.print(
        f"next: {following.name}, {following.title}" if following else "That was the last."
    )
    return 0


def hint(console: Console, workspace: Workspace, exercise: Exercise) -> int:
    """One hint more each time, all three in the end."""
    hints = exercise.task.hints
    seen = min(workspace.hints.get(exercise.name, 0) + 1, len(hints))
    workspace.hints[exercise.name] = seen
    workspace.save()
    for number, text in enumerate(hints[:seen], 1):
        console.print(f"{exercise.name}, hint {number} of {len(hints)}: {text}")
    return 0


def reset(console: Console, workspace: Workspace, exercise: Exercise) -> int:
    """The stub again; what was written is kept beside it."""
    kept = workspace.write_stub(exercise)
    workspace.hints.pop(exercise.name, None)
    workspace.remember(exercise, passed=False)
    console.print(f"{workspace.file(exercise)} is as at the beginning"
                  + (f"; what you wrote is in {kept.name}" if kept else ""))  # fmt: skip
    return 0


def solution(console: Console, exercise: Exercise) -> int:
    console.print(exercise.solution.rstrip())
    return 0


def watch(console: Console, workspace: Workspace, looks: float = float("inf")) -> int:
    """Check the file that was saved last, again and again, until Ctrl-C (or that many looks)."""
    console.print(f"watching {workspace.folder}: save a file to have it checked; Ctrl-C ends")
    if (exercise := workspace.next()) is not None:
        show(console, workspace, exercise)
    times = _times(workspace)
    while looks > 0:
        looks -= 1
        time.sleep(LOOK_EVERY)
        now = _times(workspace)
        for name in [name for name, when in now.items() if when != times.get(name)]:
            console.print(f"\n{'-' * 40} {name}")
            try:
                workspace = workspaces.read(workspace.folder)  # another terminal may have saved
                passed_before = name in workspace.passed
                check(console, workspace, get_exercise(name))
            except (ValueError, OSError) as error:  # the file is gone again: go on watching
                console.print(str(error))
                continue
            following = workspace.next()
            if following and not passed_before and name in workspace.passed:
                show(console, workspace, following)
        times = now
    return 0


def _times(workspace: Workspace) -> dict[str, int]:
    """When each file was saved. An editor that saves by rename may have it away for a moment."""
    times = {}
    for name, exercise in exercises().items():
        with suppress(FileNotFoundError):
            times[name] = workspace.file(exercise).stat().st_mtime_ns
    return times


def verify(console: Console) -> int:
    """0 if every solution passes, and every stub and mutant is rejected in the right words."""
    from minseg.exercises.verify import verify as complaints_of

    failed = 0
    for exercise in exercises().values():
        complaints = complaints_of(exercise)
        failed += bool(complaints)
        text = f"{exercise.name}: solution, stub and {len(exercise.task.mutants)} mutants"
        console.print(f"{'wrong' if complaints else 'ok   '}  {text}",
                      style="red" if complaints else "green")  # fmt: skip
        for complaint in complaints:
            console.print(complaint)
    return 1 if failed else 0
