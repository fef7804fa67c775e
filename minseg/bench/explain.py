"""`minseg bench --explain`: how each convolution of a network is computed, and how fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from minseg import models
from minseg.bench.cases import ModelCase
from minseg.config import configure
from minseg.ops.fast.conv2d import explain
from minseg.ops.op import get_op, override
from minseg.ops.window import Window
from minseg.tape import no_grad
from minseg.tensor import Tensor

CLASSES = 11


@dataclass
class Call:
    """One convolution: shapes, how it is computed, seconds, multiply-adds."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    algorithm: str
    seconds: float
    multiply_adds: int


def convolutions(case: ModelCase) -> list[Call]:
    """The convolutions of one prediction, by a network as `minseg train` builds it by default."""
    calls: list[Call] = []
    plain = get_op("conv2d").numpy

    def recorded(x: Any, w: Any, b: Any, *how: Any) -> Any:
        stride, padding, dilation, groups = how
        start = time.perf_counter()
        y = plain["forward"](x, w, b, *how)
        seconds = time.perf_counter() - start
        window = Window(w.shape[2:], stride, padding, dilation)
        algorithm = explain(x, w.shape, window, groups)
        calls.append(Call(x.shape, w.shape, algorithm, seconds, y.size * w[0].size))
        return y

    model = models.build(case.model, CLASSES, **configure(case.model, "camvid").options).eval()
    images = Tensor(np.zeros((case.batch, 3, case.height, case.width), np.float32))
    with no_grad(), override("conv2d", **{**plain, "forward": recorded}):
        model(images)
        calls.clear()  # those were to warm up
        model(images)
    return calls


def table(case: ModelCase, calls: list[Call]) -> Table:
    result = Table("input", "kernel", "how", title=case.name, title_justify="left")
    result.add_column("ms", justify="right")
    result.add_column("GFLOP/s", justify="right")
    for row in _rows(calls):
        result.add_row(*row)
    total = sum(call.seconds for call in calls)
    rate = 2e-9 * sum(call.multiply_adds for call in calls) / total
    result.add_section()
    result.add_row("all", "", "", f"{1e3 * total:.1f}", f"{rate:.0f}")
    return result


def _rows(calls: list[Call]) -> Iterator[list[str]]:
    for call in calls:
        shapes = ["x".join(map(str, shape)) for shape in (call.x_shape, call.w_shape)]
        rate = 2e-9 * call.multiply_adds / call.seconds
        yield [*shapes, call.algorithm, f"{1e3 * call.seconds:.2f}", f"{rate:.0f}"]
