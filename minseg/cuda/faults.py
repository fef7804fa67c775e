"""What CuPy raises, in words that say what to do."""

import re

from minseg.array import TOOLKIT

# CUDA's codes of faults that end all work of the process on the GPU: illegal address, time limit,
# failed assertion, hardware stack, illegal instruction, misaligned address, wrong address space,
# wrong program counter, launch failed (a trap is one).
FATAL = (700, 702, 710, 714, 715, 716, 717, 718, 719)


def loses_gpu(error: Exception) -> bool:
    """Whether this process can do nothing more on the GPU after it."""
    return _of_cupy(error) and getattr(error, "status", 0) in FATAL


def words(error: Exception) -> str | None:
    """What to tell a user of an error of CuPy's; None for any other."""
    text = str(error).strip()
    if isinstance(error, ImportError) and re.search(r"\blib\w+\.so|\.dll", text):
        return f"a library of CUDA's is missing; {TOOLKIT} ({text})"
    if not _of_cupy(error):
        return None
    if loses_gpu(error):
        return (
            f"a kernel failed on the GPU ({text}), this one or one launched before: CUDA tells it "
            "late. `minseg sanitize` looks for the fault, on the CPU; with CUDA_LAUNCH_BLOCKING=1 "
            "in the environment, the launch itself raises"
        )
    if type(error).__name__ == "CompileException" and re.search(r"cannot open source file", text):
        return f"a header of CUDA's is missing; {TOOLKIT}:\n{text}"
    return text or type(error).__name__


def _of_cupy(error: Exception) -> bool:
    return type(error).__module__.startswith("cupy")
