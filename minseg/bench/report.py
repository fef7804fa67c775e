"""Tables and a figure of what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from minseg.bench.run import Timing

ALLOWED = {"op": 1.5, "train": 1.2, "predict": 1.2}  # our aim: at most so many times PyTorch's time


def table(title: str, timings: Sequence[Timing]) -> Table:
    """One row per case: the engines' medians in milliseconds, their ratio, the peaks of memory."""
    with_torch = any(timing.ratio is not None for timing in timings)
    with_memory = any(timing.peak for timing in timings)
    result = Table(title=title, title_justify="left")
    result.add_column("case")
    for name in ["minseg ms", *(["PyTorch ms", "ratio"] if with_torch else [])]:
        result.add_column(name, justify="right")
    if with_memory:
        for name in ["minseg MB", *(["PyTorch MB", "ratio"] if with_torch else [])]:
            result.add_column(name, justify="right")
    for timing in timings:
        label = timing.case if timing.task == "op" else f"{timing.case}, {timing.task}"
        cells: list[str | Text] = [label, f"{1e3 * timing.median('minseg'):.2f}"]
        if timing.ratio is not None:
            colour = "green" if timing.ratio <= ALLOWED[timing.task] else "yellow"
            ratio = Text(f"{timing.ratio:.2f}", colour)
            cells += [f"{1e3 * timing.median('torch'):.2f}", ratio]
        if with_memory:
            cells.append(f"{timing.peak['minseg'] / 1e6:.0f}")
            if "torch" in timing.peak:
                share = timing.peak["minseg"] / max(timing.peak["torch"], 1)
                cells += [f"{timing.peak['torch'] / 1e6:.0f}", f"{share:.2f}"]
        result.add_row(*cells)
    return result


def verdict(timings: Sequence[Timing]) -> str:
    """How many of the cases are within ALLOWED, and the slowest one."""
    compared = [timing for timing in timings if timing.ratio is not None]
    if not compared:
        return "PyTorch is not installed: nothing to compare with (pip install 'minseg[oracle]')"
    good = [timing for timing in compared if (timing.ratio or 0) <= ALLOWED[timing.task]]
    worst = max(compared, key=lambda timing: timing.ratio or 0)
    return (
        f"{len(good)} of {len(compared)} within {ALLOWED[worst.task]} times PyTorch's time; "
        f"the slowest: {worst.case}, {worst.ratio:.2f} times"
    )


def as_json(machine: dict[str, str], imports: dict[str, float], timings: Sequence[Timing]) -> str:
    """Every run of every case, with what the times depend on."""
    runs = [{**asdict(timing), "ratio": timing.ratio} for timing in timings]
    return json.dumps({"machine": machine, "import": imports, "timings": runs}, indent=1)


LEAST_RANGE = 8  # of the growth figure's axes, highest / lowest, so that flat curves look flat


def growth_figure(curves: dict[str, list[tuple[int, Timing]]]) -> Any:
    """Time and memory of a U-Net's training step, log-log: a straight line of slope 1 is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    titles = {"side": "side of the images, pixels a step constant", "pixels": "pixels in an image",
              "width": "channels of the first stage"}  # fmt: skip
    colours = {"minseg": "#0072b2", "torch": "#d55e00"}
    axes = figure.subplots(2, 3, sharex="col")
    for column, (kind, curve) in enumerate(curves.items()):
        where = [x for x, _ in curve]
        for engine in curve[0][1].seconds:
            times = [1e3 * timing.median(engine) for _, timing in curve]
            peaks = [timing.peak[engine] / 1e6 for _, timing in curve]
            label = "PyTorch" if engine == "torch" else engine
            axes[0, column].plot(where, times, "o-", color=colours[engine], label=label)
            axes[1, column].plot(where, peaks, "o-", color=colours[engine], label=label)
        for row, unit in enumerate(("milliseconds a step", "peak memory, MB")):
            axis = axes[row, column]
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            axis.grid(alpha=0.3)
            low, high = axis.get_ylim()
            more = max(1.0, math.sqrt(LEAST_RANGE * low / high))
            axis.set_ylim(low / more, high * more)
            if column == 0:
                axis.set_ylabel(unit)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_major_formatter("{x:g}")
        axes[1, column].set_xlabel(titles[kind])
    axes[0, 0].legend()
    figure.suptitle("A U-Net's training step")
    return figure
