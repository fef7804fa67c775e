"""`minseg compare`: what it reports about right and about broken kernels, and how it reports it."""

import inspect
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from minseg import kernels
from minseg.cli import main
from minseg.compare import compare, floors, report, witnesses
from minseg.compare.cases import cases_of, list_cases, without_cases
from minseg.compare.model import compare_model
from minseg.compare.row import Row
from minseg.kernels import kernels_folder

FLOAT32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _no_time_to_lose(monkeypatch):
    """No test judges how long something takes: once is enough, and a small floor."""
    monkeypatch.setattr(witnesses, "SECONDS", 0.0)
    monkeypatch.setattr(floors, "COPY_BYTES", {"cpu": 2**20})
    monkeypatch.setattr(floors, "MATMUL_SIDE", {"cpu": 64})
    monkeypatch.setattr(floors.best, "__defaults__", (0.0,))


def row(length=100, dtype="float32"):
    return Row("op", "forward", "", dtype, "numpy", "cpu", False, length)


@pytest.fixture
def copied_kernels(tmp_path, monkeypatch):
    """A folder of kernels to break; `--kernels` is told apart from other tests' by monkeypatch."""
    monkeypatch.delenv("MINSEG_KERNELS", raising=False)
    folder = tmp_path / "kernels"
    shutil.copytree(kernels_folder(), folder)
    monkeypatch.setenv("MINSEG_KERNELS", str(folder))
    return folder


def edit(folder, name, old, new, after=""):
    """Replace the first `old` after the first `after`."""
    text = (folder / name).read_text()
    start = text.index(old, text.index(after))
    (folder / name).write_text(text[:start] + new + text[start + len(old) :])


def rows_of(path, **wanted):
    rows = json.loads(path.read_text())["rows"]
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


# -- judging ---------------------------------------------------------------------------------------
def test_the_tolerance_is_the_formula_and_the_worst_element_is_named():
    expected = np.array([[1.0, -4.0], [2.0, 0.5]])
    got = expected.astype(np.float32)
    got[0, 1] += 2e-6
    judged = row(length=100)
    judged.judge(got, expected, FLOAT32)
    assert judged.tolerance == 8 * 2.0**-23 * 10 * 4  # factor, eps, sqrt(length), scale
    assert judged.worst == (0, 1)
    assert judged.expected == -4
    assert judged.got == float(got[0, 1])
    assert judged.error == abs(judged.got + 4)
    assert judged.ratio == judged.error / judged.tolerance < 1
    assert judged.verdict == "ok"
    got[1, 1] += 4e-5  # 1.05 of the tolerance
    judged = row(length=100)
    judged.judge(got, expected, FLOAT32)
    assert judged.failed
    assert judged.worst == (1, 1)
    np.testing.assert_array_equal(judged.map > 1, [[False, False], [False, True]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_fails_unless_the_reference_is_so_there(value):
    expected = np.ones(5)
    got = expected.astype(np.float32)
    got[3] = value
    judged = row()
    judged.judge(got, expected, FLOAT32)
    assert judged.failed
    assert (judged.worst, judged.ratio) == ((3,), np.inf)
    expected[3] = value
    judged = row()
    judged.judge(got, expected, FLOAT32)
    assert judged.verdict == "ok"
    got[3] = 1
    judged = row()
    judged.judge(got, expected, FLOAT32)
    assert judged.failed
    json.dumps(judged.to_json(), allow_nan=False)


def test_shape_and_dtype_must_be_right_and_indices_equal():
    for got in (np.ones((1, 5), np.float32), np.ones(5)):
        judged = row()
        judged.judge(got, np.ones(5), FLOAT32)
        assert judged.failed
        assert "needs" in judged.problem
    judged = row()
    judged.judge(np.array([1, 2, 4]), np.array([1, 2, 3]), FLOAT32)
    assert judged.failed
    assert (judged.worst, judged.tolerance) == ((2,), 0)


# -- cases -----------------------------------------------------------------------------------------
def test_every_op_has_cases():
    assert without_cases() == []


def test_every_kernel_is_compared_in_both_precisions():
    """Here only that it is launched; `minseg compare --sanitize`, in CI, judges what it does."""
    seen = set()

    def observe(launch):
        seen.update((launch.kernel.name, a.dtype) for a in launch.arguments if a is not None)

    kernels.observers.append(observe)
    try:
        for case in (case for op in list_cases() for case in cases_of(op) if not case.large):
            for dtype in (np.float32, np.float64):
                for part in case.parts[1:] or case.parts:  # a gradient's forward runs as well
                    witnesses.Emulated().compute(case, part, case.in_dtype(dtype))
    finally:
        kernels.observers.remove(observe)
    for name in kernels.list_kernels():
        scalars = any(p.ctype == "scalar" for p in kernels.kernel_info(name).parameters)
        for dtype in (np.float32, np.float64) if scalars else (np.int32,):
            assert (name, np.dtype(dtype)) in seen


def test_definitions_take_the_arrays_by_name():
    defined = [case for op in list_cases() for case in cases_of(op) if case.definition is not None]
    assert {case.op for case in defined} == set(list_cases())
    for case in defined:
        inspect.signature(case.definition).bind(**case.arrays)


@pytest.mark.parametrize("op", list_cases())
def test_cases_are_the_same_each_time_and_awkward(op):
    first, second = cases_of(op, 1), cases_of(op, 1)
    for a, b in zip(first, second, strict=True):
        assert a.shape == b.shape
        for name in a.arrays:
            np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
    small = [case for case in first if not case.large]
    assert small
    assert all(case.definition is not None for case in small)
    for case in small:
        image = next(iter(case.arrays.values())).shape
        assert len(image) < 4 or (image[0] > 1 and image[2] != image[3])


def test_a_floor_is_measured_once(monkeypatch):
    devices = []
    measure = floors.measure
    monkeypatch.setattr(
        "minseg.compare.run.measure", lambda device: devices.append(device) or measure(device)
    )
    several = [witnesses.Definition(), witnesses.NumPy(), witnesses.Emulated()]
    monkeypatch.setattr("minseg.compare.run.choose", lambda *arguments: (several, []))
    compare(["relu"])
    assert devices == ["cpu"]


# -- the command -----------------------------------------------------------------------------------
def test_compare_conv2d(capsys, tmp_path):
    page, data = tmp_path / "c.html", tmp_path / "c.json"
    assert main(["compare", "conv2d", "--html", str(page), "--json", str(data)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    for text in ("grad_weight", "emulated", "float64", "of floor", "GFLOP/s", "a CPU's", "agree"):
        assert text in out
    for line in out.splitlines():
        if " emulated " in line:
            assert "cpu" not in line  # no time
    for part in ("forward", "grad_input", "grad_weight"):
        for dtype in ("float32", "float64"):
            rows = rows_of(data, part=part, dtype=dtype, large=False)
            seen = {r["witness"] for r in rows}
            assert {"numpy", "emulated"} <= seen
            assert ("definition" in seen) == (part == "forward")
            for r in rows:
                assert r["kernels"] if r["witness"] == "emulated" else r["seconds"] > 0
    text = page.read_text()
    assert text.count("data:image/png;base64,") >= 6
    assert "http" not in text.replace("http-equiv", "")  # self-contained


def test_a_broken_kernel_fails_and_the_worst_element_is_named(copied_kernels, capsys, tmp_path):
    # a classic: the right-most column of every image is left out
    right = "sum[r][c] + (b ? b[channel] : scalar(0))"
    edit(copied_kernels, "conv2d.cu", right, f"p % W_out == W_out - 1 ? scalar(7) : {right}")
    data = tmp_path / "c.json"
    assert main(["compare", "conv2d", "--device", "emulator", "--json", str(data)]) == 1
    failed = rows_of(data, verdict="FAIL")
    assert {(r["part"], r["witness"]) for r in failed} == {("forward", "emulated")}
    for r in failed:
        assert r["got"] == 7
        assert r["ratio"] > 100
    # The last columns of outputs 2, 4 and 5 wide
    assert {r["worst"][3] for r in failed} == {1, 3, 4}
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "it is 7, needs " in out
    assert "conv2d_forward" in out


def test_a_kernel_that_does_not_compile_fails_its_rows_only(copied_kernels, tmp_path, capsys):
    edit(copied_kernels, "matmul.cu", "scalar* result = c +", "scalar* result = nonsense +")
    data = tmp_path / "c.json"
    assert main(["compare", "matmul", "--json", str(data)]) == 1
    assert {r["witness"] for r in rows_of(data, verdict="FAIL")} == {"emulated"}
    assert "nonsense" in capsys.readouterr().out


def test_sanitize_finds_a_missing_barrier(copied_kernels, tmp_path, capsys):
    edit(copied_kernels, "common.cuh", "__syncthreads();", "", after="void tile_product")
    data = tmp_path / "c.json"
    command = ["compare", "matmul", "--sanitize", "--device", "emulator"]
    assert main([*command, "--json", str(data)]) == 1
    findings = json.loads(data.read_text())["findings"]
    assert findings
    assert "racecheck" in {f["kind"] for f in findings}
    out = capsys.readouterr().out
    assert "racecheck: common.cuh" in out
    assert "the sanitizer found" in out


def test_without_a_compiler_the_rest_is_compared(monkeypatch, capsys, tmp_path):
    def nothing():
        raise RuntimeError("the CUDA emulator needs a C++ compiler: install g++")

    monkeypatch.setattr(witnesses.compiler, "compiler", nothing)
    data = tmp_path / "c.json"
    assert main(["compare", "relu", "conv2d", "--json", str(data)]) == 0
    assert not rows_of(data, witness="emulated")
    assert "no kernel was emulated: the CUDA emulator needs" in capsys.readouterr().out
    assert main(["compare", "relu", "--device", "emulator"]) == 1
    assert "needs a C++ compiler" in capsys.readouterr().err


def test_without_a_gpu_it_says_what_one_would_add(capsys):
    try:
        witnesses.to_device(np.zeros(1), "cuda")
    except RuntimeError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    assert main(["compare", "tanh"]) == 0
    assert "note: no GPU: with one," in capsys.readouterr().out
    assert main(["compare", "tanh", "--device", "cuda"]) == 1
    assert "CuPy" in capsys.readouterr().err


def test_errors_are_one_line(capsys, tmp_path):
    for command, message in (
        (["compare", "zebra"], "no op 'zebra'; the ops are: adam, adaptive_avg_pool2d"),
        (["compare", "--model", "nope"], "unet"),
        (["compare", "relu", "--model", "unet"], "leave the ops out"),
        (["compare", "--html", str(tmp_path / "no" / "c.html")], "no such folder"),
        (["compare", "relu", "--html", str(tmp_path)], "a folder is there"),  # before any work
        (
            ["compare", "conv2d", "--kernels", str(tmp_path / "no")],
            f"--kernels {tmp_path / 'no'}: ",
        ),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINSEG_KERNELS", "")  # restored, whatever --kernels puts there
            assert main(command) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("minseg: error: ")
        assert message in err


@pytest.mark.parametrize("name", ["fcn8s", "deeplabv3plus"])
def test_every_layer_agrees(name):
    result = compare_model(name, "emulator")
    assert not result.failed
    assert {(r.dtype, r.witness) for r in result.rows} == {
        ("float32", "numpy"), ("float32", "emulated"), ("float64", "emulated"),
    }  # fmt: skip
    kinds = Counter("grad" if r.part.startswith("grad of ") else "output" for r in result.rows)
    assert kinds["output"] > 50
    assert kinds["grad"] > 2 * kinds["output"] - 10  # of each layer and of its weights


def test_every_layer_of_a_unet_agrees():
    result = compare_model("unet", "emulator")
    console = Console(width=240, file=io.StringIO())
    report.show(console, result, every_row=True)
    assert "time" not in console.file.getvalue()  # a layer has none
    assert not result.failed
    parts = {(r.part, r.dtype, r.witness) for r in result.rows}
    for part in ("contract.0.0", "head", "grad of contract.0.0", "grad of head.weight"):
        for dtype in ("float32", "float64"):
            assert (part, dtype, "emulated") in parts
        assert (part, "float32", "numpy") in parts
    assert all(math.isfinite(r.error) for r in result.rows)
    assert any("conv2d_forward" in r.kernels for r in result.rows)


def test_the_model_shows_the_first_layer_that_is_wrong(copied_kernels):
    edit(copied_kernels, "conv2d.cu", "(b ? b[channel] : scalar(0))",
         "(kh == 1 ? scalar(1) : b ? b[channel] : scalar(0))")  # fmt: skip
    failed = [r.part for r in compare_model("unet", "emulator").failed]
    assert failed[0] == "head"  # the only 1x1 convolution


def test_sanitize_and_profile_commands(copied_kernels, capsys, tmp_path):
    figure = tmp_path / "warp.png"
    command = ["matmul.cu", "--kernels", str(copied_kernels)]
    assert main(["profile", *command, "--figure", str(figure)]) == 0
    assert "sectors a request" in capsys.readouterr().out
    assert figure.stat().st_size > 1000
    assert main(["sanitize", *command]) == 0
    assert "0 findings" in capsys.readouterr().out
    edit(copied_kernels, "common.cuh", "__syncthreads();", "", after="void tile_product")
    findings = tmp_path / "findings.json"
    assert main(["sanitize", *command, "--json", str(findings)]) == 1
    assert "racecheck" in {f["kind"] for f in json.loads(findings.read_text())}
    assert "racecheck" in capsys.readouterr().out
    assert main(["profile", "nope"]) == 1
    assert "no kernel 'nope'" in capsys.readouterr().err


def test_the_figure_of_profiles_help_is_of_one_kernel(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["profile", "--help"])
    (example,) = re.findall("minseg (profile .* --figure .*)", capsys.readouterr().out)
    assert main(example.split()) == 0  # a .cu file of several kernels is an error


def test_a_narrow_terminal_gets_two_tables():
    result = compare(["relu"], "auto")
    for width, tables in ((80, 2), (120, 2), (160, 1)):
        console = Console(width=width, highlight=False, markup=False, file=io.StringIO())
        report.show(console, result, every_row=True)
        report.show(console, result, every_row=False)
        lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
        heads = [line for line in lines if line.startswith("part ")]
        assert len(heads) == tables * len(cases_of("relu"))  # those of the summary begin with op
        assert max(map(len, lines)) <= width
        agreement = [line for line in lines if line.endswith(("ok", "reference"))]
        assert agreement
        assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in agreement)  # nothing is cut


def test_the_longest_names_leave_room_for_the_numbers():
    result = compare(["relu", "binary_cross_entropy_with_logits"], "emulator")
    for width, every_row in product((60, 80, 120, 160, 240), (False, True)):
        console = Console(width=width, highlight=False, markup=False, file=io.StringIO())
        report.show(console, result, every_row)
        text = console.file.getvalue()
        assert text.isascii()  # as a terminal may be that is no UTF-8
        lines = [line.rstrip() for line in text.splitlines()]
        assert max(map(len, lines)) <= width
        numbers = [found[0] for line in lines if (found := re.match(".*  (ok|reference)", line))]
        assert len(numbers) >= 6  # of forward and gradients, of both
        for line in numbers:
            assert re.search(r" \d\.\d{3} ", line), line  # the error in units of the tolerance
        assert width < 240 or "expected" in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's pipe")
def test_starting_up_imports_nothing_heavy():
    code = "import sys, minseg.cli; minseg.cli._parser(); print('minseg.compare' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
