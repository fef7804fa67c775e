"""The profiler against traffic counted on paper, and against itself under another compiler."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from minseg import kernels
from minseg.emulator import compiler, instrumented
from minseg.emulator.figure import draw_warp
from minseg.emulator.profile import profile
from minseg.emulator.samples import samples

HERE = Path(__file__).parent / "fixtures"
TRAFFIC, BASIC = f"{HERE / 'traffic.cu'}:", f"{HERE / 'basic.cu'}:"


def only(result, kind, array):
    (access,) = [a for a in result.accesses if (a.kind, a.array) == (kind, array)]
    return access


@pytest.mark.parametrize(
    ("kernel", "sectors"),
    [("neighbours", 4), ("strided", 32), ("broadcast", 1), ("shifted", 5), ("half_a_warp", 2)],
)
def test_sectors_of_one_request(kernel, sectors):
    x, y = np.ones(256, np.float32), np.ones(32, np.float32)
    result = profile(TRAFFIC + kernel, x, y)
    load = only(result, "load", "x")
    assert (load.requests, load.sectors) == (1, sectors)
    assert load.accesses == (16 if kernel == "half_a_warp" else 32)
    assert result.divergence == (1 if kernel == "half_a_warp" else 0)


def test_bytes_moved_and_least():
    x, y = np.ones(256, np.float32), np.ones(32, np.float32)
    result = profile(TRAFFIC + "strided", x, y, operations=64)
    assert result.bytes_moved == 32 * 32 + 4 * 32
    assert result.bytes_least == 2 * 32 * 4
    assert result.intensity == 64 / result.bytes_moved
    assert result.per_thread("load", shared=False) == 1
    assert result.per_thread("store", shared=False) == 1


def test_the_figure_shows_the_sectors_that_move_and_says_what_a_box_is():
    x, y = np.ones(256, np.float32), np.ones(32, np.float32)
    figure = draw_warp(profile(TRAFFIC + "neighbours", x, y))
    for axes in figure.axes:
        (image,) = axes.images
        assert np.ma.count(image.get_array()) == 4  # 32 lanes of 4 bytes: 4 sectors of 32
    assert "a box: 32 bytes" in figure.get_supxlabel()


def test_an_empty_grid_has_nothing_to_count():
    x = np.ones(0, np.float32)
    with pytest.raises(ValueError, match=r"its grid \(0, 1, 1\) is empty"):
        profile(BASIC + "saxpy", x, x.copy(), 2.0, 0)


def test_a_float4_is_one_access_of_16_bytes():
    x, y = np.ones((32, 4), np.float32), np.empty((32, 4), np.float32)
    result = profile(TRAFFIC + "wide", x, y)
    for kind, array in (("load", "x"), ("store", "y")):
        access = only(result, kind, array)
        assert (access.bytes, access.requests, access.sectors) == (16, 1, 16)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 8, 16, 31, 32, 33])
def test_bank_conflicts(step):
    result = profile(TRAFFIC + "banks", np.empty(32, np.float32), step)
    for kind in ("load", "store"):
        assert only(result, kind, "values").conflicts == math.gcd(step, 32) - 1
    assert result.barriers == 1


def test_a_transpose_through_shared_memory_on_paper():
    """A warp is two rows of a tile of 16 x 16: 2 times 64 bytes, or 4 sectors, in and out."""
    x = np.ones((32, 48), np.float32)
    result = profile(BASIC + "transpose", x, x.T.copy(), 32, 48)
    counts = [result.per_thread(k, shared) for shared in (False, True) for k in ("load", "store")]
    assert counts == [1, 1, 1, 1]
    assert (result.loads_of("x"), result.loads_of("y")) == (32 * 48, 0)
    assert result.sectors_a_request == 4
    each = "1.00 loads, 1.00 stores"
    assert f"a thread:   {each} global, {each} shared\n" in str(result)


def test_the_table_names_lines_and_arrays():
    x = np.ones(1000, np.float32)
    text = str(profile(BASIC + "saxpy", x, x.copy(), 2.0, 1000))
    assert "saxpy (basic.cu): 4 blocks, 1024 threads" in text
    assert "1.95 loads, 0.98 stores global, 0.00 loads" in text  # of 1000 of 1024 threads
    assert "load x" in text
    assert "store y" in text


@pytest.mark.skipif(
    not (shutil.which("g++") and shutil.which("clang++")), reason="needs g++ and clang++"
)
def test_the_same_figures_with_both_compilers(monkeypatch):
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    image = x[:960].reshape(40, 24).copy()
    launches = [
        (BASIC + "saxpy", x, x.copy(), 2.0, 1000),
        (BASIC + "sum_blocks", x, np.empty(4, np.float32), 1000),
        (BASIC + "sum_warps", x, np.empty(4, np.float32), 1000),
        (BASIC + "transpose", image, image.T.copy(), *image.shape),
    ]
    # Only where a kernel reads each element once, as these do: g++ may merge two reads, clang not.
    for name in ("adam_update", "norm_grad_sums", "cross_entropy_grad_target"):
        launches += [(instance, *of) for instance, of in samples(kernels.kernel_info(name))]
    caches = (compiler.compiler, compiler.version, instrumented._executable)
    results = []
    for command in ("g++", "clang++"):
        monkeypatch.setenv("CXX", command)
        for cache in caches:
            cache.cache_clear()
        results.append([profile(*launch) for launch in launches])
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()
    assert results[0] == results[1]


def test_a_kernel_that_fails_has_no_profile():
    x = np.ones(10, np.float32)
    with pytest.raises(RuntimeError, match=r"saxpy .* cannot be profiled"):
        profile(BASIC + "saxpy", x, None, 2.0, 10)
