"""What is said where CuPy, CUDA or the GPU fails; a stand-in for CuPy says it here."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minseg import compare, device, doctor
from minseg.cli import main
from minseg.compare import report
from minseg.compare.witnesses import Definition, Gpu, NumPy
from minseg.cuda import faults


def of_cupy(name: str, base: type = RuntimeError, **attributes) -> type[Exception]:
    return type(name, (base,), {"__module__": "cupy_backends.cuda.api.runtime", **attributes})


ILLEGAL = of_cupy("CUDARuntimeError", status=700)("cudaErrorIllegalAddress: an illegal access")


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy with two GPUs and all that it needs."""
    module = ModuleType("cupy")
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda i: {"name": b"GPU %d" % i, "totalGlobalMem": 6 << 30},
        runtimeGetVersion=lambda: 12040,
    )
    nvrtc = SimpleNamespace(getVersion=lambda: (12, 4))
    one_gpu = lambda number: SimpleNamespace(use=lambda: None)  # noqa: E731
    module.cuda = SimpleNamespace(runtime=runtime, nvrtc=nvrtc, Device=one_gpu)
    module.asarray, module.ndarray = np.asarray, type("ndarray", (), {})
    module.__version__, module.__spec__ = "14.0", SimpleNamespace()
    monkeypatch.setitem(sys.modules, "cupy", module)
    device._cupy.cache_clear()
    yield module
    device._cupy.cache_clear()


def failing(error):
    def fail(*arguments):
        raise error

    return fail


def test_a_gpu_that_is_not_there_is_named(cupy):
    assert device.has_gpu()
    device.to_device(np.ones(1), "cuda:1")
    with pytest.raises(RuntimeError, match=r"got 'cuda:2', the last GPU here is \"cuda:1\""):
        device.to_device(np.ones(1), "cuda:2")
    with pytest.raises(ValueError, match="got 'cuda:'"):
        device.to_device(np.ones(1), "cuda:")


@pytest.mark.parametrize("error", [ImportError, RuntimeError, of_cupy("NVRTCError")])
def test_a_driver_without_nvrtc_is_no_gpu(cupy, error, capsys):
    cupy.cuda.nvrtc.getVersion = failing(error("libnvrtc.so.12: no such file"))
    assert not device.has_gpu()
    with pytest.raises(RuntimeError, match=r"NVRTC.*cupy-cuda12x\[ctk\].*libnvrtc.so.12"):
        device.to_device(np.ones(1), "cuda")
    assert doctor._cupy().startswith("installed, but not usable: CuPy finds no NVRTC")
    assert main(["doctor"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "CuPy" in line)
    assert row.startswith("broken")


def test_a_cupy_that_is_broken_says_why(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    device._cupy.cache_clear()
    with pytest.raises(RuntimeError, match=r"needs CuPy.*fastrlock"):
        device.to_device(np.ones(1), "cuda")


def test_doctor_finds_the_gpus_without_nvidia_smi(cupy, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert doctor._gpu() == "GPU 0, 6144 MiB; GPU 1, 6144 MiB"
    cupy.cuda.runtime.getDeviceCount = failing(ILLEGAL)
    assert doctor._gpu() == ""


def test_words():
    for other in (ValueError("a shape"), ImportError("No module named 'jupytext'")):
        assert not faults.of_cuda(other)
        assert faults.words(other) == str(other)
    assert faults.words(RuntimeError()) == "RuntimeError"
    assert "[ctk]" in faults.words(ImportError("libcublas.so.12: cannot open shared object"))
    refused = of_cupy("CompileException", Exception)
    assert faults.words(refused("conv2d.cu(9): error: no bias\n")) == "conv2d.cu(9): error: no bias"
    header = faults.words(refused('catastrophic error: cannot open source file "cuda_fp16.h"'))
    assert "[ctk]" in header
    assert "minseg sanitize" in faults.words(ILLEGAL)
    full = of_cupy("CUDARuntimeError", status=2)("cudaErrorMemoryAllocation: out of memory")
    assert faults.words(full) == "cudaErrorMemoryAllocation: out of memory"
    assert [faults.loses_gpu(e) for e in (ILLEGAL, full, ValueError())] == [True, False, False]


@pytest.mark.parametrize("error", [of_cupy("CompileException", Exception)("no bias"), ILLEGAL])
def test_a_command_ends_with_the_words(error, monkeypatch, capsys):
    monkeypatch.setattr("minseg.doctor.findings", failing(error))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == f"minseg: error: {faults.words(error)}\n"


def test_a_fault_of_minseg_itself_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("minseg.doctor.findings", failing(KeyError("x")))
    with pytest.raises(KeyError):
        main(["doctor"])


def test_after_a_lost_gpu_nothing_is_compared_there(monkeypatch, capsys):
    """All that followed would fail with the same error, whatever its kernels."""
    witnesses = [Definition(), NumPy(), gpu := Gpu()]
    monkeypatch.setattr("minseg.compare.run.choose", lambda device, sanitize: (witnesses, []))
    monkeypatch.setattr("minseg.compare.run.measure", lambda device: None)
    monkeypatch.setattr("minseg.compare.run.machine", lambda witnesses: {})
    monkeypatch.setattr("minseg.compare.run.LARGE_BATCH", {"cpu": 2})
    monkeypatch.setattr("minseg.compare.witnesses.to_device", failing(ILLEGAL))
    monkeypatch.setattr(Definition, "device", "none")
    monkeypatch.setattr(NumPy, "device", "none")
    result = compare.compare(["relu", "sigmoid"])
    (failed,) = result.failed
    assert (failed.op, failed.part, failed.witness) == ("relu", "forward", "gpu")
    assert "cudaErrorIllegalAddress" in report.explain(failed)
    assert gpu.lost == "relu forward"
    assert result.notes == ["nothing ran on the GPU after relu forward, which failed there"]


def test_the_words_of_a_compiler_are_printed_once(capsys):
    from rich.console import Console

    from minseg.compare.row import Row
    from minseg.compare.run import Comparison

    rows = [Row("relu", part, "3", "float32", "gpu", "cuda", False, 1) for part in ("a", "b", "c")]
    for row, problem in zip(rows, ["no bias", "no bias", "no x"], strict=True):
        row.fail(problem)
    report._failures(Console(width=200), Comparison(rows=rows))
    out = capsys.readouterr().out
    assert "relu a, float32, gpu: no bias\n" in out
    assert "relu b, float32, gpu: the same\n" in out
    assert "relu c, float32, gpu: no x\n" in out
