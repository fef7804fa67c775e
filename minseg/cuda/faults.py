"""Errors of CuPy and CUDA, in words that say what to do."""

import re

from minseg.device import TOOLKIT

# CUDA's codes of faults that end all work of the process on the GPU: illegal address, time limit,
# failed assertion, hardware stack, illegal instruction, misaligned address, wrong address space,
# wrong program counter, launch failed (a trap is one).
FATAL = (700, 702, 710, 714, 715, 716, 717, 718, 719)


def of_cuda(error: Exception) -> bool:
    """Whether CuPy raised it, or could not load one of CUDA's libraries."""
    return type(error).__module__.startswith("cupy") or _lacks_library(error)


def loses_gpu(error: Exception) -> bool:
    """Whether this process can do nothing more on the GPU after it."""
    return of_cuda(error) and getattr(error, "status", 0) in FATAL


def words(error: Exception) -> str:
    """What to tell a user: of any error but CUDA's, its own text, or its name where it has none."""
    text = str(error).strip() or type(error).__name__
    if _lacks_library(error):
        return f"a library of CUDA's is missing; {TOOLKIT} ({text})"
    if loses_gpu(error):
        return (
            f"a kernel failed on the GPU ({text}), this one or one launched before: CUDA tells it "
            "late. `minseg sanitize` looks for the fault, on the CPU; with CUDA_LAUNCH_BLOCKING=1 "
            "in the environment, the launch itself raises"
        )
    if of_cuda(error) and "cannot open source file" in text:
        return f"a header of CUDA's is missing; {TOOLKIT}:\n{text}"
    return text


def _lacks_library(error: Exception) -> bool:
    return isinstance(error, ImportError) and bool(re.search(r"\blib\w+\.so|\.dll", str(error)))
