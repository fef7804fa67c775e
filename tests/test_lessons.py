"""The form that all lessons share. That they run, and that their claims hold, CI checks apart."""

import ast
import json
import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

from minseg import lesson, nn
from minseg.studies.results import RECORDED
from minseg.viz import OKABE_ITO

FOLDER = Path(__file__).parents[1] / "lessons"
LESSONS = sorted(FOLDER.glob("*.py"))
SECTIONS = ["What goes wrong", "Now change this", "Check yourself", "Answers"]

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def cells(path: Path) -> list[tuple[str, str]]:
    """The cells of a percent-format script, as (head line, text)."""
    parts = re.split(r"^(# %%.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert parts[0] == "", "a lesson starts with a cell"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_there_are_lessons() -> None:
    assert len(LESSONS) >= 5


@each_lesson
def test_name_and_size(path: Path) -> None:
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 250
    assert [(number, line) for number, line in enumerate(lines, 1) if len(line) > 100] == []


@each_lesson
def test_first_cell_is_the_title(path: Path) -> None:
    head, text = cells(path)[0]
    assert head == "# %% [markdown]"
    assert re.match(rf"\n# # {path.stem[:2]} · \S", text)


@each_lesson
def test_cells_are_well_formed(path: Path) -> None:
    for head, text in cells(path):
        assert head in ("# %%", "# %% [markdown]")
        assert text.strip(), "an empty cell"
        lines = text.strip("\n").splitlines()
        if head == "# %%":
            ast.parse(text)  # each cell alone, as a notebook runs it
        else:
            assert [line for line in lines if not re.match(r"#( |$)", line)] == []


@each_lesson
def test_sections(path: Path) -> None:
    """Mistakes shown, things to change, questions, and their answers last, in this order."""
    prose = "".join(text for head, text in cells(path) if head.endswith("[markdown]"))
    headings = re.findall(r"^# ## (.+)$", prose, flags=re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    assert headings[-1] == "Answers"


@each_lesson
def test_code(path: Path) -> None:
    """It compiles, starts by `lesson.start()`, knows --fast, saves a figure, asserts its claim."""
    source = path.read_text(encoding="utf-8")
    compile(source, str(path), "exec", flags=0, dont_inherit=True)
    tree = ast.parse(source)
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {"lesson.fast", "lesson.save"} <= used
    assert [node for node in tree.body if ast.unparse(node) == "lesson = start()"]
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def test_start_reads_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson, "to_device", lambda array, device: array)  # as if there were a GPU
    got = lesson.start(["--fast", "--seed", "3", "--device", "cuda", "--out", str(tmp_path)])
    assert (got.fast, got.seed, got.device, got.out) == (True, 3, "cuda", tmp_path)
    assert lesson.start([]) == lesson.Lesson(False, 0, "cpu", Path("out"))


def test_start_refuses_a_typing_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lesson.start(["--fats"])
    assert "--fats" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "message"), [("gpu", '"cpu", "cuda"'), ("cuda:999", "cuda")])
def test_start_refuses_a_device_that_is_not_there(
    device: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        lesson.start(["--device", device])
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("passed", [["--f=/tmp/kernel.json"], ["-f", "/tmp/kernel.json"]])
def test_start_in_a_notebook(passed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's kernel has a command line of its own, which must not be taken for --fast."""
    monkeypatch.setitem(sys.modules, "ipykernel", lesson)
    assert lesson.start(passed) == lesson.Lesson(False, 0, "cpu", Path("out"))


def test_seed_is_set() -> None:
    from minseg.random import default_generator

    lesson.start(["--seed", "5"])
    first = default_generator().random(3)
    lesson.start(["--seed", "5"])
    assert (default_generator().random(3) == first).all()


def test_fit_learns_and_repeats() -> None:
    """Bright pixels are class 1: one 1x1 convolution learns this, in the same way each time."""
    images = np.random.default_rng(0).random((12, 1, 5, 7), dtype=np.float32) - 0.5
    masks = (images[:, 0] > 0).astype(np.int64)
    runs = []
    for _ in range(2):
        run = lesson.start(["--seed", "3"])
        model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
        runs.append(run.fit(model, images, masks, steps=60, lr=0.05))
        assert len(runs[-1]) == 60
        predicted = run.predict(model, images)
        assert predicted.shape == masks.shape
        assert (predicted == masks).mean() > 0.95
    assert runs[0] == runs[1]


def test_fit_takes_another_loss() -> None:
    """A loss of which a step of descent is known: the mean score of class 1, which only falls."""
    images, masks = np.ones((8, 1, 3, 4), np.float32), np.zeros((8, 3, 4), np.int64)
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    first = model[0].weight.numpy()[1, 0, 0, 0] + model[0].bias.numpy()[1]
    losses = lesson.start([]).fit(model, images, masks, 5, loss=lambda x, target: x[:, 1].mean())
    assert np.isclose(losses[0], first, rtol=1e-6)
    assert (np.diff(losses) < 0).all()


def test_study_says_and_draws_what_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.figure import Figure

    run = lesson.start([])
    result = run.study("unpooling")
    printed = capsys.readouterr().out
    recorded = json.loads((RECORDED / "unpooling.json").read_text(encoding="utf-8"))["scores"]
    for arm, scores in recorded.items():
        mean, spread = statistics.fmean(scores), statistics.stdev(scores)
        assert re.search(rf"{arm} +{mean:.3f}, spread {spread:.3f}\n", printed)
    assert "minseg study unpooling, 5 seeds" in printed
    assert printed.endswith(": the opposite shows\n")
    axis = Figure().subplots()
    run.dots(axis, result)
    drawn = [line.get_ydata() for line in axis.get_lines() if line.get_marker() == "o"]
    assert [list(heights) for heights in drawn] == list(recorded.values())
    assert [label.get_text() for label in axis.get_xticklabels()] == list(recorded)


def test_save_writes_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    run = lesson.start(["--out", str(tmp_path / "new")])
    figure = run.figure(4, 3)
    figure.subplots().plot([0, 1])
    run.save(figure, "line")
    assert str(tmp_path / "new" / "line.png") in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "line.png") as picture:
        assert picture.size == (440, 330)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert tuple(OKABE_ITO[5].tolist()) in colours  # the first line is drawn in lesson.BLUE


def test_fast_says_what_it_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    pictures = []
    for arguments in ([], ["--fast"]):
        run = lesson.start([*arguments, "--out", str(tmp_path)])
        assert (lesson.FAST in capsys.readouterr().out) == bool(arguments)
        figure = run.figure(8, 3)
        figure.subplots().plot([0, 1], label="a line")
        figure.legend(loc="outside lower center")
        run.save(figure, "line")
        with Image.open(tmp_path / "line.png") as picture:
            pictures.append(np.asarray(picture.convert("L")))
    plain, fast = pictures
    assert fast.shape == (330 + int(110 * 1.5 * lesson.FOOT), 880)
    np.testing.assert_array_equal(fast[:330], plain)
    assert fast[330:].min() < 128, "no text below the figure"
