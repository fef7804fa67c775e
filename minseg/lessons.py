"""The lessons as a shelf: find them, list them, run one, make a notebook of one.

A lesson is a script, `lessons/NN_name.py`, whose first cell says all that a list needs:

    # # 14 · U-Net: what the skips carry          number and title
    # **The question:** can the way back ...      up to the end of the paragraph
"""

import re
import runpy
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from minseg.suggest import suggest


@dataclass(frozen=True)
class Entry:
    """A lesson, as its first cell describes it. name: "14_unet"."""

    path: Path
    title: str
    question: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name[:2]


def lessons_folder() -> Path:
    """Where the lessons are: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent
    installed, checkout = package / "_lessons", package.parent / "lessons"
    return installed if installed.is_dir() else checkout


@lru_cache(maxsize=1)
def lessons() -> tuple[Entry, ...]:
    """All lessons, in the order of their numbers."""
    return tuple(map(read_entry, sorted(lessons_folder().glob("[0-9][0-9]_*.py"))))


def read_entry(path: Path) -> Entry:
    """Read a lesson's first cell. Raises ValueError for one without a title or a question."""
    cell = re.split(r"^# %%.*\n", path.read_text("utf-8"), maxsplit=2, flags=re.MULTILINE)[1]
    lines = [line.removeprefix("#").strip() for line in cell.splitlines()]
    paragraphs = [" ".join(part.split()) for part in "\n".join(lines).split("\n\n")]
    title = re.fullmatch(r"# \d\d · (.+)", paragraphs[0])
    question = next((p for p in paragraphs if "**The question:** " in p), "")
    if title is None or not question:
        raise ValueError(f"{path.name}: its first cell has no title or no **The question:**")
    asked = question.partition("**The question:** ")[2].replace("*", "")  # no emphasis in a list
    return Entry(path, title[1], asked[:1].upper() + asked[1:])


def get_lesson(wanted: str) -> Entry:
    """The lesson of this number ("7", "07") or name ("unet", "14_unet"). ValueError if none is."""
    number = wanted.zfill(2)
    for entry in lessons():
        if entry.number == number or wanted in (entry.name, entry.name[3:]):
            return entry
    names = [entry.name[3:] for entry in lessons()]
    known = ", ".join(f"{entry.number} {entry.name[3:]}" for entry in lessons())
    raise ValueError(f"there is no lesson {wanted}{suggest(wanted, names)}; there are: {known}")


def run(entry: Entry, arguments: Sequence[str] = ()) -> int:
    """Run a lesson as `python lesson.py ARGUMENTS` would; 1, and a traceback, if it fails.

    It runs in this process, so that functions put in place by `minseg.override` are used.
    """
    before, sys.argv = sys.argv, [str(entry.path), *arguments]
    try:
        runpy.run_path(str(entry.path), run_name="__main__")
    except BrokenPipeError:  # the reader of what it prints has left: no fault of the lesson's
        raise
    except Exception as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code.co_filename != str(entry.path):
            frame = frame.tb_next  # what is above the lesson is of no use to its reader
        traceback.print_exception(error.with_traceback(frame or error.__traceback__))
        return 1
    finally:
        sys.argv = before
    return 0


def notebook(entry: Entry) -> str:
    """The lesson as the text of an .ipynb. Raises RuntimeError where jupytext is missing."""
    try:
        import jupytext
    except ImportError:
        raise RuntimeError(
            "a notebook is made by jupytext: python -m pip install jupytext"
        ) from None
    made = jupytext.reads(entry.path.read_text("utf-8"), fmt="py:percent")
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return jupytext.writes(made, fmt="ipynb")
