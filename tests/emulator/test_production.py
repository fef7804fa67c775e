"""The kernels of the project on their sample lines: no finding, and no barrier without a need."""

import re
import shutil
from pathlib import Path

import pytest

from minseg import kernels
from minseg.emulator.samples import samples
from minseg.emulator.sanitize import sanitize

FOLDER = Path(__file__).parent.parent.parent / "kernels"
BARRIER = re.compile(r"__sync(threads|warp)\(\);")


def launches(path):
    return [launch for kernel in kernels.load(path).kernels.values() for launch in samples(kernel)]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.cu")), ids=lambda p: p.stem)
def test_no_findings(path):
    for name, arguments in launches(path):
        assert not sanitize(name, *arguments), name


def barriers():
    for path in sorted([*FOLDER.glob("*.cu"), FOLDER / "common.cuh"]):
        for number in range(len(BARRIER.findall(path.read_text()))):
            yield pytest.param(path, number, id=f"{path.stem}-{number}")


@pytest.mark.parametrize(("path", "number"), list(barriers()))
def test_every_barrier_is_needed(path, number, tmp_path):
    """Without it, the sanitizer reports a race in some kernel that passes it."""
    folder = shutil.copytree(FOLDER, tmp_path / "kernels")
    text = path.read_text()
    at = list(BARRIER.finditer(text))[number]
    (folder / path.name).write_text(text[: at.start()] + text[at.end() :])
    files = [folder / path.name] if path.suffix == ".cu" else sorted(folder.glob("*.cu"))
    used = False
    for file in files:
        source = kernels.load(file)
        for kernel in source.kernels.values():
            if not source.reaches(kernel.name) & users(text, at.start()):
                continue
            for name, arguments in samples(kernel):
                used = True
                if any(f.kind == "racecheck" for f in sanitize(name, *arguments)):
                    return
    if not used:
        pytest.skip("no kernel with a sample line passes this barrier")
    pytest.fail(f"{path.name}: no race without barrier {number}: {text[: at.start()][-200:]}")


def users(text, position):
    """The barrier itself, or in a header, the function that it stands in."""
    heads = re.findall(
        r"^(?:__device__|__global__)[^;{]*?(\w+)\s*\(", text[:position], re.MULTILINE
    )
    return {heads[-1]} if heads and "__global__" not in text else {"__syncthreads", "__syncwarp"}
