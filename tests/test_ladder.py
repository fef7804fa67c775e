"""Every rung of the ladder computes the same product, and the sanitizer finds nothing in it."""

import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from minseg import ladder
from minseg.cli import main
from minseg.commands import kernels as kernel_commands
from minseg.cuda.gpu import NotCompiled, _module, runs_here
from minseg.emulator.sanitize import sanitize
from minseg.kernels import kernels_folder, launch, load
from minseg.ladder import Rung, climb
from minseg.ops.conv2d import op
from tests.witness import assert_agree

CONV_RUNGS = sorted(kernels_folder().glob("ladder/conv2d/v*.cu"))
STEPS = sorted(kernels_folder().glob("ladder/matmul/v*.cu"))
RUNGS = [path for path in STEPS if load(path).target != "sm_90a"]  # what the emulator can run
TF32 = {"matmul_wmma", "matmul_mma", "conv2d_tensor_cores"}
# M, K, L: tiles that fit, and sizes that divide by nothing; K of one step, and of many
# N, C, O, H, W
IMAGES = [(1, 1, 1, 1, 1), (2, 3, 5, 7, 6), (1, 9, 70, 9, 33), (2, 16, 16, 8, 8)]
SIZES = [(64, 32, 64), (37, 19, 45), (130, 8, 129), (1, 1, 1), (16, 67, 100)]


def kernel_of(path: Path) -> str:
    (name,) = load(path).kernels
    return name


def operands(m, k, l):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, l))
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", RUNGS, ids=lambda path: path.stem)
def test_rung_computes_the_product(path, size):
    a, b = operands(*size)
    c = np.full((size[0], size[2]), np.nan, np.float32)
    launch(f"{path}:{kernel_of(path)}", a, b, c, *size)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    if kernel_of(path) in TF32:
        # Either operand errs by at most 2^-11 of itself, so a product by 2^-10 of itself.
        bound = 2.0**-10 * (np.abs(a).astype(np.float64) @ np.abs(b)) + 1e-6
        assert (np.abs(c - exact) <= bound).all()
    else:
        assert_agree(c, exact, np.float32, length=size[1])


@pytest.mark.parametrize("path", RUNGS, ids=lambda path: path.stem)
def test_rung_is_sane(path):
    m, k, l = 37, 19, 45
    a, b = operands(m, k, l)
    findings = sanitize(f"{path}:{kernel_of(path)}", a, b, np.empty((m, l), np.float32), m, k, l)
    assert findings == []


def convolve(path, n, c, o, h, w, run):
    """A rung's output for random operands, and the operands; `run` is launch or sanitize."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, h, w)).astype(np.float32)
    weight = rng.standard_normal((o, c, 3, 3)).astype(np.float32)
    y = np.full((n, o, h, w), np.nan, np.float32)
    name = f"{path}:{kernel_of(path)}"
    if kernel_of(path) != "im2col":
        return run(name, x, weight, y, n, c, o, h, w), x, weight, y
    columns = np.full((9 * c, n * h * w), np.nan, np.float32)
    result = run(name, x, columns, n, c, h, w)
    y[:] = (weight.reshape(o, -1) @ columns).reshape(o, n, h, w).swapaxes(0, 1)
    return result, x, weight, y


def exactly(x, weight):
    arguments = (None, (1, 1), (1, 1), (1, 1), 1)
    return op.definition(x.astype(np.float64), weight.astype(np.float64), *arguments)


@pytest.mark.parametrize("size", IMAGES)
@pytest.mark.parametrize("path", CONV_RUNGS, ids=lambda path: path.stem)
def test_rung_computes_the_convolution(path, size):
    _, x, weight, y = convolve(path, *size, run=launch)
    if kernel_of(path) in TF32:
        assert (
            np.abs(y - exactly(x, weight)) <= 2.0**-10 * exactly(abs(x), abs(weight)) + 1e-6
        ).all()
    else:
        assert_agree(y, exactly(x, weight), np.float32, length=weight[0].size)


@pytest.mark.parametrize("path", CONV_RUNGS, ids=lambda path: path.stem)
def test_convolution_rung_is_sane(path):
    with np.errstate(invalid="ignore"):  # the sanitizer leaves the columns as they were: NaN
        findings = convolve(path, 2, 3, 5, 7, 6, run=sanitize)[0]
    assert findings == []


def test_climbing_shows_what_each_rung_buys():
    naive, coalesced, shared, registers = (rung.profile for rung in islice(climb("matmul"), 4))
    # 128 loads a thread for 64 steps along K, whatever the order of the threads ...
    assert naive.per_thread("load", shared=False) == 128
    assert coalesced.per_thread("load", shared=False) == 128
    # ... but 16 rows in a half-warp are 16 sectors, 16 columns are 2
    assert coalesced.sectors_a_request < naive.sectors_a_request / 4
    assert shared.per_thread("load", shared=False) == 128 / 16
    assert registers.bytes_moved < shared.bytes_moved < coalesced.bytes_moved


def gpu_of(capability, monkeypatch):
    """CuPy as far as it says which GPU is there."""
    device = SimpleNamespace(compute_capability=capability)
    cuda = SimpleNamespace(Device=lambda: device)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))


@pytest.mark.parametrize(
    ("capability", "runs"),
    [("75", (True, False, False)), ("80", (True, True, False)), ("90", (True, True, True)),
     ("120", (True, True, False))],
)  # fmt: skip
def test_which_gpus_a_file_is_for(capability, runs, monkeypatch):
    gpu_of(capability, monkeypatch)
    sources = [load(STEPS[i]) for i in (0, 7, 8)]
    assert [source.target for source in sources] == ["sm_70", "sm_80", "sm_90a"]
    assert tuple(map(runs_here, sources)) == runs


def test_a_gpu_is_given_no_rung_that_it_is_too_old_for(monkeypatch):
    """v7 does not compile for a T4; v8 does, to a trap, after which no kernel runs there."""
    gpu_of("75", monkeypatch)
    monkeypatch.setattr(ladder, "profile", lambda *arguments, operations: None)
    monkeypatch.setattr(ladder, "_vendor_seconds", lambda stair: 1.0)
    monkeypatch.setattr(ladder, "_gpu_seconds", lambda name, sizes: 2.0)
    timed = {rung.name[:2]: rung.share for rung in climb("matmul", gpu=True)}
    assert timed == {f"v{i}": 0.5 if i < 7 else None for i in range(1, 10)}
    with pytest.raises(RuntimeError, match=r"v8_mma_sync\.cu needs a GPU of sm_80 .* is of sm_75"):
        _module(load(STEPS[7]), "", False, 0)


def test_a_rung_whose_headers_are_missing_is_named_and_passed_over(monkeypatch):
    def refuse(name, *arguments):
        raise NotCompiled('cannot open source file "crt/mma.h"')

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ones=np.ones, float32=np.float32))
    monkeypatch.setattr(ladder, "launch", refuse)
    with pytest.warns(UserWarning, match=r"v7_wmma.* does not compile here: .*crt/mma\.h"):
        assert ladder._gpu_seconds(f"{STEPS[6]}:matmul_wmma", (8, 8, 8)) is None


def test_every_rung_says_its_idea(monkeypatch):
    monkeypatch.setitem(ladder.SMALL, "conv2d", (1, 8, 8, 4, 8))
    ideas = [rung.idea for rung in climb("conv2d")]
    assert ideas[0].startswith("one thread, one output")
    assert len(set(ideas)) == len(CONV_RUNGS) == 6


def test_a_stair_that_does_not_exist():
    with pytest.raises(ValueError, match="no stair 'fft', only matmul and conv2d"):
        next(climb("fft"))


def test_at_80_columns_no_word_is_cut(capsys, monkeypatch):
    monkeypatch.setattr(kernel_commands, "console", Console(width=80))
    assert main(["ladder", "matmul"]) == 0
    out = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert "neighbouring threads take neighbouring columns" in out


def test_the_command_prints_the_stairs(capsys):
    assert main(["ladder", "matmul"]) == 0
    out = capsys.readouterr().out
    assert all(path.stem in out for path in STEPS)
    assert any("v9_wgmma" in line and "on Hopper only" in line for line in out.splitlines())
    # v1: 2 K = 128 loads an output; v3: 16 times fewer, the side of a tile, and 128 shared ones
    assert "128.0 + 0.0 shared" in out
    assert "8.0 + 128.0 shared" in out


def test_on_a_gpu_it_says_of_which_size_the_times_are(capsys, monkeypatch):
    """They are of a larger one than the counts; and why there is no share."""
    rungs = iter([Rung("v1", "one idea", None, 2.5, None)])
    monkeypatch.setattr("minseg.device.has_gpu", lambda: True)
    monkeypatch.setattr(ladder, "climb", lambda stair, gpu: rungs)
    assert main(["ladder", "conv2d"]) == 0
    out = capsys.readouterr().out
    assert "for 1 x 16 x 64 x 16 x 32; timed on the GPU, for 8 x 128 x 128 x 128 x 128" in out
    assert "no share of cuDNN's speed: that needs PyTorch with CUDA" in out
