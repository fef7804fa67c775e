"""Compiling a kernel file without a GPU: by NVRTC from its wheel, or else by nvcc."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from minseg.cuda.gpu import compile_options, wmma_headers
from minseg.cuda.source import Source


@cache
def compiler():
    """ "nvrtc", "nvcc", or None where neither is."""
    return "nvrtc" if _library() else "nvcc" if shutil.which("nvcc") else None


def cubin(source: Source, target: str, double: bool) -> bytes:
    """The machine code of a file's kernels for a GPU like sm_70. AssertionError with the log."""
    build = _by_nvrtc if compiler() == "nvrtc" else _by_nvcc
    options = (*compile_options(double), *wmma_headers(source))
    return build(source.text, target, options, source.path.name)


def ptx(source: Source, target: str) -> str:
    """The file as NVRTC's assembly language."""
    return _by_nvrtc(source.text, target, compile_options(False), source.path.name, "PTX").decode()


def _by_nvrtc(
    text: str, target: str, options: tuple[str, ...], name: str, wanted: str = "CUBIN"
) -> bytes:
    library = _library()
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
    words = [f"--gpu-architecture={target}", *options, *(f"-I{path}" for path in _headers())]
    given = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
    failed = library.nvrtcCompileProgram(program, len(words), given)
    log = _get(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
    assert not failed, log.decode()
    get = f"nvrtcGet{wanted}"
    code = _get(getattr(library, get + "Size"), getattr(library, get), program)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code


def _get(size_of, fill, program):
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert fill(program, buffer) == 0
    return buffer.raw


def _by_nvcc(text: str, target: str, options: tuple[str, ...], name: str) -> bytes:
    known = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True).stdout
    number = int(re.search(r"\d+", target)[0])
    lowest = min(int(n) for n in re.findall(r"sm_(\d+)\b", known))
    target = target if number >= lowest else f"sm_{lowest}"  # nvcc 13 has left sm_70 behind
    with tempfile.TemporaryDirectory() as folder:
        written, built = Path(folder) / name, Path(folder) / "cubin"
        written.write_text(text, "utf-8")
        words = ["nvcc", "-cubin", f"-arch={target}", *options, str(written), "-o", str(built)]
        answer = subprocess.run(words, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return built.read_bytes()


@cache
def _library():
    files = [f for path in _wheel("cuda_nvrtc") for f in (path / "lib").glob("libnvrtc.so.*")]
    if not files:
        return None
    library = ctypes.CDLL(str(files[0]))
    library.nvrtcCompileProgram.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    return library


def _headers() -> list[Path]:
    """Of half, bfloat16, asynchronous copies and WMMA, which NVRTC lacks; CuPy looks there, too."""
    return [path / "include" for path in _wheel("cuda_runtime")]


def _wheel(part: str) -> list[Path]:
    if importlib.util.find_spec("nvidia") is None:
        return []
    spec = importlib.util.find_spec(f"nvidia.{part}")
    return [Path(path) for path in spec.submodule_search_locations] if spec else []
