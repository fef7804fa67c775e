"""The tables that `minseg compare` prints, with as many columns as the terminal has room for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from minseg.compare.row import Row

FIRST = ("part", "dtype", "witness")
AGREEMENT = ("length", "max error", "tolerance", "of it", "worst at", "got", "expected")
SPEED = ("time", "rate", "of floor")
# The columns on a wide terminal, and on ever narrower ones. "": the verdict.
AGREEMENTS = (
    (*AGREEMENT, ""),
    (*AGREEMENT[:4], ""),
    ("max error", "of it", ""),
    ("of it", ""),
)
SPEEDS = (SPEED, SPEED[:2], SPEED[:1])
STYLES = {"ok": "green", "FAIL": "bold red", "reference": "dim"}
GAP = 2  # spaces between columns, and before the lines of an op
LEAST_SHAPE = 20  # letters; with less room, there is no column of shapes


def by_case(console: Console, rows: Sequence[Row]) -> None:
    """A table for each case; if its lines have no room for the times, these are a second table."""
    timed = any(row.seconds for row in rows)  # a network's layers are not timed
    widest = ((*AGREEMENT, *SPEED, ""),) if timed else ()
    columns = _fitting(rows, (*widest, *AGREEMENTS), console.width)
    for _, group in groupby(rows, lambda row: (row.op, row.shape)):
        of_case = list(group)
        console.print(Text.assemble("\n", (of_case[0].op, "bold"), f" {of_case[0].shape}"))
        console.print(_table(of_case, _widths(of_case, columns)))
        rest = [row for row in of_case if row.seconds and "time" not in columns]
        if rest:
            console.print(_table(rest, _widths(rest, _fitting(rest, SPEEDS, console.width))))


def by_op(console: Console, rows: Sequence[Row], choices: Sequence[tuple[str, ...]]) -> None:
    """One table for all, with a heading for each op, and a column of shapes if there is room."""
    width = console.width - GAP
    widths = _widths(rows, _fitting(rows, choices, width))
    room = width - _total(widths) - GAP
    if room >= LEAST_SHAPE:
        widths["shape"] = min(room, _widths(rows, ["shape"])["shape"])
    console.print(Padding.indent(_table([], widths), GAP))
    for op, group in groupby(rows, lambda row: row.op):
        console.print(op, style="bold")
        console.print(Padding.indent(_table(list(group), widths, show_header=False), GAP))


def _fitting(
    rows: Sequence[Row], choices: Sequence[tuple[str, ...]], width: int
) -> tuple[str, ...]:
    """The first choice of columns that fits into `width`, or else the last."""
    fit = (columns for columns in choices if _total(_widths(rows, columns)) <= width)
    return next(fit, choices[-1])


def _widths(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, int]:
    """Column -> the length of its longest cell."""
    cells = [cells_of(row) for row in rows]
    return {
        head: max(len(head), *(len(cell[head]) for cell in cells)) for head in (*FIRST, *columns)
    }


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _table(rows: Sequence[Row], widths: dict[str, int], show_header: bool = True) -> Table:
    """One line for each row, without part and dtype where they repeat those of the line above."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=show_header)
    for head, width in widths.items():
        left = head in (*FIRST, "worst at", "", "shape")
        table.add_column(head, width=width, justify="left" if left else "right", overflow="fold")
    before: list[str] = []
    for row in rows:
        cells = cells_of(row)
        first = [row.part, row.dtype]
        same = 0
        while same < len(before) and first[same] == before[same]:
            same += 1
        if len(row.shape) > (room := widths.get("shape", len(row.shape))):
            cells["shape"] = row.shape[: room - 3] + "..."  # in ASCII
        line = [""] * same + first[same:] + [cells[head] for head in list(widths)[len(first) :]]
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in line))
        before = first
    return table


def cells_of(row: Row) -> dict[str, str]:
    """A row as text, for the table and the page."""
    where = "cpu" if row.device == "cpu" else "gpu"
    return {
        "part": row.part,
        "dtype": row.dtype,
        "witness": row.witness,
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
        "": row.verdict,
        "shape": row.shape,
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
