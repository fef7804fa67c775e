"""Every rung of the ladder computes the same product, and the sanitizer finds nothing in it."""

from pathlib import Path

import numpy as np
import pytest

from minseg.emulator.sanitize import sanitize
from minseg.kernels import kernels_folder, launch, load
from tests.witness import assert_agree

RUNGS = sorted(kernels_folder().glob("ladder/matmul/v*.cu"))
TF32 = {"matmul_wmma", "matmul_mma"}
# M, K, L: tiles that fit, and sizes that divide by nothing; K of one step, and of many
SIZES = [(64, 32, 64), (37, 19, 45), (130, 8, 129), (1, 1, 1), (16, 67, 100)]


def kernel_of(path: Path) -> str:
    (name,) = load(path).kernels
    return name


def operands(m, k, l):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, l))
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", RUNGS, ids=lambda path: path.stem)
def test_rung_computes_the_product(path, size):
    a, b = operands(*size)
    c = np.full((size[0], size[2]), np.nan, np.float32)
    launch(f"{path}:{kernel_of(path)}", a, b, c, *size)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    if kernel_of(path) in TF32:
        # Either operand errs by at most 2^-11 of itself, so a product by 2^-10 of itself.
        bound = 2.0**-10 * (np.abs(a).astype(np.float64) @ np.abs(b)) + 1e-6
        assert (np.abs(c - exact) <= bound).all()
    else:
        assert_agree(c, exact, np.float32, length=size[1])


@pytest.mark.parametrize("path", RUNGS, ids=lambda path: path.stem)
def test_rung_is_sane(path):
    m, k, l = 37, 19, 45
    a, b = operands(m, k, l)
    findings = sanitize(f"{path}:{kernel_of(path)}", a, b, np.empty((m, l), np.float32), m, k, l)
    assert findings == []
