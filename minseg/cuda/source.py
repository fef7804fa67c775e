"""Reading a CUDA source file: its kernels, their signatures and launch lines, its constants.

This is no C++ front end. It knows as much of the language as the launch of a kernel needs: which
functions there are, what a parameter list says, what `ceil_div(n, TILE)` is computed of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from minseg.cuda.expression import evaluate
from minseg.cuda.text import ELSE, blank, closing, split_commas, without_directives

_SIZES = {
    "bool": 1, "char": 1, "short": 2, "int": 4, "uint": 4, "long long": 8, "size_t": 8, "float": 4,
    "double": 8, "half": 2, "__half": 2, "__nv_bfloat16": 2, "int8_t": 1, "uint8_t": 1,
    "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4, "int64_t": 8, "uint64_t": 8,
}  # fmt: skip
HOPPER = "sm_90a"  # the target of wgmma: code for it runs on Hopper GPUs only
ROLES = ("in", "out", "inout")
# The name of what code uses without naming it: operators, and what stands outside of functions.
OPERATORS = "operator"
_ATTRIBUTE = (
    r"\b(?:__launch_bounds__|__align__|alignas|__attribute__)\s*"
    r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
)


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter: `const float* __restrict__ x` has ctype "float", pointer, const."""

    name: str
    ctype: str  # without const, volatile, restrict and the star; one spelling a type
    pointer: bool
    const: bool
    role: str  # "in", "out", "inout"; "" for a scalar


@dataclass(frozen=True, eq=False)
class Kernel:
    """A `__global__` function and the launch line above it."""

    name: str
    line: int
    source: Source = field(repr=False)
    parameters: tuple[Parameter, ...]
    template: tuple[tuple[str, str], ...]  # (kind, name): ("int", "TILE"), ("typename", "T")
    grid: tuple[str, ...]
    block: tuple[str, ...]
    shared: str
    max_threads: str  # the first argument of __launch_bounds__, or ""
    samples: tuple[str, ...]  # `// sample:` lines, see minseg.emulator.samples
    plain_name: bool  # extern "C": the binary has it under its own name
    position: int  # of its `__global__` in the source's code

    @cached_property
    def _constants(self) -> tuple[dict[str, str], dict[str, str]]:
        return _constants(self, {}), _constants(self, {"MINSEG_DOUBLE": "1"})

    def constants(self, double: bool) -> dict[str, str]:
        """The `#define`s and `constexpr`s above it that hold when `scalar` is float, or double."""
        return self._constants[double]

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def parameter_types(self) -> list[tuple[str, bool]]:
        return [(p.ctype, p.pointer) for p in self.parameters]

    def __str__(self) -> str:
        return f"{self.name} ({self.path.name}:{self.line})"


@dataclass(frozen=True, eq=False)
class Source:
    """A `.cu` file with its quoted includes put in, and what was read from it."""

    path: Path
    files: dict[Path, int]  # itself and what it includes, with the time of their last change
    text: str  # includes expanded; `#line` lines keep file names and line numbers right
    code: str  # the same, `blank`ed
    kernels: dict[str, Kernel] = field(default_factory=dict)
    bodies: dict[str, str] = field(default_factory=dict)  # function, class or macro: its code
    spans: list[tuple[int, int]] = field(default_factory=list)  # of functions and classes, in code

    @property
    def target(self) -> str:
        """The lowest GPU that it is for, by its first line: "sm_70"; "" if that does not say."""
        first = re.match(r"#line.*\n// (sm_\d+a?)\b", self.text)
        return first[1] if first else ""

    def unchanged(self) -> bool:
        """Is all that was read still as it was on disk?"""
        return all(f.is_file() and f.stat().st_mtime_ns == t for f, t in self.files.items())

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        """The names that each body uses."""
        return {name: set(re.findall(r"[A-Za-z_]\w*", code)) for name, code in self.bodies.items()}

    def reaches(self, kernel: str) -> set[str]:
        """Every name that the kernel uses, itself or through a function or macro of this file."""
        found = {kernel, OPERATORS}
        todo = [kernel, OPERATORS]
        while todo:
            name = todo.pop()
            new = self._names.get(name, set()) - found
            found |= new
            todo += new
        return found

    def code_of(self, kernel: str) -> str:
        """The code of the kernel and of all that it `reaches`."""
        return "\n".join(self.bodies.get(name, "") for name in sorted(self.reaches(kernel)))


def read_source(path: Path) -> Source:
    """Read a `.cu` file. ValueError names file and line of what cannot be understood."""
    files: dict[Path, int] = {}
    text = _expand(path, files)
    source = Source(path, files, text, blank(text))
    _read_bodies(source)
    end = 0
    for match in re.finditer(r"__global__\b", without_directives(source.code)):
        kernel = _read_kernel(source, match.start(), end)
        end = match.end()
        if kernel is not None:
            first = source.kernels.setdefault(kernel.name, kernel)
            if first.parameter_types != kernel.parameter_types:  # alike: of an #if, and its #else
                file, line = place(source, match.start())
                raise ValueError(f"{file}:{line}: {first} has the same name, and other parameters: "
                                 "rename one of the two kernels")  # fmt: skip
            source.kernels[kernel.name] = kernel
    return source


def _closing(source: Source, start: int) -> int:
    """The same, in a file; the error says where."""
    try:
        return closing(source.code, start)
    except ValueError as error:
        file, line = place(source, start)
        raise ValueError(f"{file}:{line}: {error}") from None


def place(source: Source, position: int) -> tuple[str, int]:
    """File name and line of a position in the expanded text, by its last `#line`."""
    name, line = source.path.name, 1
    for text in source.text[:position].split("\n")[:-1]:
        mark = re.match(r'#line (\d+) "(.*)"', text)
        if mark:
            line, name = int(mark[1]), mark[2]
        else:
            line += 1
    return name, line


def _expand(path: Path, seen: dict[Path, int]) -> str:
    """The file's text, each `#include "..."` replaced by that file's, once."""
    seen[path.resolve()] = path.stat().st_mtime_ns
    out = [f'#line 1 "{path.name}"']
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path.name}:{number}: this is not UTF-8, as which to save it") from None
    codes = blank(text).split("\n")
    for number, (line, code) in enumerate(zip(text.split("\n"), codes, strict=True), start=1):
        include = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not include or not code.strip():  # in a comment
            out.append("" if re.match(r"\s*#\s*pragma\s+once", line) else line)
            continue
        candidates = [folder / include[1] for folder in (path.parent, *path.parents[1:3])]
        found = next((c for c in candidates if c.is_file()), None)
        if found is None:
            raise ValueError(f'{path.name}:{number}: #include "{include[1]}": no such file beside '
                             "it (name a header of CUDA's in < >)")  # fmt: skip
        if found.resolve() not in seen:
            out.append(_expand(found, seen))
        out.append(f'#line {number + 1} "{path.name}"')
    return "\n".join(out)


def _read_bodies(source: Source) -> None:
    """Note the code of each function, class and macro of the file; of several of a name, all.

    What stands outside of them (`using Tile = Rows<16>;`) belongs to OPERATORS.
    """

    def note(name: str, code: str) -> None:
        source.bodies[name] = f"{source.bodies.get(name, '')}\n{code}"

    for match in re.finditer(r"^[ \t]*#[ \t]*define[ \t]+(\w+)((?:.*\\\n)*.*)$", source.code, re.M):
        note(match[1], match[2])
    code = without_directives(source.code)
    position = 0
    while (start := code.find("{", position)) >= 0:
        end = _closing(source, start)
        outside, _, head = code[position:start].rpartition(";")
        note(OPERATORS, outside)
        if re.match(r"[\s}]*(inline\s+)?(namespace\b|extern\s*)", head) and "(" not in head:
            position = start + 1  # read what is inside
            continue
        head = re.sub(_ATTRIBUTE, " ", head)
        names = re.findall(r"([A-Za-z_]\w*)\s*\(", head)  # several: a macro's call stands before it
        names = names or re.findall(r"(?:struct|class|union)\s+(\w+)", head) or [OPERATORS]
        for name in names:
            note(name, code[start : end + 1])
        source.spans.append((start, end))
        position = end + 1


def _read_kernel(source: Source, start: int, previous: int) -> Kernel | None:
    """The kernel whose `__global__` stands at `start`; None for a mere declaration.

    Nor is `template __global__ void k<16>(...)` a kernel of its own, or a specialization.
    """
    code = source.code
    file, line = place(source, start)
    bounds = re.compile(r"__launch_bounds__\s*(\()").search(code, start, code.find("{", start) + 1)
    max_threads = ""
    head_end = start
    if bounds:
        head_end = _closing(source, bounds.start(1))
        max_threads = split_commas(code[bounds.start(1) + 1 : head_end])[0]
    name = re.compile(r"([A-Za-z_]\w*)\s*(<[^;{}()]*>\s*)?(\()").search(code, head_end)
    if name is None:
        raise ValueError(f"{file}:{line}: __global__ without a function")
    end = _closing(source, name.start(3))
    if name[2] or not code[end + 1 :].lstrip().startswith("{"):
        return None
    where = f"{file}:{line}: kernel {name[1]}"
    for space in re.finditer(r"\bnamespace\s+([A-Za-z_][\w:]*)\s*(\{)", code[:start]):
        if _closing(source, space.start(2)) > start:
            raise ValueError(f"{where}: put it outside of namespace {space[1]}")
    launch = _launch_line(source.text[previous:start], where)
    roles = {n: role for role in ROLES for n in re.split(r"[\s,]+", launch.get(role, "")) if n}
    parameters = []
    for text in split_commas(code[name.start(3) + 1 : end], angles=True):
        parameter = _read_parameter(text, roles, where)
        parameters.append(parameter)
        roles.pop(parameter.name, None)
    if roles:
        raise ValueError(f"{where}: the launch line names {', '.join(roles)}: no such pointer")
    template = re.search(r"template\s*<([^{};]*)>[^{};<>]*$", code[previous:start])
    kinds = []
    for text in split_commas(template[1], angles=True) if template else []:
        kind, _, named = text.partition("=")[0].strip().rpartition(" ")
        kinds.append((" ".join(kind.split()), named))
    return Kernel(
        name=name[1],
        line=line,
        source=source,
        parameters=tuple(parameters),
        template=tuple(kinds),
        grid=_tuple_of(launch["grid"], where),
        block=_tuple_of(launch["block"], where),
        shared=launch.get("shared", "0"),
        max_threads=max_threads,
        samples=tuple(re.findall(r"// sample:(.*)", source.text[previous:start])),
        plain_name=source.text[previous:start].rstrip().endswith('extern "C"'),
        position=start,
    )


def _launch_line(text: str, where: str) -> dict[str, str]:
    """`// launch: grid=(...) block=(...) in: x out: y`, possibly continued on `//` lines below."""
    start = text.rfind("// launch:")
    if start < 0:
        raise ValueError(f"{where}: no line `// launch: grid=(...) block=(...) in: ... out: ...`")
    first, *rest = text[start + len("// launch:") :].split("\n")
    for line in rest:
        more = re.match(r"\s*//\s*((?:in|out|inout):.*|(?:grid|block|shared)=.*)", line)
        if not more:
            break
        first += " " + more[1]
    pieces = re.split(r"\b(grid|block|shared)\s*=|\b(in|out|inout):", first)
    keys = [a or b for a, b in zip(pieces[1::3], pieces[2::3], strict=True)]
    launch = {key: value.strip() for key, value in zip(keys, pieces[3::3], strict=True)}
    for key in ("grid", "block"):
        if key not in launch:
            raise ValueError(f"{where}: the launch line has no {key}=(...)")
    return launch


def _tuple_of(text: str, where: str) -> tuple[str, ...]:
    try:
        inner = text[1:-1] if text.startswith("(") and closing(text, 0) == len(text) - 1 else text
    except ValueError as error:
        raise ValueError(f"{where}: {text!r} in the launch line has {error}") from None
    parts = split_commas(inner)
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"{where}: {text!r} must have 1 to 3 dimensions")
    return tuple(parts)


def _read_parameter(text: str, roles: Mapping[str, str], where: str) -> Parameter:
    text = text.partition("=")[0].strip()  # without a default
    words = re.findall(r"[A-Za-z_]\w*|\*", text)
    words = [w for w in words if w not in ("__restrict__", "__restrict", "volatile")]
    if len(words) < 2 or words.count("*") > 1 or re.search(r"[&\[<]", text):
        raise ValueError(f"{where}: parameter {text!r}: give a scalar or a plain pointer")
    name = words[-1]
    pointer, const = "*" in words, "const" in words
    if pointer and name not in roles:
        raise ValueError(f"{where}: the launch line says neither in, out nor inout of {name!r}")
    if not pointer and name in roles:
        raise ValueError(f"{where}: the launch line names {name!r}, which is no pointer")
    ctype = spelling(" ".join(w for w in words[:-1] if w not in ("*", "const")))
    return Parameter(name, ctype, pointer, const, roles.get(name, ""))


def spelling(ctype: str) -> str:
    """One spelling a type: "unsigned" and "unsigned int" are the same."""
    words = ctype.split()
    if "unsigned" in words or "signed" in words or "long" in words or "short" in words:
        sign = "unsigned " if "unsigned" in words else ""
        if "char" in words:
            return f"{sign}char"
        size = "long long" if "long" in words else "short" if "short" in words else "int"
        return sign + size
    return " ".join(words)


def _constants(kernel: Kernel, defined: dict[str, str]) -> dict[str, str]:
    """`#define`s and the file's constexprs above a kernel; `#if` and its kin are followed."""
    source, constants = kernel.source, dict(defined)
    spans = iter([*source.spans, (len(source.code), len(source.code))])
    first, last = next(spans)
    active = [True]
    taken = [True]
    for match in re.finditer(r"(?:.*\\\n)*.*", source.code[: kernel.position]):
        line = match[0].replace("\\\n", " ")
        directive = re.match(r"\s*#\s*(\w+)\s*(.*)", line)
        word, rest = (directive[1], directive[2].strip()) if directive else ("", line)
        try:
            if word in ("if", "ifdef", "ifndef"):
                holds = _holds(word, rest, constants)
                active.append(active[-1] and holds)
                taken.append(holds)
            elif word in (*ELSE, "endif") and len(active) == 1:
                raise ValueError("there is no #if that it belongs to")
            elif word in ELSE:
                holds = not taken[-1] and (word == "else" or _holds("if", rest, constants))
                active[-1] = active[-2] and holds
                taken[-1] = taken[-1] or holds
            elif word == "endif":
                active.pop()
                taken.pop()
        except ValueError as error:
            file, number = place(source, match.start())
            raise ValueError(f"{file}:{number}: {line.strip()}: {error}") from None
        while last < match.start():
            first, last = next(spans)
        local = word == "" and first < match.start()  # a constant within a function
        if active[-1] and word == "undef":
            constants.pop(rest, None)
        elif active[-1] and word in ("", "define") and not local:
            found = re.match(r"\s*#\s*define\s+(\w+)[ \t]+(.+)", line) or re.match(
                r"\s*(?:static\s+|__device__\s+|inline\s+)*(?:constexpr|const)\s+[\w\s]*?"
                r"(\w+)\s*=\s*([^;]+);",
                line,
            )
            if found:
                constants[found[1]] = found[2].strip()
            elif word == "define":
                constants.setdefault(rest.split("(")[0].strip() or rest, "1")
    return constants


def _holds(word: str, condition: str, constants: Mapping[str, str]) -> bool:
    if word != "if":
        return (condition in constants) == (word == "ifdef")
    condition = re.sub(
        r"defined\s*\(?\s*(\w+)\s*\)?", lambda m: str(int(m[1] in constants)), condition
    )
    return bool(evaluate(condition, lambda name: constants.get(name, "0")))


def bind(
    kernel: Kernel, values: Mapping[str, int], types: Mapping[str, str], double: bool
) -> Callable[[str], int]:
    """A function that computes an expression of the kernel's launch line.

    Names are first the kernel's own (parameters, template arguments: `values`), then the file's.
    """
    constants = kernel.constants(double)
    sizes = {**_SIZES, "scalar": 8 if double else 4}

    def size_of(ctype: str) -> int:
        name = spelling(types.get(ctype, ctype)).removeprefix("unsigned ")
        vector = re.fullmatch(r"u?(\w+?)([1-4])", name)
        if name in sizes:
            return sizes[name]
        if vector and vector[1] in sizes:
            return sizes[vector[1]] * int(vector[2])
        raise ValueError(f"size of type {ctype!r} is not known")

    def look_up(name: str) -> int | str:
        if name in values:
            return values[name]
        if name in constants:
            return constants[name]
        raise ValueError(f"{name!r} is no parameter and no constant")

    def compute(expression: str) -> int:
        try:
            return evaluate(expression, look_up, size_of)
        except (ValueError, RecursionError) as error:  # RecursionError: names defined by each other
            raise ValueError(f"{kernel}: launch line: {error}") from None

    return compute
