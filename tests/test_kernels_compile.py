"""Every kernel compiles for real GPUs, whether one is there or not."""

import re

import pytest

from minseg import kernels
from tests import nvrtc

FILES = sorted(kernels.kernels_folder().rglob("*.cu"))

pytestmark = pytest.mark.skipif(
    nvrtc.compiler() is None, reason="needs NVRTC (pip install minseg[test]) or nvcc"
)


def lowest_target(path):
    first = path.read_text("utf-8").splitlines()[0]
    target = re.match(r"// (sm_\d+a?)", first)
    assert target, f"{path.name}: the first line is {first!r}, needs the lowest target: // sm_70"
    return target[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_compiles(path):
    """For its lowest target in float, and for sm_90 in double (sm_90a code runs there only)."""
    lowest = lowest_target(path)
    source = kernels.load(path)
    for target, double in ((lowest, False), (lowest if lowest == "sm_90a" else "sm_90", True)):
        code = nvrtc.cubin(source, target, double)
        assert code.startswith(b"\x7fELF")
        assert all(name.encode() in code for name in source.kernels)


@pytest.mark.skipif(nvrtc.compiler() != "nvrtc", reason="needs NVRTC: pip install minseg[test]")
def test_the_hopper_rung_is_made_of_wgmma():
    (path,) = (path for path in FILES if path.stem == "v9_wgmma")
    text = nvrtc.ptx(kernels.load(path), "sm_90a")
    step = "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32"
    assert text.count(step) == 4  # 32 along K a step of the loop, 8 an instruction
    order = ["fence.proxy.async.shared::cta", "bar.sync", "wgmma.fence", step, "wgmma.commit_group",
             "wgmma.wait_group"]  # fmt: skip
    places = [text.index(name) for name in order]
    assert places == sorted(places)


def test_a_fault_is_reported():
    source = kernels.load(FILES[0])
    broken = type(source)(source.path, source.files, source.text + "\nint x = y;", source.code)
    with pytest.raises(AssertionError, match='identifier "y" is undefined'):
        nvrtc.cubin(broken, "sm_90", False)
