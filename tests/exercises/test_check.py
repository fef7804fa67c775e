"""What a learner is told. The solutions and the usual mistakes: test_tasks.py."""

from pathlib import Path

import numpy as np
import pytest

from minseg.exercises.check import check
from minseg.exercises.diagnose import recognise
from minseg.exercises.task import get_exercise
from minseg.exercises.verdict import Verdict, different, worst

HEAD = "import numpy as np\n\n\ndef relu_grad(grad, x):\n"


def verdict(tmp_path: Path, text: str, name: str = "relu_grad", seconds: float = 20) -> Verdict:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return check(get_exercise(name), path, seconds)


def test_a_backward_pass_along_every_way_does_not_end(tmp_path: Path) -> None:
    """Right, but each number hands on every share by itself: the ways double at every diamond."""
    text = """
import numpy as np
def backward(loss, count, users, inputs, slopes):
    grad = np.zeros(count, slopes.dtype)
    def go(node, share):
        grad[node] += share
        for edge in np.flatnonzero(users == node):
            go(inputs[edge], share * slopes[edge])
    go(loss, 1)
    return grad
"""
    got = verdict(tmp_path, text, "backward", seconds=3)
    assert got.diagnosis == "no answer"
    assert "40 diamonds in a row, a million million paths" in got.message


def test_syntax(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + "    return np.where(x > 0\n")
    assert got.stage == "syntax"
    assert "line 5" in got.message


@pytest.mark.parametrize("line", ["import torch", "from minseg import functional as F",
                                  "import scipy.ndimage as nd"])  # fmt: skip
def test_delegation_is_declined(tmp_path: Path, line: str) -> None:
    got = verdict(tmp_path, f"{HEAD}    {line}\n    return np.where(x > 0, grad, 0)\n")
    assert got.stage == "own work"
    assert "declined" in got.message


def test_hidden_delegation_finds_no_library(tmp_path: Path) -> None:
    body = '    return __import__("minseg").functional.relu(x)\n'
    got = verdict(tmp_path, HEAD + body)
    assert got.stage == "first run"
    assert "minseg is not for exercises" in got.message


def test_signature(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD.replace("grad, x)", "x, grad)") + "    return x\n")
    assert got.stage == "signature"
    assert "has to take (grad, x), yours takes (x, grad)" in got.message
    assert verdict(tmp_path, "def relu(x):\n    return x\n").stage == "signature"


def test_what_only_the_compiler_sees_is_syntax(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + '    "\\d"\n    y = x\nreturn y\n')
    assert got.stage == "syntax"
    assert "line 7: 'return' outside function" in got.message


def test_outputs_in_another_order(tmp_path: Path) -> None:
    """Not told as a wrong number: m, v and p are all right."""
    text = get_exercise("adam_step").solution.replace("+ eps), m, v", "+ eps), v, m")
    got = verdict(tmp_path, text, "adam_step")
    assert got.diagnosis == "order of outputs"
    assert "has to return p, m, v, in this order; yours are p, v, m" in got.message


def test_none_in_an_array_is_no_number(tmp_path: Path) -> None:
    text = get_exercise("iou").solution.replace("return ious, ",
        "return np.array([None if np.isnan(i) else i for i in ious]), ")  # fmt: skip
    got = verdict(tmp_path, text, "iou")
    assert got.stage == "values"
    assert "an absent class: ious has the dtype object, needs float64" in got.message


@pytest.mark.parametrize(("name", "old", "new", "argument"), [
    ("batch_norm", "    m = ", "    momentum = 0.1\n    m = ", "momentum"),
    ("focal_loss", "    counts =", "    gamma = 2.0\n    counts =", "gamma"),
])  # fmt: skip
def test_an_argument_that_is_not_used(
    tmp_path: Path, name: str, old: str, new: str, argument: str
) -> None:
    """A constant that happens to be its default: not "a sum in place of a mean"."""
    got = verdict(tmp_path, get_exercise(name).solution.replace(old, new), name)
    assert got.diagnosis == "argument ignored"
    assert f"the default of `{argument}`" in got.message


def test_nothing_is_left_by_a_slice_to_minus_nought(tmp_path: Path) -> None:
    text = get_exercise("conv_transpose2d").solution + "\n\nright = conv_transpose2d\n\n\n" \
        "def conv_transpose2d(x, w, b, stride=1, padding=0, output_padding=0):\n" \
        "    p = padding\n" \
        "    return right(x, w, b, stride, 0, output_padding)[:, :, p:-p, p:-p]\n"  # fmt: skip
    got = verdict(tmp_path, text, "conv_transpose2d")
    assert got.diagnosis == "empty"


def test_an_error_in_it_names_the_line(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + "    y = x\n    return y[7]\n")
    assert (got.stage, got.pattern) == ("first run", "")
    assert "line 6: IndexError" in got.message
    assert "grad: 3, x: 3" in got.message


def test_endless_loop_ends(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + "    while True:\n        pass\n", seconds=2)
    assert got.diagnosis == "no answer"


def test_exit_and_crash_are_reported(tmp_path: Path) -> None:
    assert "SystemExit" in verdict(tmp_path, HEAD + "    raise SystemExit\n").message
    body = "    import os\n    os._exit(3)\n"
    assert verdict(tmp_path, HEAD + body).diagnosis == "no answer"


def test_shape_and_values_are_told(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + "    return grad[:2]\n")
    assert got.stage == "shape"
    assert "grad_x has shape (2,), needs (3,)" in got.message
    got = verdict(tmp_path, HEAD + "    return grad * 2 * (x > 0)\n")
    assert got.diagnosis == "factor"
    assert "2 of 3 numbers" in got.message
    assert "grad_x[2]: yours is -14, right is -7" in got.message
    assert "x (3) =\n    [-2.  3.  1.]" in got.message  # the case is printed whole


def test_prints_are_kept(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + '    print("here")\n    return np.where(x > 0, grad, 0)\n')
    assert got.stage == ""
    assert "here\n" in got.printed
    assert got.passed[-1] == "edge cases"


def test_prints_stand_below_their_case(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + "    print(len(x))\n    return grad * (x > 0)\n")
    cases = get_exercise("relu_grad").task.cases
    assert got.printed.startswith(f"{cases[0].name}:\n{len(cases[0].arguments['x'])}\n")
    assert f"\n{cases[1].name}:\n" in got.printed


def test_what_goes_to_standard_error_is_kept_in_its_place(tmp_path: Path) -> None:
    text = HEAD + '    print("one")\n    print("two", file=sys.stderr)\n    print("three")\n'
    got = verdict(tmp_path, "import sys\n" + text + "    return np.where(x > 0, grad, 0)\n")
    assert "\none\ntwo\nthree\n" in got.printed


def test_any_letter_can_be_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pipe is not UTF-8 by itself, as on Windows."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    got = verdict(tmp_path, HEAD + '    print("\\u2202")\n    return np.where(x > 0, grad, 0)\n')
    assert got.stage == ""
    assert "\u2202" in got.printed


def test_an_endless_print_is_cut_off(tmp_path: Path) -> None:
    """What was printed before the end is shown, but no more than a reader wants."""
    got = verdict(tmp_path, HEAD + '    while True:\n        print("again")\n', seconds=2)
    assert got.diagnosis == "no answer"
    assert "again\nagain\n" in got.printed
    assert "it goes on" in got.printed
    assert len(got.printed) < 11_000


def test_what_is_half_written_is_not_called_unwritten(tmp_path: Path) -> None:
    body = "    if x.ndim == 1:\n        return grad * (x > 0)\n    raise NotImplementedError\n"
    got = verdict(tmp_path, HEAD + body)
    assert got.diagnosis == "gradient"
    assert "line 7: NotImplementedError" in got.message
    assert verdict(tmp_path, HEAD + "    raise NotImplementedError\n").diagnosis == "not written"


def test_a_list_is_no_array(tmp_path: Path) -> None:
    got = verdict(tmp_path, HEAD + "    return list(grad * (x > 0))\n")
    assert "has to return grad_x, an array; yours returns list" in got.message


def test_axes_in_another_order(tmp_path: Path) -> None:
    """NHWC, as other libraries have it."""
    text = get_exercise("conv2d").solution + "\n\nright = conv2d\n\n\ndef conv2d(\n    " \
        "x, w, b, stride=1, padding=0, dilation=1\n):\n" \
        "    return right(x, w, b, stride, padding, dilation).transpose(0, 2, 3, 1)\n"  # fmt: skip
    got = verdict(tmp_path, text, "conv2d")
    assert got.diagnosis == "order of axes"
    assert "y.transpose(0, 3, 1, 2)" in got.message


def test_patterns_that_need_no_task() -> None:
    """On a table of numbers without symmetry, each change of it is recognised."""
    task = get_exercise("transpose").task
    given = {"x": np.zeros((1, 1)), "y": np.zeros((3, 3)), "rows": 1, "cols": 1}
    want = np.array([[1.0, 7, -3], [4, 2, 9], [5, -8, 6]]) / 7
    border = want.copy()
    border[0, 1] = 0
    for name, answer in {
        "sign": -want, "flipped": want[:, ::-1], "transposed": want.T, "factor": want * 3,
        "offset": want + 1, "border": border, "rounded": want.astype(np.float32).astype(float),
        "not a number": want * np.nan,
    }.items():  # fmt: skip
        assert recognise(task, given, [answer], 0, want)[0] == name
    for digits in (6, 9):  # not "1 times the right one", nor "off by 1e-9"
        for near in (want * (1 + 0.5 * 10.0**-digits), want + 0.5 * 10.0**-digits):
            name, advice = recognise(task, given, [near], 0, want)
            assert name == "rounded"
            assert f"Right to {digits} digits" in advice


def test_not_a_number_is_never_right() -> None:
    got, want = np.array([np.nan, 1.0, np.inf, np.nan]), np.array([1.0, np.nan, np.inf, np.nan])
    assert different(got, want, 1e300).tolist() == [True, True, False, False]


def test_masks_are_compared(tmp_path: Path) -> None:
    """True and False cannot be subtracted, but told apart."""
    body = "def boundary_iou(prediction, target, distance):\n    return prediction, 0.5\n"
    got = verdict(tmp_path, "import numpy as np\n" + body, "boundary_iou")
    assert got.stage == "values"
    assert "boundary[0, 1, 1]: yours is 1, right is 0" in got.message


def test_two_numbers_that_differ_look_different() -> None:
    """Not "yours is 0.5, right is 0.5"."""
    got, want = np.array([0.5 + 1e-9]), np.array([0.5])
    assert worst("p", got, want, got != want).endswith("yours is 0.500000001, right is 0.5")
