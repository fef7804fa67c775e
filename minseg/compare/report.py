"""What `minseg compare` prints, and the JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from minseg.compare.row import FACTOR, Row
from minseg.compare.run import Comparison
from minseg.compare.tables import AGREEMENTS, SPEEDS, by_case, by_op, cells_of, number

FORMULA = f"tolerance = {FACTOR} * eps * sqrt(length) * largest value of the reference (float64)"


def show(console: Console, result: Comparison, every_row: bool) -> None:
    """Print the tables: every row, or the worst of each part and witness, and large cases' times.

    On a narrow terminal, the times are a table of their own; on a narrower one, the worst numbers
    and their places are left out.
    """
    if every_row:
        by_case(console, result.rows)
    else:
        what = " (of every part and witness, the shape and dtype that came out worst)"
        console.print(Text.assemble("\n", ("Agreement", "bold"), what))
        by_op(console, _worst(result.rows), AGREEMENTS)
        console.print(Text.assemble("\n", ("Speed", "bold"), " (of the large case)"))
        by_op(console, [row for row in result.rows if row.large and row.seconds], SPEEDS)
    _failures(console, result)
    _summary(console, result, every_row)


def _worst(rows: Iterable[Row]) -> list[Row]:
    """The rows that fail, or else the worst row, of each op, part and witness in turn."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.op, row.part, row.witness), []).append(row)
    chosen = []
    for group in groups.values():
        failed = [row for row in group if row.failed]
        chosen += failed or [max(group, key=lambda row: row.ratio)]
    return chosen


def explain(row: Row) -> str:
    """One sentence on what is wrong with a row."""
    what = _what(row)
    if row.problem:
        return f"{what}: {row.problem}"
    cells = cells_of(row)
    return (
        f"{what}: at {cells['worst at']} it is {number(row.got, 9)}, needs "
        f"{number(row.expected, 9)}: {cells['of it']} of the tolerance {cells['tolerance']}"
    )


def _what(row: Row) -> str:
    return f"{row.op} {row.part}, {row.dtype}, {row.witness}"


def _failures(console: Console, result: Comparison) -> None:
    if result.failed:
        console.print("\nFailures", style="bold red")
    before = ""
    for row in result.failed:
        again = row.problem and row.problem == before  # a compiler's message may be long
        console.print(f"  {_what(row)}: the same" if again else f"  {explain(row)}")
        before = row.problem
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
        name = {"cpu": "CPU", "cuda": "GPU"}[device]
        rates = ", ".join(f"{v / 1e9:.0f} GFLOP/s {k}" for k, v in floor.operations.items())
        lines.append(
            f"floor of the {name}, measured in this run: {floor.bandwidth / 1e9:.1f} GB/s for a "
            f"copy in its memory, {rates} for a matrix product; what fits a cache may be quicker"
        )
    if any(row.device == "cpu" and row.seconds for row in result.rows):
        lines.append("numpy's and torch's times are a CPU's; what is emulated has no time")
    return lines + [f"note: {note}" for note in result.notes]


def to_json(result: Comparison) -> str:
    """Everything, as JSON; infinity and NaN become strings."""
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
