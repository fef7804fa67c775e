"""Measure the kernels on a GPU: `minseg bench cuda > results.md`, for kernels/RESULTS.md.

Each op's large case, forward and gradients, in float32; beside it PyTorch's time for the same on
the same device in the same run (where it is installed with CUDA; without TF32, as minseg is), and
the floor: bytes over the measured copy bandwidth, or operations over the measured matmul rate.
"""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minseg
from minseg.compare.cases import Case, cases_of, list_cases
from minseg.compare.floors import Floor, measure
from minseg.compare.run import LARGE_BATCH
from minseg.compare.witnesses import Gpu, Outcome, Torch, run_part
from minseg.device import to_device
from minseg.ladder import LARGE, STAIRS, climb


@dataclass(frozen=True)
class Line:
    """One part of an op: times in seconds (None: PyTorch has no such function, or is not here)."""

    op: str
    part: str
    shape: str
    seconds: float
    torch: float | None
    rate: float  # of `unit`
    unit: str  # GB/s, GFLOP/s
    floor: float  # the least possible time, as a fraction of `seconds`


class TorchOnGpu(Torch):
    """PyTorch on the same device, timed by the events of its own stream."""

    def __init__(self) -> None:
        super().__init__()
        self.torch.backends.cuda.matmul.allow_tf32 = False
        self.torch.backends.cudnn.allow_tf32 = False

    def compute(self, case: Case, part: str, arrays: Any) -> Outcome:
        def make(array: np.ndarray) -> Any:
            return self.torch.from_numpy(np.array(array)).cuda()

        def read(tensor: Any) -> np.ndarray:
            return tensor.detach().cpu().numpy()

        return run_part(case, part, arrays, self.torch.nn.functional, make, read, self._timed)

    def _timed(self, action: Callable[[], Any]) -> tuple[Any, float]:
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = action()
        end.record()
        end.synchronize()
        return result, start.elapsed_time(end) / 1000


def lines(
    ops: Sequence[str], floor: Floor, torch: TorchOnGpu | None, say: Callable[[str], object]
) -> Iterator[Line]:
    """Every part of the ops' large cases, one after the other; `say` is told which is next."""
    gpu = Gpu()
    for op in ops:
        for case in cases_of(op, LARGE_BATCH["cuda"]):
            if not case.large:
                continue
            arrays = case.in_dtype(np.float32)
            for part in case.parts:
                say(f"{op} {part}")
                ours = gpu.compute(case, part, arrays)
                assert ours.seconds is not None
                theirs = None
                if torch is not None and torch.knows(case, part):
                    theirs = torch.compute(case, part, arrays).seconds
                least, unit, amount = floor.seconds(
                    ours.moved, case.operations.get(part, 0), "float32"
                )
                yield Line(op, part, case.shape, ours.seconds, theirs,
                           amount / ours.seconds / 1e9, unit, least / ours.seconds)  # fmt: skip


def as_markdown(measured: Sequence[Line]) -> str:
    """The table of the ops."""
    rows = ["| op | part | shape | ms | PyTorch ms | rate | of the floor |"]
    rows.append("|---|---|---|--:|--:|--:|--:|")
    for line in measured:
        theirs = "" if line.torch is None else f"{1e3 * line.torch:.3f}"
        rows.append(
            f"| {line.op} | {line.part} | {line.shape} | {1e3 * line.seconds:.3f} | {theirs} "
            f"| {line.rate:,.0f} {line.unit} | {line.floor:.0%} |"
        )
    return "\n".join(rows)


def ladder_as_markdown(stair: str) -> str:
    """The table of a ladder: each rung's time, and its share of the vendor's speed."""
    sizes = " x ".join(map(str, LARGE[stair]))
    vendor = {"matmul": "cuBLAS", "conv2d": "cuDNN"}[stair]
    rows = [f"| {stair}, {sizes} | ms | of {vendor}'s float32 |", "|---|--:|--:|"]
    for rung in climb(stair, gpu=True):
        time = "" if rung.milliseconds is None else f"{rung.milliseconds:.3f}"
        share = "" if rung.share is None else f"{rung.share:.0%}"
        rows.append(f"| {rung.name}: {rung.idea} | {time} | {share} |")
    return "\n".join(rows)


def machine(torch: TorchOnGpu | None) -> str:
    """Device, date, versions and command: without these a time says nothing."""
    import cupy

    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
    cuda, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()  # 12040 is 12.4
    versions = [f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"]
    versions += [f"a driver for {driver // 1000}.{driver % 1000 // 10}"]
    versions += [f"CuPy {cupy.__version__}", f"minseg {minseg.__version__}"]
    versions += [f"PyTorch {torch.torch.__version__}"] if torch is not None else []
    today = datetime.date.today().isoformat()
    return f"{name}, {today}: {', '.join(versions)}. `minseg bench cuda`"


def report(say: Callable[[str], object]) -> Iterator[str]:
    """The parts of the report, in Markdown; `say` is told what is being measured.

    Raises RuntimeError without a GPU.
    """
    try:
        to_device(np.empty(0), "cuda")
    except RuntimeError as error:
        raise RuntimeError(f"bench cuda: nothing was measured: {error}") from error
    torch = TorchOnGpu() if importlib.util.find_spec("torch") else None
    torch = torch if torch is not None and torch.torch.cuda.is_available() else None
    say("copies and matrix products")
    floor = measure("cuda")
    yield machine(torch)
    yield (
        f"Copies {floor.bandwidth / 1e9:,.0f} GB/s, multiplies matrices of float32 at "
        f"{floor.operations['float32'] / 1e9:,.0f} GFLOP/s."
    )
    yield as_markdown(list(lines(list_cases(), floor, torch, say)))
    for stair in STAIRS:
        say(f"the ladder of {stair}")
        yield ladder_as_markdown(stair)
