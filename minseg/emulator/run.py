"""Run a kernel on NumPy arrays with the fast build: no checks inside the kernel, all cores."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from minseg.cuda.source import Source
from minseg.emulator import compiler, program
from minseg.parallel import get_num_threads

if TYPE_CHECKING:
    from minseg.kernels import Launch

SECONDS = 60  # a block takes milliseconds: if none begins for so long, those running are stuck
_RUNTIME = ("block.cpp", "copy.cpp", "fast.cpp")


def run(launch: Launch) -> None:
    """Run a checked launch; outputs are written in place.

    RuntimeError if the kernel fails, by a crash or an endless loop. (Only the sanitizer sees what
    it writes past the end of an array.)
    """
    kernel = launch.kernel
    instances = [k.name for k in kernel.source.kernels.values() if not k.template]
    if kernel.template:
        instances = [launch.instance]
    library = _library(kernel.source, tuple(instances), launch.double)
    fibers = program.needs_fibers(kernel.source, kernel.name)
    workers = 1 if program.uses_atomics(kernel.source, kernel.name) else get_num_threads()
    kind = "thread" if fibers else "block"
    entry = getattr(library, f"minseg_{kind}_{program.symbol(launch.instance)}")
    values = [_as_bytes(value) for value in launch.arguments]
    pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
    error = ctypes.create_string_buffer(1024)
    failed = library.minseg_launch(
        ctypes.cast(entry, ctypes.c_void_p), int(fibers), (ctypes.c_uint * 3)(*launch.grid),
        (ctypes.c_uint * 3)(*launch.block), ctypes.c_size_t(launch.shared), pointers, workers,
        SECONDS, error, ctypes.c_size_t(len(error)),
    )  # fmt: skip
    if failed:
        raise RuntimeError(f"kernel {kernel}: {error.value.decode()}")


def _as_bytes(value: np.ndarray | np.generic | None) -> np.ndarray:
    """An argument as the kernel gets it: an array's address, or the scalar itself."""
    if value is None:
        return np.zeros(1, np.uint64)
    if isinstance(value, np.ndarray):
        return np.array([value.ctypes.data], np.uint64)
    return np.array([value])


@lru_cache(maxsize=256)
def _library(source: Source, instances: tuple[str, ...], double: bool) -> ctypes.CDLL:
    flags = ["-O2", "-shared", "-pthread"] + (["-DMINSEG_DOUBLE"] if double else [])
    flags.append("-DMINSEG_EMULATOR")
    objects = [compiler.runtime(name, ["-pthread"]) for name in _RUNTIME]
    path = compiler.build(".so", program.cpp_text(source, list(instances)), flags, objects)
    return ctypes.CDLL(str(path))
