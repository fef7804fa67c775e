"""Run a launch in the instrumented build: a program of its own, which sees every memory access."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minseg import capture
from minseg.cuda.source import Source
from minseg.emulator import compiler, program
from minseg.kernels import Launch

ORDERS = ("counted", "reversed", "shuffled")  # in which blocks, and the threads of a block, run
_RUNTIME = (
    "block.cpp", "copy.cpp", "watch.cpp", "sync.cpp", "report.cpp", "profile.cpp", "program.cpp",
)  # fmt: skip
_KINDS = {"in": 2, "out": 3, "inout": 4}


@dataclass(frozen=True)
class Outcome:
    """What the program reported, and the arrays as the kernel left them (None: unfinished)."""

    records: list[dict[str, Any]]  # of "finding", "region", ..., "end", each under "what"
    arrays: dict[str, np.ndarray] | None
    message: str  # why it ended early
    executable: Path


def run(
    launch: Launch, order: str, seconds: int, profile: bool = False, filled: bool = False
) -> Outcome:
    """Run a checked launch on copies of its arrays; `filled`: local variables start as garbage."""
    executable = _executable(launch.kernel.source, launch.instance, launch.double, filled)
    with tempfile.TemporaryDirectory(prefix="minseg-") as folder:
        request, report, arrays = (Path(folder) / n for n in ("request", "report", "arrays"))
        request.write_bytes(_request(launch, ORDERS.index(order), profile))
        words = [str(executable), str(request), str(report), str(arrays), str(seconds)]
        answer = capture.run(words, 60 + 10 * seconds)
        sys.stdout.write(answer.printed)
        if answer.status is None:
            return Outcome([{"what": "finding", "kind": "timeout"}], None, "", executable)
        records = []
        if report.exists():
            records = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
        if not records or records[-1] != {"what": "end"}:
            records.append({"what": "finding", "kind": "crash", "status": answer.status})
        left = _read_arrays(launch, arrays) if answer.status == 0 and arrays.exists() else None
        return Outcome(records, left, answer.errors.strip(), executable)


def _request(launch: Launch, order: int, profile: bool) -> bytes:
    """The request as program.cpp reads it."""
    geometry = (*launch.grid, *launch.block)
    count = len(launch.arguments)
    parts = [struct.pack("=6IQ4I", *geometry, launch.shared, order, 2021, profile, count)]
    for parameter, value in zip(launch.kernel.parameters, launch.arguments, strict=True):
        if value is None:
            kind, data, item = 1, b"", 1
        else:
            kind = _KINDS[parameter.role] if parameter.pointer else 0
            data, item = value.tobytes(), value.itemsize
        parts.append(struct.pack("=2IQ64s", kind, item, len(data), parameter.name.encode()))
        parts.append(data)
    return b"".join(parts)


def _read_arrays(launch: Launch, path: Path) -> dict[str, np.ndarray]:
    data, arrays = path.read_bytes(), {}
    for parameter, value in zip(launch.kernel.parameters, launch.arguments, strict=True):
        if parameter.role in ("out", "inout") and value is not None:
            arrays[parameter.name] = np.frombuffer(data, value.dtype, value.size).reshape(
                value.shape
            )
            data = data[value.nbytes :]
    return arrays


@lru_cache(maxsize=256)
def _executable(source: Source, instance: str, double: bool, filled: bool) -> Path:
    watch = ["-DMINSEG_EMULATOR", "-DMINSEG_WATCH"]
    flags = ["-gdwarf-4", "-fsanitize=thread", *watch] + (["-DMINSEG_DOUBLE"] if double else [])
    if filled:
        flags.append("-ftrivial-auto-var-init=pattern")
    flags.append("-fno-finite-loops")  # an endless loop is to be found, not to be optimised away
    # What no address tells: an index past one row of a table, or past a local array.
    flags.append("-fsanitize=array-bounds" if compiler.clang_version() else "-fsanitize=bounds")
    flags.append("-fsanitize=integer-divide-by-zero")
    if clang := compiler.clang_version():
        # -O1 moves reads out of loops and branches, and forgets their lines. But with -O0, clang
        # before version 15 calls the C library's memcpy for the copy of a struct: nobody sees that.
        flags.append("-O0" if clang >= 15 else "-O1")
        # By itself it leaves out the read of `x += 1`, and in a loop, both.
        for option in ("tsan-instrument-read-before-write=1", "disable-licm-promotion",
                       "tsan-distinguish-volatile=1"):  # fmt: skip
            flags += ["-mllvm", f"-{option}"]
    else:  # g++ sees no access where a struct goes into a call, or comes out of it by value
        flags += ["-O1", "-finline-functions", "-finline-small-functions", "-finline-limit=100000"]
        for limit in ("inline-unit-growth", "large-function-growth", "large-stack-frame-growth"):
            flags += ["--param", f"{limit}=100000"]
        flags += ["--param", "tsan-distinguish-volatile=1"]
    kernel = compiler.build(".o", program.cpp_text(source, [instance]), flags)
    objects = [kernel, *(compiler.runtime(name, watch) for name in _RUNTIME)]
    # Linked without the flag: the sanitizer's own runtime stays out.
    fixed = [] if sys.platform == "darwin" else ["-no-pie", "-ldl"]
    return compiler.build(".program", "", fixed, objects)


def variable_at(executable: Path, address: int) -> tuple[str, int, int]:
    """Name, start and size of the `__device__` variable at an address; the name may be unknown."""
    tool = next((t for t in ("nm", "llvm-nm") if shutil.which(t)), None)
    if tool is not None:
        words = [tool, "-C", "-S", "-n", str(executable)]
        answer = subprocess.run(words, capture_output=True, text=True).stdout
        found = re.findall(r"^(\w+) (\w+) [bBdDsSuV] (.+)$", answer, re.MULTILINE)
        starts = [int(start, 16) for start, _, _ in found]
        for start, after, (_, size, name) in zip(starts, [*starts[1:], 0], found, strict=True):
            # A Mach-O file has no sizes, and an underscore before each name.
            length = int(size, 16) or after - start
            if 0 <= address - start < length:
                return name.removeprefix("_" * (sys.platform == "darwin")), start, length
    return "", address, 4


def lines_of(executable: Path, codes: Iterable[int]) -> dict[int, tuple[str, int]]:
    """File and line of each return address: of the call before it. Unknown ones are left out.

    Of an inlined function of the emulator's own headers (`__ldg`), it is the line that calls it.
    """
    wanted = sorted({code for code in codes if code})
    tool = next((t for t in ("atos", "addr2line", "llvm-addr2line") if shutil.which(t)), None)
    if not wanted or tool is None:
        return {}
    addresses = [hex(code - 1) for code in wanted]
    option = ["-i", "-fullPath", "-o"] if tool == "atos" else ["-a", "-i", "-e"]
    words = [tool, *option, str(executable), *addresses]
    answer = subprocess.run(words, capture_output=True, text=True).stdout
    if tool == "atos":  # a blank line after each address
        frames = answer.split("\n\n")
    else:  # the address itself before each
        frames = re.split(r"^0x[0-9a-f]+$", answer, flags=re.MULTILINE)[1:]
    found = {}
    for code, text in zip(wanted, frames, strict=False):
        places = re.findall(r"(?:^|\()(/.*/)?([^/():\n]+):(\d+)\b", text, re.MULTILINE)
        own = [p for p in places if Path(p[0]) != compiler.SHIM] or places
        if own and int(own[0][2]):
            found[code] = (own[0][1], int(own[0][2]))
    return found
