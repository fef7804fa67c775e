"""What `minseg compare` prints, and the JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from minseg.compare.row import FACTOR, Row
from minseg.compare.run import Comparison

FORMULA = f"tolerance = {FACTOR} * eps * sqrt(length) * largest value of the reference (float64)"
NARROW = 140  # columns below which the times go into a table of their own
STYLES = {"ok": "green", "FAIL": "bold red", "reference": "dim"}
NARROWER = 116  # and below which only failures are said with their place and their numbers
AGREEMENT = ("length", "max error", "tolerance", "of it", "worst at", "got", "expected")
SPEED = ("time", "rate", "of floor")


def show(console: Console, result: Comparison, every_row: bool) -> None:
    """Print the tables: all rows, or the worst of each part and witness and the large ones' times.

    On a narrow terminal, times have a table of their own, else they end the line; on a narrower
    one, where and what the worst numbers are is left out.
    """
    rows = result.rows if every_row else _worst(result.rows)
    wide = console.width >= NARROW
    agreement = AGREEMENT if console.width >= NARROWER else AGREEMENT[:4]
    if every_row:
        for _, group in groupby(rows, lambda row: (row.op, row.shape)):
            of_case = list(group)
            console.print(f"\n{of_case[0].op}", style="bold", end=" ")
            console.print(of_case[0].shape)
            console.print(_table(of_case, agreement + (SPEED if wide else ())))
            if not wide and any(row.seconds for row in of_case):
                console.print(_table([row for row in of_case if row.seconds], SPEED))
    else:
        console.print("\nAgreement", style="bold", end=" ")
        console.print("(of every part and witness, the shape and dtype that came out worst)")
        console.print(_table(rows, agreement, with_op=True, with_shape=wide))
        console.print("\nSpeed", style="bold", end=" ")
        console.print("(of the large case)")
        timed = [row for row in result.rows if row.large and row.seconds]
        console.print(_table(timed, SPEED, with_op=True, with_shape=wide))
    _failures(console, result)
    _summary(console, result, every_row)


def _worst(rows: Iterable[Row]) -> list[Row]:
    """One row for each op, part and witness, in the order of the first; every row that fails."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.op, row.part, row.witness), []).append(row)
    chosen = []
    for group in groups.values():
        failed = [row for row in group if row.failed]
        chosen += failed or [max(group, key=lambda row: row.ratio)]
    return chosen


def _table(
    rows: Sequence[Row], columns: Sequence[str], with_op: bool = False, with_shape: bool = False
) -> Table:
    """A line a row. What is the same as in the line above is left out."""
    heads = (["op"] if with_op else []) + ["part", "dtype", "witness"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, no_wrap=True)
    for head in columns:
        table.add_column(head, no_wrap=True, justify="left" if head == "worst at" else "right")
    if "of it" in columns:
        table.add_column("", no_wrap=True)
    if with_shape:
        table.add_column("shape", no_wrap=True, overflow="ellipsis", ratio=1)
    before: list[str] = []
    for row in rows:
        first = [row.op] * with_op + [row.part, row.dtype]
        same = 0
        while same < len(before) and first[same] == before[same]:
            same += 1
        cells = cells_of(row)
        line: list[Any] = [""] * same + first[same:] + [row.witness]
        line += [cells[head] for head in columns]
        if "of it" in columns:
            line.append(Text(row.verdict, STYLES[row.verdict]))
        table.add_row(*line, *([row.shape] if with_shape else []))
        before = first
    return table


def cells_of(row: Row) -> dict[str, str]:
    """A row's numbers as text, for people: in the table and on the page."""
    where = "cpu" if row.device == "cpu" else "gpu"
    return {
        "length": str(row.length),
        "max error": number(row.error, 2) if math.isfinite(row.error) else "-",
        "tolerance": number(row.tolerance, 2),
        "of it": f"{row.ratio:.3f}" if row.ratio < 1000 else number(row.ratio, 2),
        "worst at": "[" + ",".join(map(str, row.worst)) + "]",
        "got": number(row.got, 6),
        "expected": number(row.expected, 6),
        "time": f"{_duration(row.seconds)} {where}" if row.seconds is not None else "-",
        "rate": f"{_rate(row.rate)} {row.unit}" if row.rate is not None else "-",
        "of floor": f"{row.floor:.1%}" if row.floor is not None else "-",
    }


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def _rate(value: float) -> str:
    return "<0.01" if value < 0.01 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _duration(seconds: float) -> str:
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def explain(row: Row) -> str:
    """One sentence on what is wrong with a row."""
    what = f"{row.op} {row.part}, {row.dtype}, {row.witness}"
    if row.problem:
        return f"{what}: {row.problem}"
    cells = cells_of(row)
    return (
        f"{what}: at {cells['worst at']} it is {number(row.got, 9)}, needs "
        f"{number(row.expected, 9)}: {cells['of it']} of the tolerance {cells['tolerance']}"
    )


def _failures(console: Console, result: Comparison) -> None:
    if result.failed:
        console.print("\nFailures", style="bold red")
    for row in result.failed:
        console.print(f"  {explain(row)}")
        console.print(f"    {row.shape}", style="dim")
        if row.kernels:
            console.print(f"    kernels: {', '.join(row.kernels)}", style="dim")
    for finding in result.findings:
        console.print(f"\n{finding}")


def _summary(console: Console, result: Comparison, every_row: bool) -> None:
    console.print()
    for line in summary(result):
        console.print(line)
    if not every_row:
        console.print("All rows: name ops (minseg compare conv2d), or --html FILE, --json FILE.")
    count, failed = len(result.rows), len(result.failed)
    if failed:
        console.print(f"{failed} of {count} comparisons FAIL", style="bold red")
    else:
        console.print(f"all {count} comparisons agree", style="bold green")


def summary(result: Comparison) -> list[str]:
    """What the numbers mean, what computed them, and what was missing."""
    lines = [", ".join(f"{name} {value}" for name, value in result.machine.items()), FORMULA]
    for device, floor in result.floors.items():
        rates = ", ".join(f"{v / 1e9:.0f} GFLOP/s {k}" for k, v in floor.operations.items())
        lines.append(
            f"floor of the {device}, measured in this run: {floor.bandwidth / 1e9:.1f} GB/s for a "
            f"copy in main memory, {rates} for a matrix product; what fits a cache may be quicker"
        )
    if any(row.device == "cpu" and row.seconds for row in result.rows):
        lines.append("numpy's and torch's times are a CPU's; what is emulated has no time")
    return lines + [f"note: {note}" for note in result.notes]


def to_json(result: Comparison) -> str:
    """Everything, as JSON; what is not finite is a string."""
    tree = {
        "verdict": "FAIL" if result.failed else "ok",
        "machine": result.machine,
        "floors": {device: asdict(floor) for device, floor in result.floors.items()},
        "tolerance": FORMULA,
        "notes": result.notes,
        "rows": [row.to_json() for row in result.rows],
        "findings": [finding.to_json() for finding in result.findings],
    }
    return json.dumps(tree, indent=1)
