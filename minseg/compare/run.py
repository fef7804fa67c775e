"""Runs the cases: each part in float32 and float64, by each witness, against the reference."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

import minseg
from minseg.compare.cases import Case, cases_of, list_cases, without_cases
from minseg.compare.floors import Floor, measure
from minseg.compare.row import Row
from minseg.compare.witnesses import (
    Definition,
    Emulated,
    Gpu,
    NumPy,
    Outcome,
    Torch,
    Witness,
    choose,
)
from minseg.cuda import faults
from minseg.emulator import compiler
from minseg.emulator.findings import Finding
from minseg.kernels import kernels_folder
from minseg.parallel import get_num_threads

LARGE_BATCH = {"cpu": 2, "cuda": 16}


@dataclass
class Comparison:
    """What a run found: the rows, what was missing, the sanitizer's findings, the floors."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    floors: dict[str, Floor] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.failed]


def compare(
    ops: Sequence[str] = (),
    device: str = "auto",
    sanitize: bool = False,
    advance: Callable[[str], None] = lambda op: None,
) -> Comparison:
    """Compare the named ops, or all; `advance(op)` is called when an op begins.

    ValueError for an op that does not exist or has no cases; errors of `device` as in `choose`.
    """
    for op in ops:
        cases_of(op)
    witnesses, notes = choose(device, sanitize)
    devices = {witness.device for witness in witnesses}
    floors = {device: measure(device) for device in LARGE_BATCH if device in devices}
    result = Comparison(notes=notes, floors=floors, machine=machine(witnesses))
    images = LARGE_BATCH["cuda" if "cuda" in floors else "cpu"]
    for op in ops or list_cases():
        advance(op)
        for case in cases_of(op, images):
            for dtype in (np.float32,) if case.large else (np.float32, np.float64):
                result.rows += _rows(case, np.dtype(dtype), witnesses, floors)
    if not ops and without_cases():
        result.notes.append(f"not compared, for want of cases: {', '.join(without_cases())}")
    for witness in witnesses:
        if isinstance(witness, Emulated):
            result.findings += witness.findings
        elif isinstance(witness, Gpu) and witness.lost:
            result.notes.append(f"nothing ran on the GPU after {witness.lost}, which failed there")
    return result


def _rows(
    case: Case, dtype: np.dtype, witnesses: Sequence[Witness], floors: dict[str, Floor]
) -> Iterator[Row]:
    arrays = case.in_dtype(dtype)
    reference = _reference(case, arrays)
    for part in case.parts:
        by_definition = case.definition is not None and part in case.outputs
        for witness in witnesses:
            if not witness.knows(case, part):
                continue
            row = Row(case.op, part, case.shape, dtype.name, witness.name, witness.device,
                      case.large, case.length(part))  # fmt: skip
            try:
                outcome = witness.compute(case, part, arrays)
            except Exception as error:  # any error of a broken kernel is this row's failure
                row.fail(faults.words(error))
                yield row
                continue
            if isinstance(witness, Emulated) and not outcome.kernels:
                continue  # the op has no kernel: this was NumPy again
            row.kernels = outcome.kernels
            row.judge(outcome.array, reference[part], dtype)
            is_reference = isinstance(witness, Definition if by_definition else NumPy)
            if is_reference and dtype == np.float64 and not row.failed:
                row.verdict = "reference"
            if outcome.seconds is not None and witness.device in floors:
                _time(row, case, outcome, floors[witness.device])
            yield row


def _reference(case: Case, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Part -> the answer in float64: the definition's where there is one, else NumPy's."""
    exact = {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in arrays.items()}
    answers = NumPy().all_parts(case, exact)
    if case.definition is not None:
        definition = Definition()
        answers |= {part: definition.compute(case, part, exact).array for part in case.outputs}
    return answers


def _time(row: Row, case: Case, outcome: Outcome, floor: Floor) -> None:
    least, row.unit, amount = floor.seconds(
        outcome.moved, case.operations.get(row.part, 0), row.dtype
    )
    row.seconds = outcome.seconds
    assert outcome.seconds is not None
    row.rate, row.floor = amount / outcome.seconds / 1e9, least / outcome.seconds


def machine(witnesses: Sequence[Witness]) -> dict[str, str]:
    """Versions and devices of what computed."""
    found = {
        "minseg": minseg.__version__,
        "Python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "NumPy": f"{np.__version__}, {get_num_threads()} threads",
        "kernels": str(kernels_folder()),
    }
    for witness in witnesses:
        if isinstance(witness, Emulated):
            found["emulator"] = compiler.version().partition("\n")[0]
        elif isinstance(witness, Torch):
            found["PyTorch"] = f"{witness.torch.__version__}, on the CPU"
        elif isinstance(witness, Gpu):
            import cupy

            name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
            found["GPU"] = f"{name.decode()}, CuPy {cupy.__version__}"
    return found
