"""The museum: each broken kernel is found with the right diagnosis; its repaired sibling is clean.

A file's first line says `// kind: variable: part of the message`; `<- here` marks the guilty lines.
"""

from pathlib import Path

import pytest

from minseg import kernels
from minseg.emulator.samples import samples
from minseg.emulator.sanitize import sanitize

MUSEUM = sorted((Path(__file__).parent / "museum").glob("*.cu"))


def expectation(path):
    first, *lines = path.read_text().split("\n")
    kind, variable, message = (part.strip() for part in first.removeprefix("//").split(":", 2))
    guilty = {i for i, line in enumerate(lines, start=2) if line.endswith("<- here")}
    return kind, variable, message, guilty


def findings(path, name):
    cases = samples(kernels.kernel_info(f"{path}:{name}"))
    assert cases
    return [f for kernel, arguments in cases for f in sanitize(kernel, *arguments, seconds=2)]


def test_the_museum_is_large_enough():
    assert len(MUSEUM) >= 24


@pytest.mark.parametrize("path", MUSEUM, ids=lambda p: p.stem)
def test_the_broken_kernel_is_found(path):
    kind, variable, message, guilty = expectation(path)
    found = findings(path, "broken")
    matching = [f for f in found if f.kind == kind and f.variable == variable]
    assert matching, "\n".join(map(str, found)) or "nothing found"
    first = matching[0]
    assert message in first.message
    lines = {side.line for side in (first.now, first.before) if side and side.line} or {first.line}
    assert lines <= guilty
    assert first.file == path.name
    assert f"{path.name}:{first.line}" in str(first)


@pytest.mark.parametrize("path", MUSEUM, ids=lambda p: p.stem)
def test_the_repaired_kernel_is_clean(path):
    assert not findings(path, "fixed")
