"""A learner's way through: init, a failure, hints, a pass; and what is kept."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from minseg.cli import main
from minseg.exercises import commands, workspace
from minseg.exercises.task import exercises, get_exercise


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "init"]) == 0
    return tmp_path / "exercises"


def test_the_way_through(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exercise", "check"]) == 1
    out = capsys.readouterr().out
    assert "nothing is written yet" in out
    assert "\x1b" not in out  # no colours in a pipe

    file = folder / "relu_grad.py"
    file.write_text(file.read_text().replace("raise NotImplementedError", "return grad"))
    assert main(["exercise", "check"]) == 1
    assert "forgot the mask" in capsys.readouterr().out

    assert main(["exercise", "hint"]) == 0
    assert main(["exercise", "hint"]) == 0
    assert "hint 2 of 3" in capsys.readouterr().out

    assert main(["exercise", "solution", "relu_grad"]) == 0
    file.write_text(capsys.readouterr().out)
    assert main(["exercise", "check", "relu_grad"]) == 0
    assert "relu_grad is right" in capsys.readouterr().out
    assert main(["exercise", "list"]) == 0
    assert f"1 of {len(exercises())} passed" in capsys.readouterr().out
    state = json.loads((folder / workspace.PROGRESS).read_text())
    assert state == {"passed": ["relu_grad"], "hints": {"relu_grad": 2}}
    assert main(["exercise", "next"]) == 0
    second = list(exercises().values())[1]
    assert f"{second.name}: {second.title}" in capsys.readouterr().out

    file.write_text(file.read_text().replace("return", "return 0 *"))
    assert main(["exercise", "check", "relu_grad"]) == 1
    assert main(["exercise", "list"]) == 0
    assert f"0 of {len(exercises())} passed" in capsys.readouterr().out  # the last check counts


def test_init_again_keeps_what_was_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "conv2d.py").write_text("mine")
    (folder / "iou.py").unlink()
    capsys.readouterr()
    assert main(["exercise", "init"]) == 0
    said = f"1 exercise written to exercises, {len(exercises()) - 1} were there and stay; begin"
    assert said in capsys.readouterr().out
    assert (folder / "conv2d.py").read_text() == "mine"
    assert (folder / "iou.py").read_text() == get_exercise("iou").stub


def test_init_inside_of_the_folder_makes_no_other_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "iou.py").unlink()
    monkeypatch.chdir(folder)
    assert main(["exercise", "init"]) == 0
    assert (folder / "iou.py").is_file()
    assert not (folder / "exercises").exists()


def test_what_is_said_works_for_a_folder_of_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only ./exercises is found by itself: elsewhere, the commands name the file."""
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "init", "my own"]) == 0
    said = re.search(
        r"minseg (exercise check .*?)   \(stuck\? minseg (.*)\)", capsys.readouterr().out
    )
    assert said
    assert main(shlex.split(said[2])) == 0
    assert main(shlex.split(said[1])) == 1
    assert "minseg exercise hint 'my own/relu_grad.py'" in capsys.readouterr().out
    monkeypatch.chdir("my own")
    assert main(["exercise", "next"]) == 0
    assert "minseg exercise check relu_grad " in capsys.readouterr().out


def test_reset_keeps_what_was_written(folder: Path) -> None:
    (folder / "conv2d.py").write_text("mine")
    assert main(["exercise", "reset", "conv2d"]) == 0
    assert (folder / "conv2d.py").read_text() == get_exercise("conv2d").stub
    assert (folder / "conv2d.py.old1").read_text() == "mine"
    (folder / "conv2d.py.old1").rename(folder / "conv2d.py.old2")  # as if the first were deleted
    for text in ("second", "third"):
        (folder / "conv2d.py").write_text(text)
        assert main(["exercise", "reset", "conv2d"]) == 0
    kept = [(folder / f"conv2d.py.old{number}").read_text() for number in (1, 2, 3)]
    assert kept == ["second", "mine", "third"]


def test_reset_of_a_file_in_another_encoding(folder: Path) -> None:
    (folder / "conv2d.py").write_bytes(b"# \xe4\n")
    assert main(["exercise", "reset", "conv2d"]) == 0
    assert (folder / "conv2d.py.old1").read_bytes() == b"# \xe4\n"


def test_a_file_names_its_exercise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["exercise", "hint", "exercises/conv2d.py"]) == 0
    assert capsys.readouterr().out.startswith("conv2d, hint 1 of 3")
    assert main(["exercise", "solution", "saxpy.cu"]) == 0
    assert capsys.readouterr().out.rstrip() == get_exercise("saxpy").solution.rstrip()


def test_the_file_that_is_named_is_the_one_that_is_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder; and a file of that name elsewhere is none of the exercises."""
    (folder / "relu_grad.py").write_text(get_exercise("relu_grad").solution)
    other = folder.parent / "other"
    other.mkdir()
    (other / "relu_grad.py").write_text("def relu_grad(): ...\n")
    assert main(["exercise", "check", "other/relu_grad.py"]) == 1
    assert "other/relu_grad.py is none of the exercises" in capsys.readouterr().err
    monkeypatch.chdir(other)
    assert main(["exercise", "check", "../exercises/relu_grad.py"]) == 0
    with monkeypatch.context() as context:
        context.chdir("/")
        assert main(["exercise", "check", str(folder / "relu_grad.py")]) == 0


def test_found_from_within(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert workspace.find().folder == folder


def test_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "check"]) == 1
    assert "minseg exercise init" in capsys.readouterr().err
    assert main(["exercise", "init"]) == 0
    assert main(["exercise", "check", "conv2"]) == 1
    assert "did you mean 'conv2d'" in capsys.readouterr().err
    assert main(["exercise", "solution"]) == 1
    (tmp_path / "exercises" / workspace.PROGRESS).write_text("{")
    assert main(["exercise", "list"]) == 1
    assert "is damaged" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["exercise", "chekc"])
    assert stop.value.code == 2


def test_watch_checks_what_is_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(_: float) -> None:
        (folder / "relu_grad.py").write_text(get_exercise("relu_grad").solution)

    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=save))
    console = Console(record=True, width=100)
    assert commands.watch(console, workspace.find(), looks=1) == 0
    text = console.export_text()
    assert "relu_grad is right." in text
    second = list(exercises().values())[1]
    assert f"{second.name}: {second.title}" in text  # the next one is shown


def test_watch_goes_on_whatever_is_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved by rename, in another encoding, gone again; and hints are read in another terminal."""
    file, solution = folder / "relu_grad.py", get_exercise("relu_grad").solution

    def renamed() -> None:
        (folder / "new").write_text(solution, "utf-8")
        (folder / "new").replace(file)

    steps = [
        lambda: file.write_bytes(b"# \xe4\n"),
        file.unlink,
        lambda: main(["exercise", "hint", "conv2d"]),
        renamed,
    ]
    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=lambda _: steps.pop(0)()))
    console = Console(record=True, width=100)
    assert commands.watch(console, workspace.find(), looks=len(steps)) == 0
    text = console.export_text()
    assert "relu_grad.py is not saved as UTF-8" in text
    assert text.index("not saved as UTF-8") < text.index("relu_grad is right.")
    state = json.loads((folder / workspace.PROGRESS).read_text())
    assert state == {"passed": ["relu_grad"], "hints": {"conv2d": 1}}


def test_watch_survives_a_file_that_vanishes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([{}, {"conv2d": 1}])
    monkeypatch.setattr(commands, "_times", lambda _: next(times))
    file = folder / "conv2d.py"
    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=lambda _: file.unlink()))
    console = Console(record=True, soft_wrap=True)  # a temporary folder may have a long name
    assert commands.watch(console, workspace.find(), looks=1) == 0
    assert "conv2d.py is not there" in console.export_text()


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_and_tabs_are_fine(
    folder: Path, start: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    text = get_exercise("relu_grad").solution.replace("\n    return", "\n\treturn")
    text = text.replace('    """dL/dx', '\t"""dL/dx')
    (folder / "relu_grad.py").write_bytes(start + text.replace("\n", "\r\n").encode())
    assert main(["exercise", "check", "relu_grad"]) == 0, capsys.readouterr().out


def test_code_is_shown_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rich would make an emoji of :m:, and a style of [red]."""
    (folder / "relu_grad.py").write_text("grad[:m:2] = x[red]]\n")
    assert main(["exercise", "check", "relu_grad"]) == 1
    assert "grad[:m:2] = x[red]]" in capsys.readouterr().out


def test_a_null_byte_is_a_syntax_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "relu_grad.py").write_bytes(b"x = 1\0\n")
    assert main(["exercise", "check", "relu_grad"]) == 1
    assert "null byte" in capsys.readouterr().out


def test_what_an_older_version_passed_is_not_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"passed": ["relu_grad", "gone"], "hints": {}}
    (folder / workspace.PROGRESS).write_text(json.dumps(state))
    capsys.readouterr()
    assert main(["exercise", "list"]) == 0
    assert f"1 of {len(exercises())} passed" in capsys.readouterr().out
