"""Arguments for a kernel, from the `// sample:` lines above it: a `.cu` file is checked with these.

`// sample: n=1000 x=(n) labels=(n)%4 bias=null` gives every parameter a value: a scalar, an array
of a shape (with %4: of integers below 4), or no array. `scalar=double` makes `scalar` double. A
template's arguments come first: `// sample: <16> n=...`.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np

from minseg.cuda.expression import evaluate
from minseg.cuda.source import Kernel, Parameter
from minseg.cuda.text import split_commas
from minseg.kernels import DTYPES, VECTORS

_ITEM = re.compile(r"(\w+)=(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)(?:%\S+)?|\S+)")
_FLOAT = re.compile(r"[-+]?(?=.*[.eE])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?")  # 1e-5, 2.f


def samples(kernel: Kernel) -> list[tuple[str, tuple[Any, ...]]]:
    """For each sample line: the kernel's name as `launch` takes it, and its arguments."""
    return [_sample(kernel, line.strip()) for line in kernel.samples]


def _sample(kernel: Kernel, line: str) -> tuple[str, tuple[Any, ...]]:
    template = ""
    if line.startswith("<"):
        template, _, line = line.partition(">")
    given = dict(_ITEM.findall(line))
    unknown = given.keys() - {p.name for p in kernel.parameters} - {"scalar"}
    missing = {p.name for p in kernel.parameters} - given.keys()
    if unknown or missing:
        what = f"unknown {sorted(unknown)}" if unknown else f"no value for {sorted(missing)}"
        raise ValueError(f"{kernel}: sample line: {what}")
    double = given.pop("scalar", "float") == "double"
    values = split_commas(template[1:])
    if len(values) != len(kernel.template):
        wanted = ", ".join(n for _, n in kernel.template)
        raise ValueError(f"{kernel}: sample line: template arguments {values}, needs <{wanted}>")
    types = dict(zip((n for _, n in kernel.template), values, strict=True))
    known = {**kernel.constants(double), **types, **given}

    def value_of(name: str) -> str:
        if name not in known:
            raise ValueError(f"{name!r} is no parameter and no constant")
        return known[name]

    def number(text: str) -> int:
        try:
            return evaluate(text, value_of)
        except (ValueError, RecursionError) as error:  # RecursionError: names defined by each other
            raise ValueError(f"{kernel}: sample line: {error}") from None

    arguments: list[Any] = []
    for parameter in kernel.parameters:
        text = given[parameter.name]
        if text == "null":
            arguments.append(None)
        elif not parameter.pointer:
            is_float = _FLOAT.fullmatch(text)
            arguments.append(float(text.rstrip("fF")) if is_float else number(text))
        else:
            if not text.startswith("("):
                raise ValueError(f"{kernel}: sample line: {parameter.name} is an array: give its "
                                 f"shape, as in {parameter.name}=(n), or null")  # fmt: skip
            shape, _, limit = text.rpartition("%") if "%" in text else (text, "", "10")
            ctype = types.get(parameter.ctype, parameter.ctype)
            ctype = {"scalar": "double" if double else "float"}.get(ctype, ctype)
            if VECTORS.get(ctype, (ctype, 1))[0] not in DTYPES:
                raise ValueError(
                    f"{kernel}: {parameter.name}: arrays of C type {ctype} are not known"
                )
            sizes = [number(part) for part in split_commas(shape[1:-1])]
            if min(sizes, default=0) < 0:
                raise ValueError(f"{kernel}: sample line: {parameter.name} has the shape {sizes}")
            arguments.append(_array(parameter, ctype, sizes, number(limit)))
    path = f"{kernel.path}:{kernel.name}" + (f"{template}>" if template else "")
    return path, tuple(arguments)


def _array(parameter: Parameter, ctype: str, shape: list[int], limit: int) -> np.ndarray:
    item, lanes = VECTORS.get(ctype, (ctype, 1))
    dtype = np.dtype(DTYPES[item])
    rng = np.random.default_rng(zlib.crc32(parameter.name.encode()))
    shape = [*shape, lanes] if lanes > 1 else shape
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else limit, shape).astype(dtype)
