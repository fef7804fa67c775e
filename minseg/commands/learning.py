"""For learning: lesson, study, exercise."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minseg.commands.terminal import console, need_folders
from minseg.files import write_atomically


def lesson(action: str, **options: Any) -> int:
    """Lessons: the exit code of the one that is run."""
    actions: dict[str, Callable[..., int]] = {
        "list": _list_lessons, "run": _run_lesson, "export": _export_lesson,
    }  # fmt: skip
    return actions[action](**options)


def _list_lessons() -> int:
    from minseg.lessons import lessons

    width = min(92, console.width - 4)
    for entry in lessons():
        console.print(f"{entry.number}  {entry.title}", style="bold")
        console.print(textwrap.indent(textwrap.fill(entry.question, width), "    "))
    console.print("run one: minseg lesson run NUMBER --fast")
    return 0


def _run_lesson(
    lesson: str, fast: bool, out: str, seed: int, stand_ins: list[str], device: str | None
) -> int:
    from minseg.lessons import get_lesson, run

    entry = get_lesson(lesson)
    Path(out).mkdir(parents=True, exist_ok=True)  # fails now, not after a minute of work
    arguments = ["--out", out, "--seed", str(seed), "--device", device or "cpu"]
    arguments += ["--fast"] if fast else []
    if not stand_ins:
        return run(entry, arguments)
    from minseg.exercises.stand_in import standing_in

    with standing_in(stand_ins, device or "cpu"):
        return run(entry, arguments)


def _export_lesson(lesson: str, file: str | None) -> int:
    from minseg.lessons import get_lesson, notebook

    entry = get_lesson(lesson)
    path = Path(file or f"{entry.name}.ipynb")
    need_folders("lesson export", str(path))
    if path.exists():
        raise ValueError(f"lesson export: {path} is there already; name another file")
    write_atomically(str(path), notebook(entry).encode())
    console.print(f"{path}: open it in Jupyter")
    return 0


def study(
    name: str | None, list: bool, seeds: int | None, budget: int | None, minutes: float | None,
    out: str, record: bool,
) -> int:  # fmt: skip
    """Run studies, or list them."""
    from minseg.studies import commands, networks

    if minutes is not None and name != "networks":
        raise ValueError("study: --minutes is for networks; of a study, --budget is the steps")
    if name is None and not list and (record or seeds or budget):
        raise ValueError("study: which one? `minseg study --list` names them; all is one, too")
    if name == "networks" and seeds is not None:
        raise ValueError("study: --seeds is not for networks: each is trained once")
    if minutes is not None and budget is not None:
        raise ValueError("study: --minutes or --budget; give one")
    if list or name is None:
        return commands.show_list(console)
    if name == "networks":
        limit = ("steps", budget) if budget else ("minutes", minutes or networks.MINUTES)
        return commands.run_networks(console, limit, Path(out), record)
    return commands.run(console, name, seeds, budget, Path(out), record)


def exercise(action: str, name: str | None) -> int:
    """Exercises: 0 for success or a pass, 1 for a check that fails."""
    from minseg.exercises.commands import run

    return run(console, action, name)
