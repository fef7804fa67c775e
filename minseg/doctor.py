"""What this machine has, and what each missing part would give. Nothing here raises."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from minseg.device import to_device
from minseg.parallel import get_num_threads

Finding = tuple[str, str, str]  # the part; what was found, "" for nothing; what it gives
UNUSABLE = "installed, but not usable: "  # so begins what was found, and is of no use as it is


def findings() -> Iterator[Finding]:
    """One after the other, since some take a second."""
    yield "Python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})", ""
    yield "NumPy", _version("numpy"), "every op on the CPU"
    yield "BLAS", _blas(), "fast matrix products: most of the time goes into them"
    yield "threads", f"{get_num_threads()} of {os.cpu_count()} cores", "ops use this many"
    yield (
        "C++ compiler",
        _compiler(),
        "the emulator: CUDA kernels on the CPU; or pip install ziglang",
    )
    yield "NVIDIA GPU", _gpu(), "training on the GPU: --device cuda"
    yield "CuPy", _cupy(), 'the same; pip install "minseg[cuda12]" or "minseg[cuda13]"'
    yield "PyTorch", _version("torch"), 'tests against it: pip install "minseg[oracle]"'
    yield "data", _data(), "real images: set MINSEG_DATA, or give --data-root"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _blas() -> str:
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:  # one that threadpoolctl does not know: macOS's Accelerate
        configuration: Any = np.show_config(mode="dicts")
        blas = configuration.get("Build Dependencies", {}).get("blas", {})
        return blas.get("name", "") if blas.get("found") else ""
    return ", ".join(
        f"{pool['internal_api']} {pool.get('version') or ''}, {pool['num_threads']} threads"
        for pool in pools
    )


def _compiler() -> str:
    """The first compiler that answers, of those that the emulator tries."""
    candidates = [[name] for name in (os.environ.get("CXX"), "c++", "g++", "clang++") if name]
    candidates = [command for command in candidates if shutil.which(command[0])]
    if _version("ziglang"):
        candidates.append([sys.executable, "-m", "ziglang", "c++"])
    for command in candidates:
        if lines := _output([*command, "--version"]):
            return lines[0]
    return ""


def _gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    found = _output(query) if shutil.which("nvidia-smi") else []
    return "; ".join(found or _gpus_of_cupy())  # a container may lack the program


def _gpus_of_cupy() -> list[str]:
    try:
        import cupy

        runtime = cupy.cuda.runtime
        gpus = [runtime.getDeviceProperties(i) for i in range(runtime.getDeviceCount())]
    except Exception:  # no CuPy, no driver
        return []
    return [f"{gpu['name'].decode()}, {gpu['totalGlobalMem'] >> 20} MiB" for gpu in gpus]


def _cupy() -> str:
    try:
        to_device(np.empty(0), "cuda")
        import cupy

        version = cupy.cuda.runtime.runtimeGetVersion()
    except RuntimeError as error:  # which says what is missing
        found = importlib.util.find_spec("cupy")
        reason = str(error).removeprefix('device "cuda": ')
        return UNUSABLE + reason if found else ""
    return f"{cupy.__version__}, CUDA {version // 1000}.{version % 1000 // 10}"


def _data() -> str:
    folder = os.environ.get("MINSEG_DATA", "")
    return folder if os.path.isdir(folder) else ""


def _output(command: list[str]) -> list[str]:
    """The lines that a program prints; none if it fails, or takes longer than half a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.strip().splitlines()
