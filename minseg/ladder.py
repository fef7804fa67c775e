"""The two stairs of kernels/ladder: what each rung asks of the memory, and on a GPU how fast it is.

Without a GPU the emulator's profiler counts loads, sectors, bank conflicts and bytes; it never
gives a time. With one, each rung is timed beside the vendor's library in the same run.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minseg.cuda.gpu import NotCompiled, runs_here
from minseg.cuda.source import HOPPER
from minseg.emulator.profile import Profile, profile
from minseg.kernels import kernel_info, kernels_folder, launch, load

STAIRS = ("matmul", "conv2d")

# Sizes of a climb: enough blocks to be typical, few enough for the emulator; and for a GPU.
SMALL = {"matmul": (128, 64, 128), "conv2d": (1, 16, 64, 16, 32)}  # M, K, L; N, C, O, H, W
LARGE = {"matmul": (4096, 4096, 4096), "conv2d": (8, 128, 128, 128, 128)}


@dataclass(frozen=True)
class Rung:
    """One kernel of a stair; `milliseconds` and `share` (of the vendor's speed) on a GPU only.

    `profile` is None for a rung that the emulator cannot run: it needs a Hopper GPU.
    """

    name: str  # "v3_shared_tiles"
    idea: str  # the first sentence of the file
    profile: Profile | None
    milliseconds: float | None = None
    share: float | None = None


def climb(stair: str, gpu: bool = False) -> Iterator[Rung]:
    """The rungs of "matmul" or "conv2d", one after the other, each profiled and perhaps timed.

    A rung for newer GPUs than the one here gets no time: TF32 needs sm_80, wgmma a Hopper.
    Raises ValueError for another stair, and what `profile` raises for a kernel that fails.
    """
    if stair not in STAIRS:
        raise ValueError(f"ladder: there is no stair {stair!r}, only {' and '.join(STAIRS)}")
    vendor = _vendor_seconds(stair) if gpu else None
    for path in sorted(kernels_folder().glob(f"ladder/{stair}/v*.cu")):
        (kernel,) = load(path).kernels
        name = f"{path}:{kernel}"
        counted = None
        if load(path).target != HOPPER:
            arguments = _arguments(name, SMALL[stair])
            counted = profile(name, *arguments, operations=_work(SMALL[stair]))
        runs = gpu and runs_here(load(path))
        seconds = _gpu_seconds(name, LARGE[stair]) if runs else None
        share = vendor / seconds if vendor and seconds and kernel != "im2col" else None
        yield Rung(path.stem, _idea(path), counted, seconds and 1e3 * seconds, share)


def outputs(stair: str) -> int:
    """How many elements the result of a small climb has."""
    return math.prod(_shapes(SMALL[stair])["c" if stair == "matmul" else "y"])


def _arguments(name: str, sizes: tuple[int, ...], xp: Any = np) -> list[Any]:
    """Arrays of ones and sizes for a rung: only how it reads them is of interest."""
    shapes = _shapes(sizes)
    arguments: list[Any] = []
    for parameter in kernel_info(name).parameters:
        if parameter.pointer:
            arguments.append(xp.ones(shapes[parameter.name], xp.float32))
        else:
            arguments.append(sizes[_letters(sizes).index(parameter.name)])
    return arguments


def _letters(sizes: tuple[int, ...]) -> str:
    return "MKL" if len(sizes) == 3 else "NCOHW"


def _shapes(sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    if len(sizes) == 3:
        m, k, l = sizes
        return {"a": (m, k), "b": (k, l), "c": (m, l)}
    n, c, o, h, w = sizes
    images = {"x": (n, c, h, w), "w": (o, c, 3, 3), "y": (n, o, h, w)}
    return {**images, "columns": (9 * c, n * h * w)}


def _work(sizes: tuple[int, ...]) -> int:
    """Multiplications and additions of the whole stair's task."""
    if len(sizes) == 3:
        m, k, l = sizes
        return 2 * m * k * l
    n, c, o, h, w = sizes
    return 2 * 9 * n * c * o * h * w


def _idea(path: Path) -> str:
    """What stands behind "Step 3: " in the file, up to the end of its sentence."""
    comment = path.read_text("utf-8").split("Step ", 1)[1].split(": ", 1)[1]
    text = " ".join(line.lstrip("/ ") for line in comment.splitlines()[:3])
    return text.split(". ")[0].rstrip(".")


def _gpu_seconds(name: str, sizes: tuple[int, ...]) -> float | None:
    """None, and a warning, where a header is missing: <mma.h> comes with CUDA's toolkit."""
    import cupy

    arguments = _arguments(name, sizes, cupy)
    try:
        launch(name, *arguments)
    except NotCompiled as error:
        warnings.warn(f"{name} does not compile here: {error}", stacklevel=2)
        return None
    return _median_seconds(lambda: launch(name, *arguments))


def _vendor_seconds(stair: str) -> float | None:
    """cuBLAS by CuPy; cuDNN by PyTorch, where that is installed with CUDA. Both in float32."""
    import cupy

    shapes = _shapes(LARGE[stair])
    if stair == "matmul":
        a, b = (cupy.ones(shapes[name], cupy.float32) for name in "ab")
        return _median_seconds(lambda: a @ b)
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.allow_tf32 = False
    x, w = (torch.ones(shapes[name], device="cuda") for name in "xw")
    times = []
    for _ in range(13):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        torch.nn.functional.conv2d(x, w, padding=1)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return float(np.median(times[3:]))


def _median_seconds(action: Any) -> float:
    from cupyx.profiler import benchmark

    return float(np.median(benchmark(action, n_repeat=10, n_warmup=3).gpu_times))
