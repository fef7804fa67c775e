"""What the sanitizer found: which thread did what to which memory, where, and a drawing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Triple = tuple[int, int, int]
COPIES = "starts to copy to"  # asynchronously: a barrier does not wait for its end


@dataclass(frozen=True)
class Actor:
    """One side of a finding: a thread, what it does, and at which line (0: not known)."""

    block: Triple
    thread: Triple
    does: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"thread {_triple(self.thread)} of block {_triple(self.block)}"


@dataclass(frozen=True)
class Finding:
    """One fault of a kernel, which happened `count` times."""

    kind: str  # racecheck, memcheck, initcheck, synccheck, order, assert, timeout, crash
    kernel: str
    file: str
    line: int
    message: str  # the diagnosis, in one sentence
    variable: str  # the array or the shared variable, or ""
    index: tuple[int, ...]  # of the element; a flat index if it is outside the array
    now: Actor | None  # the thread at fault
    before: Actor | None  # the other thread, which came first
    barrier: int  # the line of the last barrier that both had passed; 0: none since the start
    count: int
    order: str  # the order of threads and blocks in which it was first seen

    def __str__(self) -> str:
        times = f"  ({self.count} times)" if self.count > 1 else ""
        head = f"{self.kind}: {self.file}:{self.line}: {self.kernel}: {self.message}{times}"
        return "\n".join([head, *self.timeline()])

    def timeline(self) -> list[str]:
        """Lines that draw both threads side by side, time running down."""
        if self.now is None:
            return []
        if self.before is None:
            return [f"    {self.now}", f"      {_event(self.now, self.element())}"]
        left = max(len(str(self.before)), len(_event(self.before, self.element()))) + 4
        rows = [(str(self.before), str(self.now))]
        same_block = self.before.block == self.now.block
        if same_block and self.kind == "racecheck" and self.before.does != COPIES:
            start = f"barrier at line {self.barrier}" if self.barrier else "the kernel starts"
            rows.append((start, start))
        rows.append((_event(self.before, self.element()), ""))
        rows.append(("", _event(self.now, self.element())))
        drawn = [f"    {'time' if i == 0 else '  | '} {a:<{left}}{b}".rstrip()
                 for i, (a, b) in enumerate(rows)]  # fmt: skip
        return [*drawn, "      v"]

    def element(self) -> str:
        if not self.variable:
            return ""
        return self.variable + "".join(f"[{i}]" for i in self.index)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"timeline": self.timeline()}


def _triple(v: Triple) -> str:
    return f"({v[0]},{v[1]},{v[2]})"


def _event(actor: Actor, element: str) -> str:
    where = f"line {actor.line}: " if actor.line else ""
    return f"{where}{actor.does} {element}".rstrip()


def explain(
    record: Mapping[str, Any],
    region: Mapping[str, Any] | None,
    now: Actor | None,
    before: Actor | None,
) -> tuple[str, str, tuple[int, ...]]:
    """The diagnosis of a raw record: a sentence, the variable and the index."""
    if region is None:
        return _explain_without_memory(record, now, before), "", ()
    name, item, size = region["name"], region["item"], region["bytes"] // region["item"]
    flat = record["offset"] // item
    shape = tuple(region["shape"])  # (): a single shared variable
    inside = 0 <= flat < size
    index = tuple(int(i) for i in np.unravel_index(flat, shape)) if inside else (flat,)
    element = name + "".join(f"[{i}]" for i in index)
    space = "shared memory" if region["shared"] else "global memory"
    assert record["kind"] != "racecheck" or (now and before)
    detail, does = record["detail"], now.does if now else ""
    if record["kind"] == "racecheck" and now and before and detail != "in_flight":
        return f"{_race(now, before)}: {element} in {space}", name, index
    # What begins inside, such as a float4, may reach past the end.
    last = (record["offset"] + record["bytes"] - 1) // item if inside else flat
    stray = f"{record['bytes']} bytes at {element}" if inside else f"{name}[{flat}]"
    by_declaration = region["shared"] and record["offset"] % record["bytes"] == 0
    sentences = {
        "in_flight": f"{does} {element} in {space} while an asynchronous copy to it is under way: "
        "the thread that copies has to wait for it first",
        "bounds": f"{does} {stray} in {space}, {_how_far(last, size)}",
        "misaligned": f"{does} {record['bytes']} bytes at {element} in {space}: "
        f"its address is no multiple of {record['bytes']} bytes"
        + (f" (declare {name} with __align__({record['bytes']}))" if by_declaration else ""),
        "declared": f"{name} makes it {record['bytes']} bytes of shared memory that are declared, "
        "and a block has 49152: more takes `extern __shared__`",
        "copy_size": f"an asynchronous copy of {record['bytes']} bytes to {element}: "
        "it takes 4, 8 or 16",
        "copy_target": f"an asynchronous copy to {element} in global memory: "
        "it goes from global to shared memory",
        "matrix": f"a matrix that starts at {element} in {space}: its address has to be a multiple "
        "of 32 bytes",
        "stride": f"a matrix in {name} with {record['bytes']} bytes between its rows (or columns), "
        "which have to be a multiple of 16",
        "input": f"{does} {element}, which the launch line declares `in:`",
        "read": f"{does} {element} in {space} before anything was written there",
        "unwritten": f"{record['bytes'] // item} of {size} elements of the output {name} are never "
        f"written, first {element}",
    }
    return sentences[detail], name, index


def _race(now: Actor, before: Actor) -> str:
    if now.block != before.block:
        return "race between blocks, which nothing orders"
    reads = "reads" in (before.does, now.does)
    kind = "one reads, one writes" if reads else "both write"
    return f"race within a block, no barrier between the two accesses ({kind})"


def _how_far(flat: int, size: int) -> str:
    if 2**31 <= flat < 2**32:
        return f"far past the end of {size} elements: {flat - 2**32} as an unsigned number"
    past = flat - size + 1 if flat >= size else -flat
    return f"{past} past the end of {size} elements" if flat >= size else f"{past} before its start"


def _explain_without_memory(
    record: Mapping[str, Any], now: Actor | None, before: Actor | None
) -> str:
    detail = record.get("detail", "")
    line, other = (actor.line if actor else 0 for actor in (now, before))
    does = now.does if now else ""
    sentences = {
        "null": f"{does} through a null pointer (address {record.get('offset')})",
        "wild": f"{does} an address that belongs to no array",
        "ended": f"line {line}: a barrier that some threads of the block never reach; they ended",
        "lines": f"threads wait at different barriers, lines {line} and {other}",
        "meetings": "lanes of a warp wait for each other in different operations, lines "
        f"{line} and {other}",
        "absent": f"line {line}: needs the value of a lane that takes no part",
        "division": "an integer division by zero, which a GPU answers with any number",
        "mask": f"line {line}: the mask leaves out the lane that gives it",
        "width": f"line {line}: a shuffle of width {record.get('offset')}, which is no power of "
        "two up to 32",
        "lane": f"line {line}: the mask names lanes that have ended and never arrive",
        "stuck": f"threads wait for ever at line {line}"
        + (f", others at line {other}" if before else " for lanes that do not come"),
    }
    by_kind = {
        "timeout": "the kernel did not finish in time (an endless loop? or a wait in a "
        "loop for another thread: here threads take turns at barriers only)",
        "crash": "the kernel crashed (too large a stack?)",
    }
    if record["kind"] == "memcheck" and detail.startswith("'"):
        declared = detail[1:-1].removeprefix("const ").replace(" [", "[")  # g++ or clang++
        return f"index {record['offset']} into an array that is declared as {declared}"
    return sentences.get(detail) or by_kind[record["kind"]]
