"""The sanitizer: run a kernel, watch every memory access, and report what is wrong.

- racecheck: two threads access one element, one writes, and there is no barrier between;
- memcheck: an access outside an array or the kernel's shared memory, or at a misaligned address; an
  index outside the declared bounds;
- initcheck: a read of memory that was never written; an output that is never written, or that
  depends on a local variable without a value;
- synccheck: a barrier that some threads never reach, or reach at another line; a shuffle that reads
  from a lane that takes no part;
- order: a result that depends on the order in which blocks and threads happen to run.

It does not see: wrong pointers into local arrays; an overflow from one part of dynamic shared
memory into the next, unless it is a race; a number that overflows, until it is used as an index.
Threads switch at barriers only: a loop that waits for another thread's write never ends. An atomic
is taken to acquire for its whole block, and a volatile read beside atomics to be meant so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minseg import kernels
from minseg.emulator import instrumented, program
from minseg.emulator.compiler import CompileError
from minseg.emulator.findings import Actor, Finding, Triple, explain


def sanitize(kernel: str, *arguments: Any, seconds: int = 20) -> list[Finding]:
    """The findings of one launch, given as to `minseg.kernels.launch`; the arrays stay unchanged.

    The launch runs three times, on copies, with threads and blocks in order, reversed and shuffled;
    and, where nothing was found, perhaps once more, with other values in local variables without
    one. Each run may take `seconds` of CPU time.
    """
    return sanitize_launch(kernels.check(kernel, *arguments), seconds)


def sanitize_launch(launch: kernels.Launch, seconds: int = 20) -> list[Finding]:
    """The same for a launch whose arguments are checked already."""
    found: dict[tuple[Any, ...], Finding] = {}
    results: dict[str, dict[str, np.ndarray]] = {}
    if 0 in launch.grid:
        return []
    for order in instrumented.ORDERS:
        outcome = instrumented.run(launch, order, seconds)
        for finding in _findings(launch, outcome, order):
            key = (finding.kind, finding.variable, _lines(finding))
            found.setdefault(key, finding)
        if outcome.arrays is not None:
            results[order] = outcome.arrays
        if any(f.kind in ("timeout", "crash") for f in found.values()):
            break  # the other orders would take as long
    if found:
        return list(found.values())
    return _order_dependence(launch, results) or _unwritten_locals(launch, results, seconds)


def _lines(finding: Finding) -> tuple[int, ...]:
    sides = [side.line for side in (finding.now, finding.before) if side]
    return tuple(sorted(sides))  # another order swaps the sides


def _findings(
    launch: kernels.Launch, outcome: instrumented.Outcome, order: str
) -> Iterator[Finding]:
    records = [r for r in outcome.records if r["what"] == "finding"]
    regions = {r["id"]: _with_shape(r, launch) for r in outcome.records if r["what"] == "region"}
    codes = [r[s]["code"] for r in records for s in ("now", "before") if s in r]
    lines = instrumented.lines_of(outcome.executable, codes)
    kernel = launch.kernel
    strays = {lines.get(r["now"]["code"]) for r in records if r.get("detail") == "bounds"}
    for record in records:
        now, before = (_actor(record.get(s), launch, lines) for s in ("now", "before"))
        region = regions.get(record.get("region", -1))
        if region and region["variables"]:
            address = region["variables"] + record["offset"]
            name, start, size = instrumented.variable_at(outcome.executable, address)
            item = 1 if size % 4 else 4
            shape = [size // item] if size > item else []
            region = region | {"name": name, "bytes": size, "item": item, "shape": shape}
            record = record | {"offset": address - start}
        if record.get("detail", "").startswith("'") and now and (now.file, now.line) in strays:
            continue  # the access that the wrong index leads to says more
        message, variable, index = explain(record, region, now, before)
        if record.get("detail") == "null":
            pairs = zip(kernel.parameters, launch.arguments, strict=True)
            message += f"; null here: {', '.join(p.name for p, v in pairs if v is None)}"
        at = next((a for a in (now, before) if a and a.line), None)
        yield Finding(
            kind=record["kind"],
            kernel=launch.instance,
            file=at.file if at else kernel.path.name,
            line=at.line if at else kernel.line,
            message=message,
            variable=variable,
            index=index,
            now=now,
            before=before,
            barrier=record.get("barrier", {}).get("line", 0),
            count=record.get("count", 1),
            order=order,
        )
    if "assertion" in outcome.message or "__trap" in outcome.message:
        at_line = re.match(r"([^:]+):(\d+): (.*)", outcome.message)
        file, line, message = at_line.groups() if at_line else (kernel.path.name, kernel.line, "")
        yield Finding("assert", launch.instance, file, int(line), message or outcome.message,
                      "", (), None, None, 0, 1, order)  # fmt: skip


def _with_shape(region: dict[str, Any], launch: kernels.Launch) -> dict[str, Any]:
    shape: Sequence[int] = [size for size in region["sizes"] if size]
    if not region["shared"] and not region["variables"]:
        names = [p.name for p in launch.kernel.parameters]
        shape = launch.arguments[names.index(region["name"])].shape
    return region | {"shape": list(shape)}


def _actor(
    side: Mapping[str, Any] | None, launch: kernels.Launch, lines: Mapping[int, tuple[str, int]]
) -> Actor | None:
    if side is None:
        return None
    site = side.get("site")
    file, line = (site["file"], site["line"]) if site else lines.get(side["code"], ("", 0))
    return Actor(
        block=_unravel(side["block"], launch.grid),
        thread=_unravel(side["thread"], launch.block),
        does=side["does"],
        file=file or launch.kernel.path.name,
        line=line,
    )


def _unravel(number: int, size: Triple) -> Triple:
    return number % size[0], number // size[0] % size[1], number // size[0] // size[1]


def _order_dependence(
    launch: kernels.Launch, results: Mapping[str, Mapping[str, np.ndarray]]
) -> list[Finding]:
    """Outputs that differ between the orders. Sums by atomics may differ by their rounding."""
    kernel = launch.kernel
    rounding = program.uses_atomics(kernel.source, kernel.name)
    additions = float(np.prod([*launch.grid, *launch.block], dtype=np.float64))
    for order in list(results)[1:]:
        for name, values in results[order].items():
            first = results["counted"][name]
            bits = f"V{first.itemsize}"  # compared as bits, a NaN equals itself, and -0 is not 0
            wrong = first.view(bits) != values.view(bits)
            if rounding and first.dtype.kind == "f":
                largest = np.max(np.abs(first), where=np.isfinite(first), initial=0)
                bound = additions * np.finfo(first.dtype).eps * largest
                with np.errstate(invalid="ignore"):  # inf - inf
                    wrong &= ~(np.abs(first - values) <= bound)
            if wrong.any():
                index, element = _first(wrong, name)
                message = (
                    f"{element} is {first[index]} with threads and blocks in order, "
                    f"{values[index]} {order}"
                )
                return [_of_launch(launch, "order", message, name, index, int(wrong.sum()), order)]
    return []


def _first(chosen: np.ndarray, name: str) -> tuple[tuple[int, ...], str]:
    """The index of the first element that is chosen, and the element in C."""
    index = tuple(int(i) for i in np.unravel_index(np.argmax(chosen), chosen.shape))
    return index, name + "".join(f"[{i}]" for i in index)


# A declaration, at the start of a statement, of a variable that gets no value. Also the fields of
# a struct: these cost a needless compilation and run.
_WITHOUT_VALUE = re.compile(
    r"""
    (?<=[;{}:(]) \s* (?!(?:return|using|typedef|extern|__shared__|goto|namespace|default)\b)
    (?:[A-Za-z_][\w:]* (?:<[^;<>]*>)? [\s*&]+)+ \w+          # its type, and its name;
    (?:\s*=[^;{}]*, [\s*&]*\w+)?                            # or others with a value, then its name
    (?:\s*\[[^]]*\])* \s* (?:,[^;(){}]*)? ;                 # an array; others after it
    """,
    re.VERBOSE,
)


def _unwritten_locals(
    launch: kernels.Launch, results: Mapping[str, Mapping[str, np.ndarray]], seconds: int
) -> list[Finding]:
    """Outputs that change when local variables without a value start as other garbage."""
    kernel = launch.kernel
    if not results or not _WITHOUT_VALUE.search(kernel.source.code_of(kernel.name)):
        return []
    try:
        outcome = instrumented.run(launch, "counted", seconds, filled=True)
    except CompileError:  # g++ before version 12 cannot fill them
        return []
    where = "a local variable without a value: what it holds at the start"
    if outcome.arrays is None:
        return [
            _of_launch(launch, "initcheck", f"reads {where} decides whether this fails", "", ())
        ]
    for name, values in results["counted"].items():
        bits = f"V{values.itemsize}"
        changed = values.view(bits) != outcome.arrays[name].view(bits)
        if changed.any():
            index, element = _first(changed, name)
            message = f"reads {where} decides about {element}"
            return [_of_launch(launch, "initcheck", message, name, index, int(changed.sum()))]
    return []


def _of_launch(
    launch: kernels.Launch,
    kind: str,
    message: str,
    variable: str,
    index: tuple[int, ...],
    count: int = 1,
    order: str = "counted",
) -> Finding:
    """A finding that no thread is known to."""
    kernel = launch.kernel
    return Finding(kind, launch.instance, kernel.path.name, kernel.line, message, variable, index,
                   None, None, 0, count, order)  # fmt: skip


@contextmanager
def sanitized() -> Iterator[list[Finding]]:
    """Within this, every `launch` on NumPy arrays is sanitized before it runs.

    Yields a list, to which the findings are added: `with sanitized() as findings: op(x)`.
    """
    findings: list[Finding] = []

    def observe(launch: kernels.Launch) -> None:
        findings.extend(sanitize_launch(launch))

    kernels.observers.append(observe)
    try:
        yield findings
    finally:
        kernels.observers.remove(observe)
