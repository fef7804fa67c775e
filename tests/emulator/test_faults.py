"""A learner's kernel that crashes, never ends or does not compile: Python lives on and says why."""

import mmap
import shutil
import signal

import numpy as np
import pytest

from minseg import kernels
from minseg.emulator import run
from minseg.emulator.compiler import CompileError

FAULTS = {
    "null": ("y[i] = x[i];", "an access outside of all memory"),
    "wild": ("y[i] = *(y + 1000000000000LL);", "an access outside of all memory"),
    "stack": ("y[i] = deep(n, y);", "too large a stack"),
    "endless": ("while (n) { volatile int wait = n; }", "it does not end"),
}
KERNEL = """
__device__ int deep(int n, volatile float* from) {
    volatile float local[64];
    local[n % 64] = from[n % 32];
    return n ? deep(n - 1, local) + 1 : 0;
}
// launch: grid=(blocks) block=(64)  in: x  inout: y
__global__ void broken(const float* x, float* y, int n, int blocks) {
    int i = threadIdx.x;
    BODY
}
// launch: grid=(1) block=(64)  out: y
__global__ void sound(float* y) { y[threadIdx.x] = 1; }
"""


@pytest.mark.parametrize("barrier", ["", "__syncthreads();"])  # threads in a loop; as fibers
@pytest.mark.parametrize("blocks", [1, 200])  # on one CPU core; on all
@pytest.mark.parametrize("fault", FAULTS)
def test_a_launch_survives_a_fault(fault, blocks, barrier, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SECONDS", 1)
    body, message = FAULTS[fault]
    file = tmp_path / "mine.cu"
    file.write_text(KERNEL.replace("BODY", barrier + body))
    y = np.zeros(64, np.float32)
    before = signal.getsignal(signal.SIGSEGV)
    with pytest.raises(RuntimeError, match=r"broken \(mine.cu:8\): block .*" + message):
        kernels.launch(f"{file}:broken", None, y, 10_000_000, blocks)
    assert signal.getsignal(signal.SIGSEGV) == before
    kernels.launch(f"{file}:sound", y)  # the next launch finds everything in order
    assert (y == 1).all()
    if fault != "wild":  # nor are the same kernel's threads half way through
        kernels.launch(f"{file}:broken", y + 1, y, 0, blocks)
        assert set(y) == {{"null": 2, "stack": 0, "endless": 1}[fault]}


def test_a_local_array_too_large_for_a_stack_overwrites_nothing(tmp_path):
    file = tmp_path / "mine.cu"
    file.write_text("""
// launch: grid=(1) block=(64)  out: y
__global__ void large(float* y, int n) {
    volatile float local[300000];
    for (int i = 0; i < n; ++i) local[i] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = local[n / 2];
}
// launch: grid=(1) block=(64)  out: y
__global__ void small(float* y) { __syncthreads(); y[threadIdx.x] = 1; }
""")
    y = np.empty(64, np.float32)
    kernels.launch(f"{file}:small", y)  # makes the stacks; then whatever lies free is taken
    others = [np.frombuffer(mmap.mmap(-1, 1 << 20), np.uint8) for _ in range(300)]
    with pytest.raises(RuntimeError, match="too large a stack"):
        kernels.launch(f"{file}:large", y, 100)
    assert not any(other.any() for other in others)


def test_a_syntax_error_is_the_compilers_with_the_users_own_line(tmp_path, monkeypatch):
    folder = shutil.copytree(kernels.kernels_folder(), tmp_path / "kernels")
    monkeypatch.setenv("MINSEG_KERNELS", str(folder))
    text = (folder / "softmax.cu").read_text()
    at = text.index("{", text.index("softmax_forward(")) + 1
    (folder / "softmax.cu").write_text(text[:at] + "\n    forgotten = 3;\n" + text[at:])
    line = text[:at].count("\n") + 2
    x = np.ones((1, 4, 5), np.float32)
    info = kernels.kernel_info("softmax_forward")
    arguments = [x if p.pointer else 1 for p in info.parameters]
    with pytest.raises(CompileError) as error:
        kernels.launch("softmax_forward", *arguments)
    message = str(error.value)
    assert f"softmax.cu:{line}:" in message
    assert "forgotten" in message
