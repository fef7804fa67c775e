"""Parts of networks as exercises: what a learner is told, and what a case is held against."""

from pathlib import Path

import numpy as np
import pytest

from minseg import nn
from minseg.exercises.check import check
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.tape import on_tape
from minseg.exercises.task import exercises, get_exercise
from minseg.exercises.verdict import Verdict
from minseg.tensor import Tensor

rng = np.random.default_rng(0)
HEAD = "import minseg.functional as F\nfrom minseg import Tensor, cat\n\n\n"
JOIN = HEAD + "def join(upsampled, skip):\n"


def verdict(tmp_path: Path, text: str, name: str = "join") -> Verdict:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return check(get_exercise(name), path)


@pytest.mark.parametrize("line", ["from minseg.models.unet import join as ready",
                                  "from minseg import models", "import minseg.models.unet",
                                  "from minseg import nn", "import torch"])  # fmt: skip
def test_a_ready_part_is_declined(tmp_path: Path, line: str) -> None:
    got = verdict(tmp_path, JOIN + f"    {line}\n    return ready(upsampled, skip)\n")
    assert got.stage == "own work"
    assert "calling a ready-made part is declined" in got.message


def test_a_hidden_one_is_not_found(tmp_path: Path) -> None:
    body = (
        '    models = __import__("minseg.models.unet").models\n    return models.unet.join(skip)\n'
    )
    got = verdict(tmp_path, JOIN + body)
    assert got.stage == "first run"
    assert "minseg.models is not for exercises" in got.message


def test_no_tensor(tmp_path: Path) -> None:
    body = "    return cat([skip, upsampled], dim=1).numpy()\n"
    message = verdict(tmp_path, JOIN + body).message
    assert "has to return y, a Tensor; yours returns ndarray" in message
    assert "returns nothing" in verdict(tmp_path, JOIN + "    skip + upsampled\n").message


def test_off_the_tape(tmp_path: Path) -> None:
    got = verdict(tmp_path, JOIN + "    return cat([Tensor(skip.data), upsampled], dim=1)\n")
    assert (got.stage, got.pattern) == ("values", "")  # the sizes come first
    assert "called with" in got.message
    assert "grad" not in got.message  # which the function is not called with
    text = get_exercise("join").solution.replace("cat([centre", "cat([centre.detach()")
    got = verdict(tmp_path, text)
    assert (got.stage, got.pattern) == ("gradient", "off the tape")
    assert "grad_skip[" in got.message
    assert "  grad (1x2x2x3) =" in got.message
    assert "No gradient arrives at skip:" in got.message
    half = get_exercise("fuse").solution.replace("] + skip", "] + skip / 2 + skip.detach() / 2")
    got = verdict(tmp_path, half, "fuse")
    assert (got.stage, got.pattern) == ("gradient", "off the tape")
    assert "A part of it is missing:" in got.message


def test_float32_stays(tmp_path: Path) -> None:
    text = (
        get_exercise("join").solution.replace("return cat", "y = cat") + "    return y.to(float)\n"
    )
    got = verdict(tmp_path, text)
    assert got.stage == "dtype"


def test_gradients_of_the_tape() -> None:
    """y = 2 a - b: its gradients are 2 grad and -grad; an int is no leaf."""
    a, b, grad = (rng.standard_normal((2, 3)) for _ in range(3))
    y, *grads = on_tape(lambda a, b, n: n * a - b)(a=a, b=b, n=2, grad=grad)
    assert np.array_equal(y, 2 * a - b)
    assert np.array_equal(grads, [2 * grad, -grad])
    y, *grads = on_tape(lambda a, b: a.sum())(a=a, b=b, grad=grad)  # another shape
    assert np.array_equal(grads, [0 * a, 0 * b])
    y, *grads = on_tape(lambda a, b: a.detach())(a=a, b=b, grad=grad)
    assert np.array_equal(grads, [0 * a, 0 * b])


def test_a_module_with_given_weights() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Dropout(0.5))
    x, w, shift = (rng.standard_normal(s) for s in ((2, 2, 3, 4), (3, 2, 1, 1), (3,)))
    weights = {"0.weight": Tensor(w, requires_grad=True), "1.bias": Tensor(shift)}
    y = with_weights(module, weights)(Tensor(x))
    right = np.einsum("oc,nchw->nohw", w[:, :, 0, 0], x) + shift[:, None, None]
    np.testing.assert_allclose(y.numpy(), right, rtol=0, atol=1e-13)
    y.sum().backward()
    want = np.broadcast_to(x.sum((0, 2, 3)), (3, 2))
    np.testing.assert_allclose(weights["0.weight"].grad.numpy()[:, :, 0, 0], want, rtol=1e-13)


def test_a_case() -> None:
    case = part_case("a sum", lambda x, w, n: (x * w).sum(n), {"x": (2, 3), "w": (3,)}, n=1)
    assert {name: np.shape(v) for name, v in case.arguments.items()} == {
        "x": (2, 3), "w": (3,), "n": (), "grad": (2,)
    }  # fmt: skip


def test_outputs_are_the_leaves() -> None:
    for exercise in exercises().values():
        if exercise.task.on_tape:
            for case in (*exercise.task.cases, *exercise.task.edge_cases):
                leaves = [n for n, v in case.arguments.items() if isinstance(v, np.ndarray)]
                want = ("y", *(f"grad_{name}" for name in leaves if name != "grad"))
                assert exercise.task.outputs == want, exercise.name
