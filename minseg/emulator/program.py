"""From a `.cu` file to C++ for a host compiler: the shim, the file itself, entry points.

Only shared memory is rewritten in the file. `__shared__ float tile[16][16];` becomes
`struct Shared_tile {}; auto& tile = minseg::shared<float[16][16], Shared_tile>("tile", line);`, on
the same line. So the emulator can give each block its own memory, and the sanitizer knows its name
and bounds. The struct tells declarations apart (in a template function, each instance has its own
local type, and its own memory), and carries the alignment that is asked for.
"""

from __future__ import annotations

import re

from minseg.cuda.source import HOPPER, Source, place
from minseg.cuda.text import split_commas

_ALIGN = r"\b(?:__align__|alignas)\s*\((?:[^()]|\([^()]*\))*\)"
_SHARED = re.compile(
    rf"(?:\b(?:extern|static|volatile)\s+|{_ALIGN}\s*)*\b__shared__\s+"
    r"(?:(?P<kind>struct|union)\s*(?P<tag>\w*)\s*(?P<members>\{[^{}]*\}))?"
    r"(?P<declaration>[^;]*);"
)
_INITIAL = re.compile(r"(?<![=!<>])=(?!=)|\{")
_STORAGE = re.compile(rf"{_ALIGN}|\b(?:extern|static)\b")
_DECLARATOR = re.compile(r"(?P<type>.*?)(?P<name>[A-Za-z_]\w*)\s*(?P<sizes>(\[.*\])?)$", re.DOTALL)


def cpp_text(source: Source, instances: list[str]) -> str:
    """C++ for the kernels named (`saxpy`, `matmul<16>`); `symbol` gives their entry points' names.

    Raises RuntimeError for a file that needs features of a GPU that are not emulated.
    """
    if source.target == HOPPER:
        raise RuntimeError(
            f"{source.path.name} needs a Hopper GPU (its first line says {HOPPER}): "
            "the emulator has no wgmma"
        )
    entries = [f"MINSEG_ENTRIES({symbol(instance)}, {instance})" for instance in instances]
    body = _with_shared(source)
    return "\n".join(['#include "kernel.h"', body, '#line 1 "entries"', *entries, ""])


def symbol(instance: str) -> str:
    """`matmul<16, float>` as part of a C name."""
    return re.sub(r"\W+", "_", instance)


def _with_shared(source: Source) -> str:
    out, end = [], 0
    for match in _SHARED.finditer(source.code):
        head = source.code[: match.start()]
        file, line = place(source, match.start())
        if head.count("{") == head.count("}"):
            raise ValueError(f"{file}:{line}: declare __shared__ memory inside the kernel")
        if _INITIAL.search(match["declaration"]):
            raise ValueError(f"{file}:{line}: __shared__ memory takes no initial value: the "
                             "threads have to write it")  # fmt: skip
        declaration, definition = match["declaration"], ""
        if match["members"]:  # `__shared__ union { ... } u;` defines its type, too
            tag = match["tag"] or f"MinsegShared{line}"
            definition = " ".join(f"{match['kind']} {tag} {match['members']};".split())
            declaration = f"{tag} {declaration}"
        if "volatile" in match[0].partition("__shared__")[0].split():
            declaration = f"volatile {declaration}"
        try:
            declared = _declare(
                _STORAGE.sub(" ", declaration),
                dynamic="extern" in match[0].split(),
                alignment=" ".join(re.findall(_ALIGN, match[0])),
            )
        except ValueError as error:
            raise ValueError(f"{file}:{line}: {error}") from None
        replacement = definition + declared
        out += [source.text[end : match.start()], replacement + "\n" * match[0].count("\n")]
        end = match.end()
    return "".join([*out, source.text[end:]])


def _declare(declaration: str, dynamic: bool, alignment: str) -> str:
    first, *others = split_commas(declaration, angles=True)
    parts = _parts(first)
    base = parts["type"].rstrip("* \t\n")
    out = []
    for text in [first, *(f"{base} {other}" for other in others)]:
        parts = _parts(text)
        ctype, name = " ".join(parts["type"].split()), parts["name"]
        if dynamic:
            row = parts["sizes"].partition("]")[2]  # `extern __shared__ float tile[][32];`
            out.append(f'auto& {name} = minseg::shared_dynamic<{ctype}{row}>("{name}", __LINE__);')
        else:
            ctype += parts["sizes"]
            out.append(f'struct {alignment} Shared_{name} {{}}; auto& {name} = '
                       f'minseg::shared<{ctype}, Shared_{name}>("{name}", __LINE__);')  # fmt: skip
    return " ".join(out)


def _parts(text: str) -> re.Match[str]:
    match = _DECLARATOR.match(text.strip())
    if match is None:
        raise ValueError(f"__shared__ {text}: not understood")
    return match


# Names by which a kernel makes its threads wait for each other, and so needs fibers.
_WAITS = re.compile(
    r"__sync|__shfl|__ballot|__any_sync|__all_sync|__match_|__reduce_|__activemask|__pipeline"
    r"|wmma$|mma_|this_thread_block|coalesced_threads"
)


def needs_fibers(source: Source, kernel: str) -> bool:
    """Does the kernel, itself or through what it calls, wait for other threads?"""
    return any(_WAITS.match(name) for name in source.reaches(kernel))


def uses_atomics(source: Source, kernel: str) -> bool:
    """If so, one CPU worker runs all blocks, in order: the same bits every time."""
    return any(name.startswith("atomic") for name in source.reaches(kernel))
