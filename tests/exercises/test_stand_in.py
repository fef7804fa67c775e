"""A learner's function, or kernel, in a lesson's networks: adapted, counted, and shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, lesson, lessons
from minseg.cli import main
from minseg.emulator import compiler
from minseg.exercises import stand_in
from minseg.exercises.stand_in import standing_in
from minseg.exercises.task import Case, Exercise, Task, Use, exercises, get_exercise
from minseg.models import FCN, AttentionUNet, SegFormer, UNet
from minseg.ops.op import get_op

rng = np.random.default_rng(0)
TWO, ONE, NONE = (2, 2), (1, 1), (0, 0)
x, grad = rng.standard_normal((2, 4, 7, 8)), rng.standard_normal((2, 6, 4, 4))
scores, labels = rng.standard_normal((2, 3, 20)), rng.integers(0, 3, (2, 20))
labels[:, ::4] = 255
w, b, w_half = rng.standard_normal((6, 4, 3, 3)), np.arange(6.0), rng.standard_normal((6, 2, 3, 3))
even, ones = np.full(labels.shape, 0.5), np.ones(3)
AREA = ((None, None), "area", False)

# exercise -> arguments of the op's part that its solution takes on, and of those it leaves
CALLS = {
    "relu_grad": ([(grad, np.maximum(grad[::-1], 0))], []),
    "conv2d": (
        [(x, w, b, ONE, NONE, ONE, 1), (x, w, None, TWO, ONE, TWO, 1),
         (x, w_half, b, TWO, ONE, ONE, 2)],
        [(x, w, b, (1, 2), NONE, ONE, 1), (x, w, b, ONE, (0, 1), ONE, 1),
         (x, w, b, ONE, ONE, (2, 1), 1)],
    ),
    "conv2d_grad_weight": (
        [(grad, x, (6, 4, 3, 3), TWO, ONE, ONE, 1), (grad, x, (6, 4, 4, 5), ONE, NONE, ONE, 1),
         (grad, x, (6, 2, 3, 3), TWO, ONE, ONE, 2),
         (grad, x[..., :7], (6, 4, 2, 2), ONE, NONE, (3, 3), 1)],
        [(grad, x, (6, 4, 4, 3), ONE, (0, 1), (1, 2), 1)],
    ),
    "conv2d_grad_input": (
        [(grad, w, x.shape, TWO, ONE, ONE, 1), (grad, w, (2, 4, 6, 6), ONE, NONE, ONE, 1),
         (grad, w_half, x.shape, TWO, ONE, ONE, 2), (grad, w, (2, 4, 8, 8), ONE, NONE, TWO, 1)],
        [(grad, w, (2, 4, 4, 6), ONE, (1, 0), ONE, 1)],
    ),
    "conv_transpose2d": (
        [(grad, w, None, TWO, NONE, NONE, 1, ONE), (grad, w, b[:4], TWO, ONE, ONE, 1, ONE)],
        [(grad, w, None, (2, 1), NONE, NONE, 1, ONE), (grad, w, None, ONE, NONE, NONE, 2, ONE),
         (grad, w, None, ONE, NONE, NONE, 1, TWO)],
    ),
    "max_pool2d_grad": (
        [(grad, rng.integers(0, 56, grad.shape), (2, 6, 7, 8), (3, 3), TWO, ONE, ONE)], []),
    "bilinear_grad": (
        [(grad, TWO, (None, None), "linear", False), (grad, (3, 5), (None, None), "linear", True)],
        [(grad, TWO, (None, None), "nearest", False), (grad, TWO, (2.0, 2.1), "linear", False),
         (grad[0], (2,), (None,), "linear", False)],
    ),
    "max_pool2d": (
        [(x, TWO, TWO, NONE, ONE, False), (x, (3, 3), TWO, ONE, ONE, False),
         (x, (3, 3), ONE, ONE, ONE, True)],
        [(x, TWO, TWO, NONE, ONE, True), (x, (3, 2), TWO, NONE, ONE, False),
         (x, TWO, TWO, NONE, TWO, False)],
    ),
    "bilinear": (
        [(x, (14, 16), (None, None), "linear", False), (x, (5, 9), (None, None), "linear", True),
         (x, (14, 16), (2.0, 2.0), "linear", False)],
        [(x, (14, 16), (None, None), "nearest", False), (x, (14, 16), (2.0, 2.1), "linear", False),
         (x[0], (9,), (None,), "linear", False), (x, (3, 4), *AREA)],
    ),
    "cross_entropy": (
        [(even, scores, labels, ones, 255, 0.0)],
        [(even, scores, labels, 2 * ones, 255, 0.0), (even, scores, labels, ones, 255, 0.1),
         (np.arange(40.0).reshape(2, 20), scores, labels, ones, 255, 0.0),
         (even, scores, rng.random(scores.shape), ones, 255, 0.0),
         (even, scores, np.full_like(labels, 255), ones, 255, 0.0)],
    ),
    "tiled_matmul": (
        [(x, w[..., :1, :1], b, ONE, NONE, ONE, 1), (x, w[..., :1, :1], None, ONE, NONE, TWO, 1)],
        [(x, w, b, ONE, NONE, ONE, 1), (x, w[..., :1, :1], b, ONE, ONE, ONE, 1),
         (x, w[..., :1, :1], b, TWO, NONE, ONE, 1), (x, w_half[..., :1, :1], b, ONE, NONE, ONE, 2)],
    ),
    "max_pool2d_kernel": (
        [(x, TWO, TWO, NONE, ONE, False), (x, (3, 3), TWO, ONE, ONE, False),
         (x, (3, 3), ONE, ONE, ONE, True)],
        [(x, TWO, TWO, NONE, ONE, True), (x, (3, 2), TWO, NONE, ONE, False),
         (x, TWO, TWO, NONE, TWO, False)],
    ),
    "bilinear_kernel": (
        [(x, (14, 16), (None, None), "linear", False), (x, (5, 9), (None, None), "linear", False),
         (x, (14, 16), (2.0, 2.0), "linear", False)],
        [(x, (14, 16), (None, None), "linear", True), (x, (14, 16), (2.0, 2.1), "linear", False),
         (x, (14, 16), (None, None), "nearest", False), (x[0], (9,), (None,), "linear", False)],
    ),
    "implicit_gemm": (
        [(x, w, b, ONE, NONE, ONE, 1), (x, w, None, TWO, ONE, ONE, 1),
         (x, w[..., :1, :1], b, ONE, NONE, ONE, 1)],
        [(x, w, b, ONE, ONE, TWO, 1), (x, w_half, b, ONE, ONE, ONE, 2),
         (x, w[..., :2], b, ONE, NONE, ONE, 1), (x, w, b, (1, 2), NONE, ONE, 1),
         (x, w, b, ONE, (1, 0), ONE, 1)],
    ),
}  # fmt: skip


# exercise -> a network that is to use it, the size of an image, and its calls a forward: those that
# its solution takes on, and those it leaves.
NETWORKS = {
    "fuse": (lambda: FCN(3, width=2, depth=11, padding="same"), (33, 64), 2, 0),
    "attention_gate": (lambda: AttentionUNet(3, width=2, depth=3), (33, 21), 2, 0),
    "mix_ffn": (lambda: SegFormer(3, width=4, drop_path=0.0), (33, 64), 8, 0),
    "join": (lambda: UNet(3, width=2, depth=3), (33, 21), 3, 0),
}


def write(folder: Path, exercise: Exercise, text: str | None = None) -> str:
    """The solution, or `text`, as a learner's file; what `--with` takes."""
    file = folder / f"{exercise.name}{exercise.suffix}"
    file.write_text(text or exercise.solution, "utf-8")
    return f"{exercise.name}={file}"


def test_every_use_has_its_calls_here() -> None:
    used = {e.name for e in exercises().values() if e.task.use}
    in_networks = {name for name in used if stand_in.in_network(exercises()[name].task.use)}
    assert used - in_networks == set(CALLS)
    assert in_networks == set(NETWORKS)
    for name in in_networks:
        assert lessons.get_lesson(exercises()[name].task.use.lesson)
    for name in CALLS:
        use = exercises()[name].task.use
        assert use.part in get_op(use.op).numpy
        assert lessons.get_lesson(use.lesson)


@pytest.mark.parametrize("name", CALLS)
def test_an_adapted_solution_computes_the_ops_part(name: str, tmp_path: Path) -> None:
    exercise = exercises()[name]
    if exercise.suffix == ".cu":
        need_compiler()
    use = exercise.task.use
    write(tmp_path, exercise)
    solution = stand_in.load(exercise, tmp_path / f"{name}{exercise.suffix}")
    taken, left = CALLS[name]
    for arguments in taken:
        got = use.adapt(solution, *map(single, arguments))
        want = get_op(use.op).numpy[use.part](*arguments)
        for one, right in zip(*([p] if not isinstance(p, tuple) else p for p in (got, want)),
                              strict=True):  # fmt: skip
            assert one.dtype == (np.float32 if right.dtype == np.float64 else right.dtype)
            bound = 2 * exercise.task.terms * np.finfo(np.float32).eps * abs(right).max()
            np.testing.assert_allclose(one, right, rtol=0, atol=bound)
        if exercise.suffix == ".cu":  # whose arrays are float*
            assert use.adapt(solution, *arguments) is NotImplemented
    for arguments in left:
        assert use.adapt(solution, *map(single, arguments)) is NotImplemented


def single(value: Any) -> Any:
    """Arrays of float64 as float32."""
    is_double = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(np.float32) if is_double else value


def need_compiler() -> None:
    try:
        compiler.compiler()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_part_of_a_network(tmp_path: Path, name: str) -> None:
    """The same scores and gradients; calls are counted; at the end all is as before."""
    build, size, taken, left = NETWORKS[name]
    network = build().to(np.float64).eval()
    for parameter in network.parameters():  # nothing stays zero: scores begin so
        parameter.data += 0.1 * rng.standard_normal(parameter.shape)
    image = Tensor(rng.standard_normal((2, 3, *size)))
    upstream = rng.standard_normal((2, 3, *size))

    def run() -> list[np.ndarray]:
        for parameter in network.parameters():
            parameter.grad = None
        scores = network(image)
        scores.backward(upstream)
        return [
            scores.numpy(),
            *(p.grad.numpy() for p in network.parameters() if p.grad is not None),
        ]

    place, attribute = stand_in.owner(get_exercise(name).task.use)
    before, right = vars(place)[attribute], run()
    with standing_in([write(tmp_path, get_exercise(name))], device="cuda"):  # arrays of any device
        for mine, want in zip(run(), right, strict=True):
            np.testing.assert_allclose(mine, want, rtol=0, atol=1e-10 * abs(want).max())
        (one,) = lesson.stand_ins
        assert (one.calls, one.left) == (taken, left)
    assert vars(place)[attribute] is before


def test_a_part_leaves_what_it_was_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the paper's frame, the crops of FCN are others."""
    network = FCN(2, width=1, depth=11).eval()
    with standing_in([write(tmp_path, get_exercise("fuse"))]):
        assert f"minseg.models.fcn.fuse: {tmp_path / 'fuse.py'}" in capsys.readouterr().out
        network(Tensor(np.zeros((1, 3, 9, 9), np.float32)))
    assert "fuse: fuse.py, no calls (2 more stayed minseg's)" in capsys.readouterr().out


def test_it_is_used_counted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exercise = get_exercise("conv2d")
    marked = exercise.solution.replace("return y + b", "return 0 * y + 7 + 0 * b")
    image, weight = Tensor(x), Tensor(w, requires_grad=True)
    right = F.conv2d(image, weight, padding=1)
    with standing_in([write(tmp_path, exercise, marked)]):
        out = capsys.readouterr().out
        assert f"conv2d forward: {tmp_path / 'conv2d.py'}; grad_input, grad_weight: minseg's" in out
        assert "conv2d.py fails its check (values" in out  # it says so, and goes on
        y = F.conv2d(image, weight, padding=1)
        assert (y.numpy() == 7).all()
        y.backward(np.ones(y.shape))  # minseg's own
        assert (F.conv2d(image, weight, padding=(1, 0)).numpy() != 7).all()
        shown = "conv2d forward: conv2d.py, 1 call (1 more stayed minseg's), fails its check"
        assert str(lesson.stand_ins[0]) == shown + "; grad_input, grad_weight: minseg's"
    assert shown in capsys.readouterr().out
    assert lesson.stand_ins == []
    assert np.array_equal(F.conv2d(image, weight, padding=1).numpy(), right.numpy())


def test_two_parts_of_an_op(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [write(tmp_path, get_exercise(n)) for n in ("conv2d", "conv2d_grad_weight")]
    weight = Tensor(w, requires_grad=True)
    with standing_in(texts):
        y = F.conv2d(Tensor(x), weight, dilation=2)
        y.backward(np.ones(y.shape))
    out = capsys.readouterr().out
    assert "conv2d forward: conv2d.py, 1 call; grad_input: minseg's" in out
    assert "conv2d grad_weight: conv2d_grad_weight.py, 1 call; grad_input: minseg's" in out
    with pytest.raises(ValueError, match="conv2d and conv2d are both the forward of conv2d"), \
            standing_in([texts[0], texts[0]]):  # fmt: skip
        pass


def test_the_figure_says_so(tmp_path: Path) -> None:
    from PIL import Image

    run = lesson.start(["--out", str(tmp_path)])
    for name in ("plain", "marked"):
        figure = run.figure(8, 3)
        top, bottom = figure.subfigures(2, 1)
        top.subplots().plot([0, 1])
        bottom.subplots().set(xlabel="below")
        if name == "marked":
            with standing_in([write(tmp_path, get_exercise("relu_grad"))]):
                run.save(figure, name)
        else:
            run.save(figure, name)
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "marked.png") as marked:
        assert plain.size == (880, 330)
        assert marked.size == (880, 330 + int(110 * 1.5 * lesson.FOOT))  # a line, and space above
        dark = np.asarray(marked.convert("L")) < 128
    assert dark[-30:].any(), "no text"
    assert not dark[-44:-34].any(), "the text touches the picture"
    assert not dark[:, -1].any(), "the text is cut off"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv2d", "needs NAME=FILE"),
        ("conv2d=", "needs NAME=FILE"),
        ("conv2=a.py", "did you mean 'conv2d'"),
        ("iou=iou.py", "There is for relu_grad, conv2d"),
        ("saxpy=saxpy.cu", "no network computes just this"),
        ("conv2d=nothing.py", "there is no file nothing.py"),
        ("conv2d=conv2d.cu", "conv2d.cu is no .py file"),
        ("conv2d=syntax.py", "syntax.py: SyntaxError"),
        ("conv2d=other.py", "other.py has no function conv2d"),
        ("conv2d=stub.py", "nothing is written yet"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, code in (("syntax.py", "def conv2d(:"), ("other.py", "def other(): ..."),
                       ("stub.py", get_exercise("conv2d").stub)):  # fmt: skip
        Path(name).write_text(code, "utf-8")
    with pytest.raises(ValueError, match="(?s)" + message), standing_in([text]):
        pass


def test_a_function_is_for_numpy(tmp_path: Path) -> None:
    text = write(tmp_path, get_exercise("relu_grad"))
    with pytest.raises(ValueError, match="leave --device out"), standing_in([text], "cuda"):
        pass


def test_a_slow_one_is_said_to_be_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stand_in, "PATIENCE", 1e-9)
    with standing_in([write(tmp_path, get_exercise("conv2d"))]):
        F.conv2d(Tensor(x), Tensor(w))
        err = capsys.readouterr().err
        assert err.startswith("conv2d.py: 1 call, 0 s so far")
        assert "--fast" in err
        (one,) = lesson.stand_ins
        one.patience = 1e9
        F.conv2d(Tensor(x), Tensor(w))
        assert capsys.readouterr().err == ""


HALF = """
#define B 64

// launch: grid=((n + B - 1) / B) block=(B)  in: x  out: y
extern "C" __global__ void half_of(const float* x, float* y, int n) {
    int i = blockIdx.x * B + threadIdx.x;
    if (i < n) y[i] = x[i] / 2;
}
"""


def test_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs on the op's own arrays, in the emulator: as ReLU, here, y = x / 2."""
    need_compiler()

    def in_op(half_of, x):
        y = np.empty_like(x)
        half_of(x, y, x.size)
        return y

    numbers = np.arange(100, dtype=np.float32)
    one = Task(
        outputs=("y",), reference=lambda x, y, n: x / 2, terms=1, hints=("", "", ""), slips=(),
        cases=(Case("a hundred", {"x": numbers, "y": 0 * numbers, "n": 100}),), mutants=(),
        use=Use("relu", "forward", in_op, lesson="14"),
    )  # fmt: skip
    exercise = replace(get_exercise("saxpy"), name="half_of", solution=HALF, stub=HALF, task=one)
    monkeypatch.setitem(exercises(), "half_of", exercise)
    with standing_in([write(tmp_path, exercise)]):
        assert "fails" not in capsys.readouterr().out
        y = F.relu(Tensor(-numbers))
    assert np.array_equal(y.numpy(), -numbers / 2)
    assert "relu forward: half_of.cu, 1 call; grad_input: minseg's" in capsys.readouterr().out


def test_lesson_run_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, on a lesson of a few lines; what is said after a pass is this command."""
    script = tmp_path / "14_small.py"
    script.write_text(
        "# %% [markdown]\n# # 14 · Small: a lesson\n#\n# **The question:** so?\n\n# %%\n"
        "import numpy as np\nimport minseg.functional as F\nfrom minseg import Tensor\n"
        "from minseg.lesson import start\n\nlesson = start()\n"
        "x = Tensor(np.ones((1, 1, 4, 4)))\n"
        "print(F.conv2d(x, Tensor(np.ones((1, 1, 3, 3)))).numpy().ravel(), lesson.fast)\n",
        "utf-8",
    )
    monkeypatch.setattr(lessons, "lessons", lambda: (lessons.read_entry(script),))
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "init"]) == 0
    write(tmp_path / "exercises", get_exercise("conv2d"))
    capsys.readouterr()
    assert main(["exercise", "check", "conv2d"]) == 0
    out = capsys.readouterr().out
    assert "now run the networks of lesson 14, Small, on it:" in out
    command = next(line for line in out.splitlines() if line.startswith("  minseg lesson run"))
    assert command == "  minseg lesson run 14 --fast --with conv2d=exercises/conv2d.py"
    assert main(command.split()[1:]) == 0
    assert "[9. 9. 9. 9.] True\nconv2d forward: conv2d.py, 1 call;" in capsys.readouterr().out
    assert main(["lesson", "run", "14", "--with", "iou=exercises/iou.py"]) == 1
    assert "There is for" in capsys.readouterr().err
    assert get_op("conv2d").overrides == {}
