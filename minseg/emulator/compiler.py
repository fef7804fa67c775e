"""The host's C++ compiler, and a cache of the files that it compiled.

It is $CXX, or else c++, g++ or clang++; where there is none, `ziglang` from PyPI brings one
(`pip install minseg[emulator]`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from minseg.cache import cache_folder, writable

SHIM = Path(__file__).resolve().parent / "cuda"
BASE_FLAGS = [
    # Hidden: else g++ lets an edited kernel share the statics of its templates with the old one.
    "-std=gnu++17", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-w",
    # The same bits on every CPU (but for the C library's exp and the like): no fused multiply-add
    # unless the source asks for one.
    "-ffp-contract=off",
    # A large local array touches each of its pages, and so hits the guard page below its stack.
    "-fstack-clash-protection",
    # The fibers' _longjmp leads to another stack, which glibc's checked version takes for an error.
    "-U_FORTIFY_SOURCE", "-D_GNU_SOURCE", "-D_XOPEN_SOURCE=700", "-D_DARWIN_C_SOURCE",
]  # fmt: skip


class CompileError(RuntimeError):
    """The C++ compiler refused a kernel; the text is the compiler's."""


@lru_cache(maxsize=1)
def compiler() -> tuple[str, ...]:
    """The command that compiles C++. RuntimeError, with what to install, if there is none."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["c++", "g++", "clang++"]:
        command = tuple(shlex.split(name))
        if shutil.which(command[0]) and _version_of(command):
            return command
    if wanted:
        raise RuntimeError(f"CXX={wanted}: no such compiler")
    if importlib.util.find_spec("ziglang"):
        print("minseg: ziglang's first compilation takes about a minute", file=sys.stderr)
        return (sys.executable, "-m", "ziglang", "c++")
    raise RuntimeError(
        "the CUDA emulator needs a C++ compiler: install g++ or clang++, or set CXX, "
        "or `pip install ziglang`"
    )


@lru_cache(maxsize=1)
def version() -> str:
    """What --version prints: part of every cache key; it also tells g++ from clang."""
    return _version_of(compiler())


def _version_of(command: Sequence[str]) -> str:
    """Empty if it does not run: without Xcode's tools, a Mac's c++ only says how to get them."""
    answer = subprocess.run([*command, "--version"], capture_output=True, text=True)
    return "" if answer.returncode else answer.stdout


def clang_version() -> int:
    """15 of clang 15.0.7, or of Apple's; 0 of g++."""
    found = re.search(r"clang version (\d+)", version())
    return int(found[1]) if found else 0


@lru_cache(maxsize=1)
def _shim_hash() -> str:
    files = sorted(f for f in SHIM.rglob("*") if f.is_file())
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def build(suffix: str, text: str, flags: Sequence[str], objects: Sequence[Path] = ()) -> Path:
    """Compile C++ text, and link `objects` to it unless suffix is ".o"; returns the file's path.

    A file that is in the cache is not compiled again. It gets its name only when it is complete, so
    several processes may build the same file at once. CompileError if the compiler refuses.
    """
    command = [*compiler(), *BASE_FLAGS, *flags, "-I", str(SHIM)]
    if not clang_version():  # on arm64, g++ assumes a guard of 64 KiB
        command.append("--param=stack-clash-protection-guard-size=12")
    parts = [suffix, text, _shim_hash(), version(), *command, *(o.name for o in objects)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    target = writable(cache_folder("emulator")) / f"{key}{suffix}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
        source, result = Path(folder) / "kernel.cpp", Path(folder) / "result"
        source.write_text(text, encoding="utf-8")
        link = ["-c"] if suffix == ".o" else [str(o) for o in objects]
        command += [str(source), *link, "-o", str(result)]
        answer = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if answer.returncode:
            said = answer.stderr.replace(str(source), "kernel.cpp")
            if re.search(
                "no such instruction|invalid (instruction|register)|unknown register", said
            ):
                said += (
                    "(is it PTX, a GPU's? Put a CPU's way to do it under #ifdef MINSEG_EMULATOR)\n"
                )
            if "<<<" in text:
                said += "(no host code here: a launch line stands for <<<grid, block>>>)\n"
            raise CompileError(said)
        os.replace(result, target)
    return target


def runtime(name: str, flags: Sequence[str]) -> Path:
    """One of the runtime's own sources (`block.cpp`, ...) as an object file."""
    return build(".o", (SHIM / name).read_text(encoding="utf-8"), ["-O2", *flags])
