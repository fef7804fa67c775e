"""How kernels reach a GPU: on the current stream, compiled once for all processes; the ladder."""

import os
import subprocess
import sys

import numpy as np
import pytest

from minseg import kernels
from minseg.cuda.gpu import runs_here
from minseg.device import has_gpu, to_device
from tests.gpu import needs_gpu
from tests.test_ladder import CONV_RUNGS, STEPS, TF32, exactly, kernel_of
from tests.witness import assert_agree

pytestmark = needs_gpu


def test_the_current_stream_is_used():
    """A stream that records gets the launch, and runs it only when the recording is played."""
    import cupy

    x, y = cupy.arange(6, dtype=np.float32).reshape(1, 6), cupy.zeros((1, 6), np.float32)
    arguments = (1, 6, 1, 32, False)
    kernels.launch("softmax_forward", x, cupy.empty_like(y), *arguments)  # compiled before
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        kernels.launch("softmax_forward", x, y, *arguments)
        recording = stream.end_capture()
    assert not y.get().any()
    recording.launch(stream)
    stream.synchronize()
    powers = np.exp(np.arange(6) - 5.0)
    assert_agree(y.get()[0], powers / powers.sum(), np.float32, length=6)


PROGRAM = """
import cupy
from minseg import kernels
x = cupy.ones((1, 6), "float32")
kernels.launch("softmax_forward", x, cupy.empty_like(x), 1, 6, 1, 32, False)
print(float(x.sum()))
"""


def test_a_compiled_kernel_is_kept_on_disk(tmp_path):
    def run():
        settings = {**os.environ, "CUPY_CACHE_DIR": str(tmp_path), "CUPY_CACHE_IN_MEMORY": "0"}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=settings, check=True)
        assert done.returncode == 0
        return {file.name: file.stat().st_mtime_ns for file in tmp_path.rglob("*.cubin")}

    first = run()
    assert first
    assert run() == first


def skip_unless_it_runs(path):
    source = kernels.load(path)
    if not runs_here(source):
        pytest.skip(f"needs {source.target}")


@pytest.mark.parametrize(
    "size", [(64, 32, 64), (37, 19, 45), (130, 70, 129), (1, 1, 1), (515, 300, 259), (1024,) * 3]
)
@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_matmul_rung(path, size):
    skip_unless_it_runs(path)
    m, k, l = size
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, l)))
    c = to_device(np.full((m, l), np.nan, np.float32), "cuda")
    kernels.launch(
        f"{path}:{kernel_of(path)}", to_device(a, "cuda"), to_device(b, "cuda"), c, *size
    )
    got, a, b = to_device(c, "cpu"), a.astype(np.float64), b.astype(np.float64)
    if kernel_of(path) in TF32 | {"matmul_wgmma"}:
        # Either operand errs by at most 2^-11 of itself, so a product by 2^-10 of itself; the sum
        # is kept in float32, of which tensor cores may cut off the last bit instead of rounding.
        bound = (2.0**-10 + k * 2.0**-23) * (np.abs(a) @ np.abs(b)) + 1e-6
        assert (np.abs(got - a @ b) <= bound).all()
    else:
        assert_agree(got, a @ b, np.float32, length=k)


@pytest.mark.parametrize("size", [(1, 1, 1, 1, 1), (2, 3, 5, 7, 6), (2, 16, 70, 33, 40)])
@pytest.mark.parametrize("path", CONV_RUNGS, ids=lambda path: path.stem)
def test_conv2d_rung(path, size):
    skip_unless_it_runs(path)
    n, c, o, h, w = size
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in ((n, c, h, w), (o, c, 3, 3)))
    name, there = f"{path}:{kernel_of(path)}", to_device(x, "cuda")
    if kernel_of(path) == "im2col":
        columns = to_device(np.full((9 * c, n * h * w), np.nan, np.float32), "cuda")
        kernels.launch(name, there, columns, n, c, h, w)
        y = weight.reshape(o, -1) @ to_device(columns, "cpu")
        y = y.reshape(o, n, h, w).swapaxes(0, 1)
    else:
        y = to_device(np.full((n, o, h, w), np.nan, np.float32), "cuda")
        kernels.launch(name, there, to_device(weight, "cuda"), y, *size)
        y = to_device(y, "cpu")
    if kernel_of(path) in TF32:
        bound = (2.0**-10 + 9 * c * 2.0**-23) * exactly(abs(x), abs(weight)) + 1e-6
        assert (np.abs(y - exactly(x, weight)) <= bound).all()
    else:
        assert_agree(y, exactly(x, weight), np.float32, length=9 * c)


def test_the_ladders_are_timed(capsys):
    from minseg.cli import main

    assert has_gpu()
    assert main(["ladder", "matmul"]) == 0
    assert "of cuBLAS" in capsys.readouterr().out
