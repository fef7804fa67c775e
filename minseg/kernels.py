"""Find, check and launch a CUDA kernel: on a GPU (CuPy) or in the emulator (NumPy arrays).

`launch("saxpy", x, y, 2.0, n)` reads the kernel's signature and its launch line in `kernels/*.cu`,
checks every argument against them, computes the grid, and runs it where the arrays are. A kernel
never gets an array of another type, a strided one, or a number that its C type cannot hold.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minseg.cuda.expression import evaluate
from minseg.cuda.source import (
    Kernel,
    Parameter,
    Source,
    bind,
    read_source,
    spelling,
)
from minseg.cuda.text import blank, split_commas, without_directives
from minseg.device import device_of
from minseg.suggest import suggest

# C type: the dtype of an array of it, or of a scalar. Vector types: the dtype of a component.
DTYPES = {
    "bool": np.bool_, "char": np.int8, "unsigned char": np.uint8, "short": np.int16,
    "unsigned short": np.uint16, "int": np.int32, "unsigned int": np.uint32, "long long": np.int64,
    "unsigned long long": np.uint64, "int8_t": np.int8, "uint8_t": np.uint8, "int16_t": np.int16,
    "uint16_t": np.uint16, "int32_t": np.int32, "uint32_t": np.uint32, "int64_t": np.int64,
    "uint64_t": np.uint64, "size_t": np.uint64, "float": np.float32, "double": np.float64,
    "half": np.float16, "__half": np.float16, "__nv_bfloat16": np.uint16, "uint": np.uint32,
}  # fmt: skip
VECTORS = {
    f"{name}{lanes}": (ctype, lanes)
    for name, ctype in {"float": "float", "double": "double", "int": "int", "uint": "unsigned int",
                        "char": "char", "uchar": "unsigned char"}.items()
    for lanes in (2, 3, 4)
} | {name: (name.replace("2", ""), 2) for name in ("half2", "__half2")}  # fmt: skip
VECTORS["__nv_bfloat162"] = ("__nv_bfloat16", 2)
MAX_THREADS = 1024
MAX_SHARED = 227 * 1024  # bytes a block: the largest of any GPU (sm_90)


@dataclass(frozen=True)
class Launch:
    """A checked launch, ready to run: what the GPU path, the emulator and the sanitizer get."""

    kernel: Kernel
    instance: str  # the kernel's C++ name, template arguments included: "matmul<16>"
    double: bool  # scalar is double
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[Any, ...]  # arrays, NumPy scalars of the exact C type, None for a null pointer


def kernels_folder() -> Path:
    """Where the `.cu` files are: $MINSEG_KERNELS, else beside the package, else the checkout's."""
    chosen = os.environ.get("MINSEG_KERNELS")
    if chosen:
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise ValueError(f"MINSEG_KERNELS={chosen}: no such folder")
        return folder
    package = Path(__file__).resolve().parent
    installed, checkout = package / "_kernels", package.parent / "kernels"
    return installed if installed.is_dir() else checkout


def list_kernels() -> list[str]:
    """Names of all kernels in the kernel folder's own `.cu` files (not in its subfolders)."""
    return sorted(name for path in kernels_folder().glob("*.cu") for name in _names(path))


def kernel_info(name: str) -> Kernel:
    """The kernel of this name: `softmax`, `matmul<32>`, or `path/to/file.cu:matmul`.

    A path is taken as it is, or within the kernel folder (`ladder/matmul/v1_naive.cu:matmul`).
    ValueError if there is none, or if two files have it.
    """
    path, _, bare = name.rpartition(":")
    bare = bare.split("<")[0].strip()
    if not path:
        return _find(kernels_folder(), bare)
    file = Path(path) if Path(path).is_file() else kernels_folder() / path
    if not file.is_file():
        raise ValueError(f"kernel {name!r}: no file {path}")
    found = load(file).kernels
    if bare not in found:
        raise ValueError(f"{path} has no kernel {bare!r}; it has {', '.join(found) or 'none'}")
    return found[bare]


def find(target: str) -> list[Kernel]:
    """All kernels of a `.cu` file, or the one kernel that `kernel_info` finds under this name."""
    if not target.endswith(".cu"):
        return [kernel_info(target)]
    file = Path(target) if Path(target).is_file() else kernels_folder() / target
    if not file.is_file():
        raise ValueError(f"there is no file {target}")
    return list(load(file).kernels.values())


def load(path: str | Path) -> Source:
    """Read a `.cu` file; kept until it, or a file that it includes, changes."""
    path = Path(path).resolve()
    known = _sources.get(path)
    if known is None or not known.unchanged():
        known = _sources[path] = read_source(path)
    return known


_sources: dict[Path, Source] = {}
_homes: dict[tuple[Path, str], Path] = {}  # (kernel folder, kernel): the file where it was found


def _find(folder: Path, name: str) -> Kernel:
    home = _homes.get((folder, name))
    if home is None or not home.is_file() or name not in load(home).kernels:
        files = [f for f in sorted(folder.glob("*.cu")) if name in _names(f)]
        if len(files) > 1:
            raise ValueError(f"kernel {name!r} is in {' and in '.join(f.name for f in files)}")
        if not files:
            known = list_kernels()
            hint = suggest(name, known)
            raise ValueError(f"there is no kernel {name!r}{hint}; known: {', '.join(known)}")
        home = _homes[folder, name] = files[0]
    return load(home).kernels[name]


def _names(path: Path) -> set[str]:
    """Names of the kernels defined in a file, which is not read: a fault in it harms no other."""
    code = without_directives(blank(path.read_text("utf-8", errors="replace")))
    code = re.sub(r"__launch_bounds__\s*\([^;{]*?\)\s*(?=\w)", "", code)
    return set(re.findall(r"__global__\b[^;{(]*?(\w+)\s*\([^;{}]*\{", code))


observers: list[Callable[[Launch], None]] = []  # each is told of every launch before it runs


def launch(name: str, *arguments: Any) -> None:
    """Run a kernel on arrays and scalars, in its parameters' order; it writes outputs in place.

    `name` as for `kernel_info`; a template's arguments stand in it: `launch("matmul<32>", ...)`.
    Arrays are all NumPy (emulator) or all CuPy (GPU, on the current stream); None passes a null
    pointer. A grid with a zero dimension runs nothing.

    TypeError: a wrong dtype or kind of argument. ValueError: a wrong number of arguments, a strided
    array, arrays on different devices, a scalar that its C type cannot hold, an impossible block.
    """
    checked = check(name, *arguments)
    for observer in observers:
        observer(checked)
    if 0 in checked.grid:
        return
    if any(device_of(a) != "cpu" for a in checked.arguments if _is_array(a)):
        from minseg.cuda import gpu

        gpu.run(checked)
    else:
        from minseg.emulator.run import run

        run(checked)


def check(name: str, *arguments: Any) -> Launch:
    """The launch that `launch` would run, checked but not run. Errors as there."""
    kernel = kernel_info(name)
    if len(arguments) != len(kernel.parameters):
        signature = ", ".join(p.name for p in kernel.parameters)
        raise ValueError(
            f"{kernel}: got {len(arguments)} arguments, needs {len(kernel.parameters)}: {signature}"
        )
    types, numbers, instance = _template_arguments(kernel, name)
    devices = {device_of(a) for a in arguments if _is_array(a)}
    if len(devices) > 1:
        raise ValueError(f"{kernel}: all arrays must be on one device, got {sorted(devices)}")
    double = _is_double(kernel, arguments)
    actual = []
    for parameter, value in zip(kernel.parameters, arguments, strict=True):
        ctype = spelling(types.get(parameter.ctype, parameter.ctype))
        ctype = {"scalar": "double" if double else "float"}.get(ctype, ctype)
        convert = _check_array if parameter.pointer else _check_scalar
        actual.append(convert(kernel, parameter, ctype, value))
    for parameter, value in zip(kernel.parameters, actual, strict=True):
        if not parameter.pointer and isinstance(value, (np.integer, np.bool_)):
            numbers[parameter.name] = int(value)
    compute = bind(kernel, numbers, types, double)
    grid, block = (_dimensions(kernel, compute, texts) for texts in (kernel.grid, kernel.block))
    shared = compute(kernel.shared)
    _check_geometry(kernel, compute, grid, block, shared)
    return Launch(kernel, instance, double, grid, block, shared, tuple(actual))


def _template_arguments(kernel: Kernel, name: str) -> tuple[dict[str, str], dict[str, int], str]:
    """`matmul<32, float>`: the types and the numbers that the template's parameters stand for."""
    given = split_commas(name.partition("<")[2].rpartition(">")[0], angles=True)
    if len(given) != len(kernel.template):
        wanted = ", ".join(" ".join(parameter) for parameter in kernel.template)
        raise ValueError(f"{kernel}: template arguments {given}, needs <{wanted}>")
    types: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for (kind, parameter), value in zip(kernel.template, given, strict=True):
        if kind in ("typename", "class"):
            types[parameter] = value
        else:
            try:
                numbers[parameter] = evaluate(value, {"true": 1, "false": 0}.__getitem__)
            except (ValueError, KeyError):
                raise ValueError(f"{kernel}: template argument {parameter}: got {value!r}, needs a "
                                 f"number ({kind})") from None  # fmt: skip
    instance = f"{kernel.name}<{', '.join(given)}>" if given else kernel.name
    return types, numbers, instance


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__")


def _is_double(kernel: Kernel, arguments: Sequence[Any]) -> bool:
    """Is `scalar` double in this launch? The arrays say so; they must agree."""
    first: tuple[str, Any] | None = None
    for parameter, value in zip(kernel.parameters, arguments, strict=True):
        if not (parameter.pointer and parameter.ctype == "scalar" and _is_array(value)):
            continue
        if value.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{kernel}: {parameter.name} is {value.dtype}, needs float32 or float64"
            )
        if first and first[1] != value.dtype:
            raise TypeError(
                f"{kernel}: {parameter.name} is {value.dtype}, but {first[0]} is {first[1]}"
            )
        first = first or (parameter.name, value.dtype)
    return first is not None and first[1] == np.float64


def _check_array(kernel: Kernel, parameter: Parameter, ctype: str, value: Any) -> Any:
    where = f"{kernel}: {parameter.name}"
    if value is None:
        return None
    if not _is_array(value):
        raise TypeError(f"{where}: got {type(value).__name__}, needs an array ({ctype}*)")
    item, lanes = VECTORS.get(ctype, (ctype, 1))
    if item not in DTYPES:
        raise TypeError(f"{where}: arrays of C type {ctype} are not known")
    wanted = np.dtype(DTYPES[item])
    if value.dtype != wanted:
        raise TypeError(f"{where}: got an array of {value.dtype}, needs {wanted} ({ctype}*)")
    if not value.flags.c_contiguous:
        raise ValueError(f"{where}: the array is strided; needs a C-contiguous one")
    if parameter.role != "in" and isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ValueError(f"{where}: the kernel writes it, but the array is read-only")
    if lanes > 1 and value.size % lanes:
        raise ValueError(f"{where}: {value.size} elements are no whole number of {ctype}")
    alignment = wanted.itemsize if lanes == 3 else lanes * wanted.itemsize
    if _address(value) % alignment:
        raise ValueError(f"{where}: the array does not start on a multiple of sizeof({ctype})")
    return value


def _check_scalar(kernel: Kernel, parameter: Parameter, ctype: str, value: Any) -> np.generic:
    where = f"{kernel}: {parameter.name}"
    if ctype not in DTYPES:
        raise TypeError(f"{where}: scalars of C type {ctype} are not known")
    kind = np.dtype(DTYPES[ctype]).type
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        value = value.item()  # Python compares its numbers exactly, however large they are
    if not isinstance(value, (int, float)):
        raise TypeError(f"{where}: got {type(value).__name__}, needs a number ({ctype})")
    if issubclass(kind, np.floating):
        most = float(np.finfo(kind).max)
        fits = not most < abs(value) < math.inf
        if fits and isinstance(value, int):
            fits = int(kind(value)) == value
    elif kind is np.bool_:
        fits = value in (0, 1)
    else:
        limits = np.iinfo(kind)
        fits = limits.min <= value <= limits.max and int(value) == value
    if not fits:
        raise ValueError(f"{where}: {value!r} does not fit C type {ctype}")
    return kind(value)


def _dimensions(
    kernel: Kernel, compute: Callable[[str], int], texts: Sequence[str]
) -> tuple[int, int, int]:
    values = [compute(text) for text in texts] + [1, 1]
    if min(values) < 0:
        raise ValueError(f"{kernel}: the launch line gives a negative size: {values}")
    return values[0], values[1], values[2]


def _check_geometry(
    kernel: Kernel,
    compute: Callable[[str], int],
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared: int,
) -> None:
    threads = block[0] * block[1] * block[2]
    most = compute(kernel.max_threads) if kernel.max_threads else MAX_THREADS
    if not 1 <= threads <= min(most, MAX_THREADS):
        raise ValueError(f"{kernel}: block {block} has {threads} threads, needs 1 to {most}")
    if block[2] > 64:
        raise ValueError(f"{kernel}: block {block} is larger than a GPU takes (1024, 1024, 64)")
    if grid[0] >= 2**31 or grid[1] >= 2**16 or grid[2] >= 2**16:
        raise ValueError(f"{kernel}: grid {grid} is larger than a GPU takes (2^31, 65535, 65535)")
    if not 0 <= shared <= MAX_SHARED:
        raise ValueError(f"{kernel}: {shared} bytes of shared memory, a block has {MAX_SHARED}")


def _address(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
