"""`minseg lesson`: the list, a run, a notebook."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from minseg import lessons
from minseg.cli import main
from minseg.commands import learning
from minseg.emulator.compiler import compiler
from minseg.lesson import FAST

SCRIPT = """\
# %% [markdown]
# # 07 · A title: and more
#
# Something is so. **The
# question:** why is
# it so? And *is* it?
#
# More is said here.

# %%
from minseg.lesson import start

lesson = start()
total = 1 + lesson.seed
print(f"total {total}, {lesson.fast}, {lesson.device}, {lesson.out}")

# %% [markdown]
# ## Below
#
#     y = x
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one lesson, 07, the only ones that there are."""
    (tmp_path / "07_a_name.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(lessons, "lessons_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)  # where figures go to ./out
    lessons.lessons.cache_clear()
    yield tmp_path
    lessons.lessons.cache_clear()


def test_a_first_cell_is_read(shelf: Path) -> None:
    (entry,) = lessons.lessons()
    assert (entry.number, entry.name, entry.title) == ("07", "07_a_name", "A title: and more")
    assert entry.question == "Why is it so? And is it?"
    (shelf / "09_none.py").write_text(SCRIPT.replace("The\n# question:", "So:"), "utf-8")
    with pytest.raises(ValueError, match=r"09_none.py: its first cell has no title or no"):
        lessons.read_entry(shelf / "09_none.py")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lesson", "list"]) == 0
    out = capsys.readouterr().out
    for entry in lessons.lessons():
        assert f"{entry.number}  {entry.title}" in out
    assert main(["lesson"]) == 0  # the same
    assert capsys.readouterr().out == out


def test_list_of_one(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lesson", "list"]) == 0
    out = capsys.readouterr().out
    assert "07  A title: and more\n    Why is it so? And is it?\n" in out


@pytest.mark.parametrize("name", ["7", "07", "07_a_name", "a_name"])
def test_run(
    shelf: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minseg.lesson.to_device", lambda array, device: array)  # a GPU's
    before = list(sys.argv)
    words = ["--fast", "--seed", "4", "--device", "cuda", "--out", "somewhere"]
    assert main(["lesson", "run", name, *words]) == 0
    assert capsys.readouterr().out == f"{FAST}\ntotal 5, True, cuda, somewhere\n"
    assert main(["lesson", "run", name]) == 0
    assert capsys.readouterr().out == "total 1, False, cpu, out\n"
    assert sys.argv == before


def test_a_folder_that_cannot_be_is_said_at_once(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    assert main(["lesson", "run", "7", "--out", str(tmp_path / "taken")]) == 1
    said = capsys.readouterr()
    assert said.err.endswith("taken: a file is there already, where a folder is needed\n")
    assert not said.out


def test_the_list_fits_a_narrow_terminal(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "console", Console(width=24))
    assert main(["lesson", "list"]) == 0
    assert "    Why is it so? And is\n    it?\n" in capsys.readouterr().out


def test_a_wrong_number_says_which_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lesson", "run", "99"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("minseg: error: there is no lesson 99; there are: 00 tour, ")
    assert main(["lesson", "export", "unett"]) == 1
    assert "did you mean 'unet'?" in capsys.readouterr().err


def test_a_claim_that_does_not_hold_is_exit_code_1(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shelf / "07_a_name.py").write_text(SCRIPT + "\n# %%\nassert total == 2\n", "utf-8")
    assert main(["lesson", "run", "7"]) == 1
    err = capsys.readouterr().err
    assert "07_a_name.py" in err
    assert "AssertionError" in err
    assert "runpy" not in err  # from the lesson's own line on


def test_a_reader_that_leaves_is_no_fault(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `minseg lesson run 7 | head -1`."""
    text = SCRIPT + "\n# %%\nraise BrokenPipeError(32, 'Broken pipe')\n"
    (shelf / "07_a_name.py").write_text(text, "utf-8")
    with pytest.raises(BrokenPipeError):
        lessons.run(lessons.get_lesson("7"), ["--out", str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_an_exit_is_the_lessons_own(shelf: Path) -> None:
    (shelf / "07_a_name.py").write_text(SCRIPT + "\n# %%\nraise SystemExit(3)\n", "utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["lesson", "run", "7"])
    assert stop.value.code == 3


@pytest.mark.parametrize("number", range(30, 39))
def test_a_lesson_about_kernels_ends_where_no_compiler_is(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is missing, as the command's other errors say it, and no traceback."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiler.cache_clear()
    with pytest.raises(SystemExit) as stop:
        main(["lesson", "run", str(number), "--fast"])
    assert stop.value.code == "minseg: error: CXX=no-such-compiler: no such compiler"
    assert capsys.readouterr() == (f"{FAST}\n", "")


def test_export_is_a_notebook_that_runs(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jupytext")
    monkeypatch.chdir(tmp_path)
    assert main(["lesson", "export", "7"]) == 0
    tree = json.loads((tmp_path / "07_a_name.ipynb").read_text("utf-8"))
    assert (tree["nbformat"], tree["metadata"]["kernelspec"]["name"]) == (4, "python3")
    kinds = [cell["cell_type"] for cell in tree["cells"]]
    texts = ["".join(cell["source"]) for cell in tree["cells"]]
    assert kinds == ["markdown", "code", "markdown"]
    assert texts[0].startswith("# 07 · A title: and more\n\nSomething")
    assert texts[2] == "## Below\n\n    y = x"

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "connection.json"])
    monkeypatch.setitem(sys.modules, "ipykernel", lessons)
    names: dict[str, object] = {}
    exec(texts[1], names)
    assert capsys.readouterr().out == "total 1, False, cpu, out\n"

    assert main(["lesson", "export", "7"]) == 1  # what was written may have been worked on
    assert "07_a_name.ipynb is there already" in capsys.readouterr().err
    assert main(["lesson", "export", "7", "no/where.ipynb"]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_export_without_jupytext_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jupytext", None)  # as if it were not installed
    assert main(["lesson", "export", "14"]) == 1
    assert "python -m pip install jupytext" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["lesson", "--help"], ["lesson", "run", "--help"],
                                   ["lesson", "export", "--help"]])  # fmt: skip
def test_help_has_examples(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "examples:\n  minseg lesson " in capsys.readouterr().out
