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


def test_a_fault_is_reported():
    source = kernels.load(FILES[0])
    broken = type(source)(source.path, source.files, source.text + "\nint x = y;", source.code)
    with pytest.raises(AssertionError, match='identifier "y" is undefined'):
        nvrtc.cubin(broken, "sm_90", False)
