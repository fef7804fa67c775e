"""One comparison: how far a witness is from the float64 reference, in units of the tolerance.

    tolerance = 8 * eps * sqrt(length) * scale

The rounding errors of a sum of `length` terms are taken as independent, of mean zero and each at
most eps / 2 of the partial sum. So they add up like a random walk: as sqrt(length). `scale` is the
largest value of the reference. The factor 8 leaves room for the worst of many elements and for an
order of summation other than the reference's. Indices must be equal.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 2.8
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

FACTOR = 8
MAP_SIDE = 128  # an error map has at most so many rows and columns


@dataclass
class Row:
    """A line of the report. Times are those of `device`; the emulator has none."""

    op: str
    part: str  # forward, indices, grad_input, ...
    shape: str
    dtype: str
    witness: str  # definition, numpy, emulated, gpu, torch
    device: str
    large: bool
    length: int
    tolerance: float = 0.0
    error: float = 0.0
    ratio: float = 0.0  # error / tolerance
    worst: tuple[int, ...] = ()
    got: float = 0.0
    expected: float = 0.0
    seconds: float | None = None
    rate: float | None = None  # of `unit`
    unit: str = ""  # GB/s, GFLOP/s
    floor: float | None = None  # the least possible time, as a fraction of `seconds`
    verdict: str = "ok"  # ok, FAIL, reference
    problem: str = ""  # why it fails, if not by the size of the error
    kernels: tuple[str, ...] = ()  # that were launched for it
    map: np.ndarray | None = field(default=None, repr=False)  # of ratios, (rows, columns)

    @property
    def failed(self) -> bool:
        return self.verdict == "FAIL"

    def fail(self, problem: str) -> None:
        self.verdict, self.problem = "FAIL", problem
        self.error = self.ratio = math.inf

    def judge(self, got: np.ndarray, expected: np.ndarray, dtype: np.dtype) -> None:
        """Fill in the comparison of an output with the reference."""
        exact = expected.dtype.kind != "f"
        wanted = expected.dtype if exact else dtype
        if got.shape != expected.shape:
            return self.fail(f"its shape is {got.shape}, needs {expected.shape}")
        if got.dtype != wanted:
            return self.fail(f"its dtype is {got.dtype}, needs {wanted}")
        errors = _errors(got.astype(np.float64), expected.astype(np.float64))
        scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
        scale = max(float(scale), float(np.finfo(dtype).tiny))
        eps = float(np.finfo(dtype).eps)
        self.tolerance = 0.0 if exact else FACTOR * eps * math.sqrt(self.length) * scale
        if errors.size == 0:
            return None
        worst = np.unravel_index(int(errors.argmax()), errors.shape)
        self.worst = tuple(int(i) for i in worst)
        self.error = float(errors[worst])
        self.got, self.expected = float(got[worst]), float(expected[worst])
        ratios = np.where(errors == 0, 0, np.inf) if exact else errors / self.tolerance
        self.ratio, self.map = float(ratios[worst]), _as_map(ratios)
        if not self.ratio <= 1:
            self.verdict = "FAIL"

    def to_json(self) -> dict[str, Any]:
        """JSON knows no infinity and no NaN: they become strings."""
        values = {k: v for k, v in asdict(self).items() if k != "map"}
        return {
            k: str(v) if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }


def _errors(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|got - expected|; infinite where either is not finite, unless both are alike there."""
    with np.errstate(invalid="ignore"):
        errors = np.asarray(np.abs(got - expected))
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    errors[~(np.isfinite(got) & np.isfinite(expected))] = np.inf
    errors[same] = 0
    return errors


def _as_map(ratios: np.ndarray) -> np.ndarray:
    """The worst ratio at each row and column over images and channels; large maps by blocks."""
    plane = ratios.reshape(-1, *ratios.shape[-2:]) if ratios.ndim > 1 else ratios.reshape(1, 1, -1)
    plane = plane.max(axis=0)
    for axis in (0, 1):
        step = -(-plane.shape[axis] // MAP_SIDE)
        starts = np.arange(0, plane.shape[axis], max(step, 1))
        plane = np.maximum.reduceat(plane, starts, axis=axis)
    return plane
