"""A learner's folder: the stubs to be filled in, and a small file that remembers the progress."""

import json
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from minseg.exercises.task import Exercise, exercises
from minseg.files import write_atomically

PROGRESS = ".minseg-exercises.json"
DEFAULT = "exercises"


@dataclass
class Workspace:
    """folder: of the stubs. passed: names, in their order. hints: how many were seen."""

    folder: Path
    passed: list[str] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)

    def file(self, exercise: Exercise) -> Path:
        return self.folder / f"{exercise.name}{exercise.suffix}"

    def next(self) -> Exercise | None:
        """The first exercise that is not passed; None if all are."""
        return next((e for e in exercises().values() if e.name not in self.passed), None)

    def write_stub(self, exercise: Exercise) -> Path | None:
        """Put the stub in place. What was there is kept: returned is the file that holds it."""
        file, kept = self.file(exercise), None
        if file.exists() and file.read_text("utf-8", errors="replace") != exercise.stub:
            names = (file.with_name(f"{file.name}.old{number}") for number in count(1))
            kept = file.rename(next(name for name in names if not name.exists()))
        file.write_text(exercise.stub, encoding="utf-8")
        return kept

    def remember(self, exercise: Exercise, passed: bool) -> None:
        """What its last check, or a reset, made of an exercise."""
        others = [name for name in self.passed if name != exercise.name]
        self.passed = [*others, exercise.name] if passed else others
        self.save()

    def save(self) -> None:
        state = {"passed": self.passed, "hints": self.hints}
        write_atomically(str(self.folder / PROGRESS), (json.dumps(state, indent=1) + "\n").encode())


def create(folder: Path) -> tuple[Workspace, int]:
    """Make a workspace, or add what an older one lacks. Returns it and the number of new stubs."""
    folder.mkdir(parents=True, exist_ok=True)
    workspace = read(folder) if (folder / PROGRESS).is_file() else Workspace(folder)
    missing = [e for e in exercises().values() if not workspace.file(e).exists()]
    for exercise in missing:
        workspace.write_stub(exercise)
    workspace.save()
    return workspace, len(missing)


def home() -> Path:
    """Where `init` writes, if no folder is named: here, in a workspace; else into ./exercises."""
    return Path() if Path(PROGRESS).is_file() else Path(DEFAULT)


def find() -> Workspace:
    """The workspace here, above, or in ./exercises. Raises ValueError where there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents, here / DEFAULT):
        if (folder / PROGRESS).is_file():
            return read(folder)
    raise ValueError(
        "no exercises here or above: `minseg exercise init` puts them into ./exercises; or go to "
        "the folder that has them"
    )


def of(file: Path) -> Workspace:
    """The workspace that the file lies in, or would. ValueError for a file beside the exercises."""
    folder = file.absolute().parent
    if (folder / PROGRESS).is_file():
        return read(folder)
    workspace = find()
    if file.exists() or len(file.parts) > 1:
        raise ValueError(f"{file} is none of the exercises: those are in {workspace.folder}")
    return workspace


def read(folder: Path) -> Workspace:
    """Read the progress. Raises ValueError if its file is damaged, naming it."""
    path = folder / PROGRESS
    try:
        state = json.loads(path.read_text("utf-8"))
        passed, hints = list(state["passed"]), dict(state["hints"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and init again") from None
    return Workspace(folder, passed, hints)
