"""The Hopper rung without a Hopper GPU: its tiles and descriptors, read as the PTX ISA says.

The kernel itself runs in the emulator; `wgmma` is a definition of the tests' own. What only the GPU
can show remains: the instruction itself, its fences, and the time.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from minseg.emulator.profile import profile
from minseg.emulator.sanitize import sanitize
from minseg.kernels import kernels_folder, launch

DEFINITION = Path(__file__).parent / "emulator" / "fixtures" / "wgmma.cuh"
RUNG = "ladder/matmul/v9_wgmma.cu"
INCLUDE = '#include "../../common.cuh"'
# M, K, L: a tile that fits; sizes that divide by nothing; several blocks and buffers; a K of 4's.
SIZES = [(128, 32, 128), (37, 19, 45), (130, 70, 129), (1, 1, 1), (20, 100, 8)]


def rung(folder: Path, old: str = "", new: str = "") -> str:
    """The kernel's name in a copy that takes wgmma by definition, with `old` replaced by `new`."""
    folder = shutil.copytree(kernels_folder(), folder / "kernels")
    text = (folder / RUNG).read_text("utf-8")
    assert old in text
    text = text.replace(old, new) if old else text
    text = text.replace("// sm_90a", "// sm_80: wgmma by definition", 1)
    text = text.replace(INCLUDE, f'{INCLUDE}\n#include "{DEFINITION}"')
    (folder / RUNG).write_text(text, "utf-8")
    return f"{folder / RUNG}:matmul_wgmma"


def multiply(name: str, m: int, k: int, l: int, run=launch):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, l)))
    c = np.full((m, l), np.nan, np.float32)
    return run(name, a, b, c, m, k, l), a.astype(np.float64), b.astype(np.float64), c


def within_tf32(a, b, c) -> bool:
    """Either operand errs by at most 2^-11 of itself, so a product by 2^-10 of itself."""
    return bool((np.abs(c - a @ b) <= 2.0**-10 * (np.abs(a) @ np.abs(b)) + 1e-6).all())


@pytest.mark.parametrize("size", SIZES)
def test_the_tensor_core_finds_every_element_where_the_kernel_put_it(size, tmp_path):
    _, *arrays = multiply(rung(tmp_path), *size)
    assert within_tf32(*arrays)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(q ^ r % 8) * CHUNK", "q * CHUNK"),  # rows left as they are
        ("(q ^ r % 8) * CHUNK", "(q ^ r % 4) * CHUNK"),  # the 64-byte swizzle's
        ("group = 1024 / 16", "group = 512 / 16"),  # atoms of 4 rows
        ("b_tile + k)", "b_tile)"),  # the same 8 of the sum, four times
        ("group * 64 * DEPTH + k", "k"),  # both groups multiply the first 64 rows
    ],
)
def test_a_wrong_layout_is_noticed(old, new, tmp_path):
    _, *arrays = multiply(rung(tmp_path, old, new), 128, 32, 128)
    assert not within_tf32(*arrays)


def test_one_barrier_a_step_is_enough_and_needed(tmp_path):
    findings, *_ = multiply(rung(tmp_path), 37, 70, 45, run=sanitize)
    assert findings == []
    bare = rung(tmp_path / "bare", "__syncthreads();", "")
    findings, *_ = multiply(bare, 37, 70, 45, run=sanitize)
    assert "racecheck" in {finding.kind for finding in findings}


def test_the_swizzle_keeps_the_stores_out_of_each_others_banks(tmp_path):
    counted, *_ = multiply(rung(tmp_path), 128, 32, 128, run=profile)
    stores = [a for a in counted.accesses if a.kind == "store" and a.shared]
    assert stores
    assert all(a.bytes == 16 and a.conflicts == 0 for a in stores)
    plain = rung(tmp_path / "plain", "(q ^ r % 8) * CHUNK", "q * CHUNK")
    counted, *_ = multiply(plain, 128, 32, 128, run=profile)
    assert any(a.conflicts for a in counted.accesses if a.kind == "store" and a.shared)


def test_the_emulator_says_what_it_lacks():
    with pytest.raises(RuntimeError, match=r"v9_wgmma\.cu needs a Hopper GPU .* no wgmma"):
        multiply(RUNG + ":matmul_wgmma", 8, 8, 8)
