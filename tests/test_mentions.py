"""What texts mention is there: files, names in minseg, lessons, exercises."""

import importlib
import re
from functools import reduce
from pathlib import Path

from minseg.exercises.task import exercises

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for folder in ("minseg", "kernels", "lessons", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".cu", ".cuh", ".h", ".cpp", ".md")
]
TEXTS = {
    path: path.read_text(encoding="utf-8")
    for path in [*FILES, ROOT / "README.md"]
    if ROOT / "tests" not in path.parents
}
ELSEWHERE = {"helpers/labels.py", "pickletools.py", "kernel.cpp"}


def missing(pattern: str, is_there) -> list[str]:
    """The mentions, with the files that make them, of what is not there."""
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in TEXTS.items()
        for name in sorted(set(re.findall(pattern, text)))
        if not is_there(name)
    ]


def test_files() -> None:
    parts = [path.relative_to(ROOT).parts for path in FILES]
    known = {"/".join(names[i:]) for names in parts for i in range(len(names))} | ELSEWHERE
    written = {exercise.name + exercise.suffix for exercise in exercises().values()}

    def is_there(name: str) -> bool:
        last = name.rpartition("/")[2]
        # What a lesson writes, or a reader: my_kernel.cu, exercises/conv2d.py, NN_name.py.
        to_be_written = last in written or re.match(
            r"my|path/|.*NN_name|(/|out/)?\d\d_\w+\.cu", name
        )
        return name in known or bool(to_be_written)

    assert missing(r"(?:\w+/)*\w+\.(?:py|cuh?|cpp)\b", is_there) == []


def test_names_in_minseg() -> None:
    def is_there(name: str) -> bool:
        parts = name.split(".")
        for last in range(len(parts), 0, -1):
            try:
                module = importlib.import_module(".".join(parts[:last]))
            except ModuleNotFoundError:
                continue
            try:
                reduce(getattr, parts[last:], module)
            except AttributeError:
                return False
            return True
        return False

    assert missing(r"(?<![\w./-])(minseg(?:\.[A-Za-z_]\w*)+)", is_there) == []


def test_lessons_and_exercises() -> None:
    numbers = {path.name[:2] for path in (ROOT / "lessons").glob("[0-9]*.py")}
    pattern = r"\b[Ll]essons? \d\d(?:(?:, | and | to )\d\d)*"
    assert missing(pattern, lambda text: set(re.findall(r"\d\d", text)) <= numbers) == []
    pattern = r"exercise (?:check|hint|solution|reset) (\w+)`"
    assert missing(pattern, exercises().__contains__) == []
