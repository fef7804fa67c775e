"""Compile a kernel for a GPU by NVRTC, and launch it, through CuPy. Binaries are kept on disk.

Includes are already in a source's text, so that an edited common.cuh is never missed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minseg.cache import cache_folder, writable
from minseg.cuda.source import HOPPER, Source

if TYPE_CHECKING:
    from minseg.kernels import Launch


class NotCompiled(RuntimeError):
    """NVRTC refused a kernel; the text is what it said."""


def compile_options(double: bool) -> tuple[str, ...]:
    """What NVRTC gets. (CuPy adds -ftz=true: floats below 1.2e-38 count as 0.)"""
    return ("-std=c++17",) + (("-DMINSEG_DOUBLE",) if double else ())


def runs_here(source: Source) -> bool:
    """Whether the current GPU has what the file needs. sm_90a is Hopper alone, no later one."""
    import cupy

    here = cupy.cuda.Device().compute_capability  # "75" of a T4, "90" of a Hopper
    if source.target == HOPPER:
        return here == "90"
    return int(source.target.removeprefix("sm_").removesuffix("a") or 0) <= int(here)


def run(launch: Launch) -> None:
    """Run a checked launch on its arrays' GPU, on the current stream, without waiting for it.

    Raises RuntimeError for a kernel that this GPU is too old for, before it can do harm: a trap in
    it would end all work on the GPU, not the launch alone. NotCompiled for a mistake in a kernel.
    """
    from cupy.cuda.compiler import CompileException

    kernel = launch.kernel
    device = next(a for a in launch.arguments if hasattr(a, "__cuda_array_interface__")).device
    with device:
        mangled = "" if kernel.plain_name else launch.instance
        module = _module(kernel.source, mangled, launch.double, device.id)
        try:
            function = module.get_function(launch.instance)  # which compiles the module
        except CompileException as error:
            raise NotCompiled(str(error).strip()) from error
        if launch.shared > 48 * 1024:  # more than every GPU gives unasked
            function.max_dynamic_shared_size_bytes = launch.shared
        arguments = tuple(np.uint64(0) if a is None else a for a in launch.arguments)
        function(launch.grid, launch.block, arguments, shared_mem=launch.shared)


@lru_cache(maxsize=256)
def _module(source: Source, mangled: str, double: bool, device: int) -> Any:
    """A compiled file, as loaded on a device. CuPy keeps the binary under a hash of the text.

    `mangled` is an instance whose name C++ mangles, so that CuPy asks NVRTC for it; else "", as
    CuPy 13 keeps no binary where names had to be asked for.
    """
    import cupy

    if not runs_here(source):
        raise RuntimeError(
            f"{source.path.name} needs a GPU of {source.target} (its first line says so); this one "
            f"is of sm_{cupy.cuda.Device().compute_capability}"
        )
    if source.target == HOPPER:
        return cupy.RawModule(path=str(hopper_binary(source.text, double)))
    names = (mangled,) if mangled else None
    options = (*compile_options(double), *wmma_headers(source))
    return cupy.RawModule(code=source.text, options=options, name_expressions=names)


def wmma_headers(source: Source) -> tuple[str, ...]:
    """`-I` for a file that includes <mma.h>: half of it, crt/mma.h, is where CuPy does not look.

    It comes with nvcc: with its wheel, nvidia-cuda-nvcc-cu12, or with CUDA's toolkit.
    """
    if "#include <mma.h>" not in source.text:
        return ()
    wheels = importlib.util.find_spec("nvidia")
    roots = [Path(p) for p in (wheels and wheels.submodule_search_locations) or ()]
    folders = [root / part / "include" for root in roots for part in ("cuda_nvcc", "cu13")]
    folders.append(Path(os.environ.get("CUDA_PATH", "/usr/local/cuda")) / "include")
    return tuple(f"-I{f}" for f in folders if (f / "crt/mma.h").is_file())[:1]


def hopper_binary(text: str, double: bool) -> Path:
    """A file with machine code for sm_90a, a target that CuPy's own compilation cannot name."""
    from cupy.cuda import nvrtc

    options = (*compile_options(double), f"-arch={HOPPER}")
    key = hashlib.sha256(repr((text, options, nvrtc.getVersion())).encode()).hexdigest()[:32]
    folder = writable(cache_folder("cuda"))
    target = folder / f"{key}.cubin"
    if not target.exists():
        program = nvrtc.createProgram(text, "", (), ())
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            raise NotCompiled(nvrtc.getProgramLog(program).strip()) from error
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            written = Path(unfinished) / "cubin"
            written.write_bytes(nvrtc.getCUBIN(program))
            os.replace(written, target)  # appears only when it is whole
    return target
