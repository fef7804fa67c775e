"""The engines take turns, one run each, seven times or more; the medians count."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from minseg.bench.cases import (
    GROWTH_PIXELS,
    GROWTH_SIDES,
    GROWTH_WIDTHS,
    MODELS,
    OPS,
    ModelCase,
)
from minseg.config import configure
from minseg.parallel import get_num_threads

ROUNDS = 7  # at least; of a short case, up to MOST_ROUNDS until each engine has run for SECONDS
MOST_ROUNDS = 50
SECONDS = 0.5
_ENGINE = Path(__file__).with_name("engine.py")

Advance = Callable[[str], None]


@dataclass
class Timing:
    """One case: the seconds of each engine's runs, in turns, and its peak memory in bytes."""

    case: str
    task: str  # "op", "train" or "predict"
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)

    def median(self, engine: str) -> float:
        return median(self.seconds[engine])

    @property
    def ratio(self) -> float | None:
        """minseg's time over PyTorch's: the median over the rounds. None without PyTorch."""
        if "torch" not in self.seconds:
            return None
        pairs = zip(self.seconds["minseg"], self.seconds["torch"], strict=True)
        return median(ours / theirs for ours, theirs in pairs)


class Engine:
    """A process that runs cases on one engine; a context manager.

    Raises RuntimeError with the process's error where a case fails in it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        command = [sys.executable, str(_ENGINE), name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        with self.process:  # closes its input, which makes it end, and waits
            pass

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"bench: {self.name} ended with exit code {self.process.wait()}")
        answer = json.loads(answer)
        if "error" in answer:
            raise RuntimeError(f"bench: {self.name}: {answer['error']}")
        return answer

    def seconds(self) -> float:
        return self.ask(run=True)["seconds"]


@contextmanager
def engines() -> Iterator[list[Engine]]:
    """minseg's process, and PyTorch's where that is installed."""
    names = ["minseg", *(["torch"] if importlib.util.find_spec("torch") else [])]
    started = [Engine(name) for name in names]
    try:
        yield started
    finally:
        for engine in started:
            engine.__exit__()


def bench_ops(names: Sequence[str] = (), advance: Advance = lambda what: None) -> list[Timing]:
    """Every op of `cases.OPS` whose name has one of `names` in it, or all, forward and backward."""
    timings = []
    with engines() as both:
        for number, case in enumerate(OPS):
            if names and not any(name in case.name for name in names):
                continue
            advance(case.name)
            for engine in both:
                engine.ask(op=number)
            timings.append(_in_turns(Timing(case.name, "op"), both))
    return timings


def bench_models(names: Sequence[str] = (), advance: Advance = lambda what: None) -> list[Timing]:
    """Training steps and predictions of the networks; fresh processes for each, for the memory."""
    timings = []
    for case in MODELS:
        if names and not any(name in case.name for name in names):
            continue
        for task in ("train", "predict"):
            advance(f"{case.name}, {task}")
            timings.append(bench_model(case, task))
    return timings


def bench_model(case: ModelCase, task: str, **options: Any) -> Timing:
    """One network at one size. options: replace those that `minseg train` takes by default."""
    options = {**configure(case.model, "camvid").options, **options}
    timing = Timing(case.name, task)
    with engines() as both:
        for engine in both:
            shape = (case.batch, case.height, case.width)
            engine.ask(model=case.model, options=options, shape=shape, task=task)
        _in_turns(timing, both)
        timing.peak = {engine.name: engine.ask(memory=True)["bytes"] for engine in both}
    return timing


def _in_turns(timing: Timing, engines: list[Engine]) -> Timing:
    """Run in turns: ROUNDS times, or more where that takes less than SECONDS."""
    slowest = max(engine.seconds() for engine in engines)
    rounds = max(ROUNDS, min(MOST_ROUNDS, round(SECONDS / slowest)))
    for engine in engines:
        timing.seconds[engine.name] = []
    for _ in range(rounds):
        for engine in engines:
            timing.seconds[engine.name].append(engine.seconds())
    return timing


def growth(advance: Advance = lambda what: None) -> dict[str, list[tuple[int, Timing]]]:
    """A U-Net's training step: over the side of the images at a constant number of pixels, over
    the number of pixels, and over the channels of the first stage."""
    curves: dict[str, list[tuple[int, Timing]]] = {"side": [], "pixels": [], "width": []}
    for side in GROWTH_SIDES:
        batch = GROWTH_PIXELS // side**2
        advance(f"growth: {batch} images of {side}x{side}")
        curves["side"].append((side, bench_model(ModelCase("unet", batch, side, side), "train")))
        advance(f"growth: one image of {side}x{side}")
        timing = bench_model(ModelCase("unet", 1, side, side), "train")
        curves["pixels"].append((side * side, timing))
    for width in GROWTH_WIDTHS:
        advance(f"growth: {width} channels")
        timing = bench_model(ModelCase("unet", 8, 64, 64), "train", width=width)
        timing.case += f", {width} channels"
        curves["width"].append((width, timing))
    return curves


def import_times() -> dict[str, float]:
    """Seconds to import numpy and minseg (numpy included), each in a fresh process."""
    found: dict[str, list[float]] = {"numpy": [], "minseg": []}
    for _ in range(ROUNDS):
        for module, times in found.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            times.append(time.perf_counter() - start)
    return {module: median(times) for module, times in found.items()}


def machine() -> dict[str, str]:
    """The machine and versions, which times depend on."""
    found = {
        "processor": _processor(),
        "threads": f"{get_num_threads()} of {os.cpu_count()} cores",
        "Python": platform.python_version(),
        "NumPy": version("numpy"),
    }
    if importlib.util.find_spec("torch"):
        found["PyTorch"] = version("torch")
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
