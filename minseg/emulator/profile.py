"""The profiler: a kernel's memory accesses, counted as a GPU would serve them.

It counts and never times, as the emulator runs on a CPU. A *request* is one load or store by the
lanes of a warp together. Global memory serves it in sectors of 32 bytes: 4 for 32 neighbouring
floats, 32 if every lane accesses another sector. Shared memory serves it in one pass unless two
lanes want different words of one bank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minseg import kernels
from minseg.emulator import instrumented

SECTOR = 32


@dataclass(frozen=True)
class Access:
    """All loads, stores or atomics of one array at one line of the source."""

    line: int
    array: str
    shared: bool
    kind: str  # load, store, atomic
    bytes: int  # accessed by a lane; the most, if the line's accesses differ
    requests: int
    accesses: int  # by single threads
    sectors: int  # global memory: 32-byte sectors moved
    passes: int  # shared memory: passes over the banks
    least_passes: int  # the passes there would be without bank conflicts
    partial: int  # requests in which some lanes of the warp take no part
    example: tuple[int, ...]  # byte offset of each lane in the first request; -1: takes no part

    @property
    def sectors_a_request(self) -> float:
        return self.sectors / self.requests

    @property
    def conflicts(self) -> int:
        """Extra passes that bank conflicts cost."""
        return self.passes - self.least_passes


@dataclass(frozen=True)
class Profile:
    """The counts of one launch."""

    kernel: str
    file: str
    threads: int
    blocks: int
    accesses: tuple[Access, ...]
    barriers: int  # per block
    bytes_moved: int  # sectors of global memory, times 32
    bytes_least: int  # if each byte that is accessed were moved once
    operations: int  # given by the caller; 0: not known

    def per_thread(self, kind: str, shared: bool) -> float:
        """The average number of loads ("load"), stores or atomics per thread."""
        chosen = [a for a in self.accesses if a.kind == kind and a.shared == shared]
        return sum(a.accesses for a in chosen) / self.threads

    def loads_of(self, array: str) -> int:
        """How often threads load an element of the array."""
        return sum(a.accesses for a in self.accesses if a.array == array and a.kind == "load")

    @property
    def sectors_a_request(self) -> float:
        """Sectors per request to global memory, on average; 0 if there is none."""
        chosen = [a for a in self.accesses if not a.shared]
        requests = sum(a.requests for a in chosen)
        return sum(a.sectors for a in chosen) / requests if requests else 0.0

    @property
    def conflicts(self) -> int:
        return sum(a.conflicts for a in self.accesses)

    @property
    def divergence(self) -> float:
        """Share of requests in which not all lanes of the warp take part."""
        requests = sum(a.requests for a in self.accesses)
        return sum(a.partial for a in self.accesses) / requests if requests else 0.0

    @property
    def intensity(self) -> float:
        """Arithmetic operations per byte moved; 0 if the operations are not known."""
        return self.operations / self.bytes_moved if self.bytes_moved else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.kernel} ({self.file}): {self.blocks} blocks, {self.threads} threads",
            f"  a thread:   {self._kinds(False)} global, {self._kinds(True)} shared",
            f"  global:     {self.sectors_a_request:.2f} sectors a request, "
            f"{self.bytes_moved} bytes moved, {self.bytes_least} at least",
            f"  shared:     {self.conflicts} passes lost to bank conflicts",
            f"  divergence: {self.divergence:.1%} of requests lack lanes",
            f"  barriers:   {self.barriers} a block",
        ]
        if self.operations:
            lines.append(f"  intensity:  {self.intensity:.2f} operations a byte")
        lines.append("  line  access                     bytes  requests  sectors/req  conflicts")
        for a in self.accesses:
            name = f"{a.kind} {a.array}" + (" (shared)" if a.shared else "")
            cost = f"{'':11}  {a.conflicts:9}" if a.shared else f"{a.sectors_a_request:11.2f}"
            lines.append(f"  {a.line:4}  {name:26} {a.bytes:5}  {a.requests:8}  {cost}")
        return "\n".join(lines)

    def _kinds(self, shared: bool) -> str:
        counts = {kind: self.per_thread(kind, shared) for kind in ("load", "store", "atomic")}
        text = [f"{n:.2f} {kind}s" for kind, n in counts.items() if n or kind != "atomic"]
        return ", ".join(text)


def profile(kernel: str, *arguments: Any, operations: int = 0, seconds: int = 60) -> Profile:
    """Count the memory accesses of one launch, given as to `minseg.kernels.launch`.

    The arrays stay unchanged. The intensity needs `operations`, the arithmetic operations of the
    whole launch. RuntimeError if the kernel fails or takes longer than `seconds`: sanitize it.
    ValueError for a grid without blocks.
    """
    launch = kernels.check(kernel, *arguments)
    if 0 in launch.grid:
        raise ValueError(f"{launch.kernel}: cannot be profiled, its grid {launch.grid} is empty")
    outcome = instrumented.run(launch, "counted", seconds, profile=True)
    if outcome.arrays is None:
        raise RuntimeError(f"{launch.kernel}: cannot be profiled, it fails: {outcome.message}")
    records = [r for r in outcome.records if r["what"] == "instruction"]
    lines = instrumented.lines_of(outcome.executable, (r["code"] for r in records))
    accesses = _by_line(records, lines)
    totals = next(r for r in outcome.records if r["what"] == "totals")
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    return Profile(
        kernel=launch.instance,
        file=launch.kernel.path.name,
        threads=blocks * launch.block[0] * launch.block[1] * launch.block[2],
        blocks=blocks,
        accesses=accesses,
        barriers=totals["barriers"] // blocks,
        bytes_moved=SECTOR * sum(a.sectors for a in accesses),
        bytes_least=totals["bytes_read"] + totals["bytes_written"],
        operations=operations,
    )


def _by_line(
    records: Iterable[Mapping[str, Any]], lines: Mapping[int, tuple[str, int]]
) -> tuple[Access, ...]:
    """Join a line's instructions on one array, as compilers split and merge them differently."""
    groups: dict[tuple[int, str, bool, str], list[Mapping[str, Any]]] = {}
    for r in records:
        line = lines.get(r["code"], ("", 0))[1]
        groups.setdefault((line, r["array"], r["shared"], r["kind"]), []).append(r)
    out = []
    for (line, array, shared, kind), group in sorted(groups.items()):
        names = ("requests", "accesses", "sectors", "passes", "least_passes", "partial")
        sums = {name: sum(r[name] for r in group) for name in names}
        widest = max(group, key=lambda r: r["bytes"])
        example = tuple(widest["example"])
        out.append(Access(line, array, shared, kind, widest["bytes"], **sums, example=example))
    return tuple(out)
