"""Corners of CUDA C++, each against NumPy or CUDA's documentation written out in Python."""

import platform
from pathlib import Path

import numpy as np
import pytest

from minseg.emulator.compiler import CompileError
from minseg.kernels import launch

HERE = Path(__file__).parent / "fixtures"
BASIC, LANGUAGE = f"{HERE / 'basic.cu'}:", f"{HERE / 'language.cu'}:"
rng = np.random.default_rng(7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 255, 256, 257, 100_003])
def test_saxpy_guards_its_last_block(dtype, n):
    x, y = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    expected = y.astype(np.float64) + 1.5 * x
    launch(BASIC + "saxpy", x, y, 1.5, n)
    eps = np.finfo(dtype).eps
    assert np.all(np.abs(y - expected) <= 2 * eps * (np.abs(expected) + np.abs(1.5 * x)))


@pytest.mark.parametrize("kernel", ["sum_blocks", "sum_warps"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reductions_over_a_block(kernel, dtype):
    n = 5 * 256 + 77
    x = rng.normal(size=n).astype(dtype)
    partial = np.empty(6, dtype)
    launch(BASIC + kernel, x, partial, n)
    padded = np.pad(x.astype(np.float64), (0, 6 * 256 - n)).reshape(6, 256)
    # A tree of 8 additions: the error is at most 8 roundings of the sum of absolute values.
    bound = 8 * np.finfo(dtype).eps * np.abs(padded).sum(axis=1)
    assert np.all(np.abs(partial - padded.sum(axis=1)) <= bound)


def test_the_same_bits_every_time():
    x = rng.normal(size=100_000).astype(np.float32)
    results = []
    for _ in range(3):
        partial = np.empty(391, np.float32)
        launch(BASIC + "sum_warps", x, partial, x.size)
        results.append(partial.tobytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (33, 70), (100, 5)])
def test_transpose_in_dynamic_shared_memory(shape):
    x = rng.normal(size=shape)
    y = np.empty(shape[::-1])
    launch(BASIC + "transpose", x, y, *shape)
    assert np.array_equal(y, x.T)


def test_positions_in_three_dimensions():
    grid, block = (3, 2, 4), (5, 3, 2)
    y = np.empty((4, 2, 3, 2, 3, 5, 7), np.int32)
    launch(LANGUAGE + "positions", y, *grid, *block)
    bz, by, bx, tz, ty, tx = np.indices(y.shape[:-1])
    for k, expected in enumerate([tx, ty, tz, bx, by, bz]):
        assert np.array_equal(y[..., k], expected)
    assert np.all(y[..., 6] == 24)


@pytest.mark.parametrize("zeros", [0, 1, 40])
def test_block_votes(zeros):
    x = np.ones(40, np.int32)
    x[:zeros] = 0
    y = np.empty((40, 3), np.int32)
    launch(LANGUAGE + "votes", x, y, 40)
    assert np.all(y == [40 - zeros, zeros == 0, zeros < 40])


def shuffled(x, sources):
    return [x[s] if ok else x[i] for i, (s, ok) in enumerate(sources)]


def test_warp_functions_as_documented():
    x = rng.integers(0, 100, 32).astype(np.int32)
    y = np.empty((32, 16), np.int32)
    launch(LANGUAGE + "warp_functions", x, y)
    lanes = np.arange(32)
    odd = int(sum(1 << i for i in range(32) if x[i] & 1))
    expected = [
        [x[5]] * 32,
        x[lanes // 8 * 8 + (lanes + 1) % 8],
        shuffled(x, [(i - 3, i >= 3) for i in lanes]),
        shuffled(x, [(i - 2, i % 4 >= 2) for i in lanes]),
        shuffled(x, [(min(i + 7, 31), i + 7 < 32) for i in lanes]),
        shuffled(x, [(min(i + 1, 31), i % 16 < 15) for i in lanes]),
        x[lanes ^ 9],
        [odd] * 32,
        [int((x > 90).any())] * 32,
        [1] * 32,
        [sum(1 << j for j in range(32) if x[j] % 3 == v % 3) for v in x],
        [0] * 32,  # the values differ
        [x.sum()] * 32,
        [x.min()] * 32,
        [x.max()] * 32,
        [odd & 0xFFFF if i < 16 else odd & 0xFFFF0000 for i in lanes],
    ]
    for k, column in enumerate(expected):
        assert np.array_equal(y[:, k].view(np.uint32), np.array(column).astype(np.uint32)), k


def test_match_all_when_lanes_end_behind_it():
    y = np.empty((32, 4), np.int32)
    launch(LANGUAGE + "matches_all", y)
    assert y.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]] * 16


def test_integer_intrinsics():
    """Against the CUDA Math API's descriptions, in Python's own integers."""
    extremes = [0, 1, -1, 2**31 - 1, -(2**31), 0x7F80FF01, -0x7F80FF02]
    pairs = [(a, b) for a in extremes for b in extremes]
    a, b = np.array(pairs + rng.integers(-(2**31), 2**31, (100, 2)).tolist(), np.int32).T.copy()
    y = np.empty((a.size, 10), np.uint32)
    launch(LANGUAGE + "integers", a, b, y, a.size)
    for p, q, got in zip(a.tolist(), b.tolist(), y.tolist(), strict=True):
        up, uq = p % 2**32, q % 2**32
        low = up.to_bytes(4, "little") + uq.to_bytes(4, "little")
        signs = [v - 256 * (v > 127) for v in low]
        bits = f"{uq:032b}{up:032b}"[::-1]
        expected = [
            int.from_bytes([low[1], low[4], 255 * (low[2] > 127), low[7]], "little"),
            5 + sum(signs[i] * signs[4 + i] for i in range(4)),
            5 + sum(low[i] * low[4 + i] for i in range(4)),
            abs(p - q) + 5,
            abs(up - uq) + 5,
            (p + q) // 2,
            (p + q + 1) // 2,
            (up + uq) // 2,
            (up + uq + 1) // 2,
            int(bits[:32], 2) ^ p * q % 2**32,
        ]
        assert got == [v % 2**32 for v in expected], (p, q)


def test_vectors_from_lists():
    y = np.empty((5, 4), np.float32)
    launch(LANGUAGE + "lists", np.full((1, 4), 12, np.float32), y)
    expected = [[7, 0, 0, 0], [0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 5, 6], [12, 8, 11, 0]]
    assert y.tolist() == expected


def test_multiples_of_pi_are_exact_where_they_can_be():
    quarters = np.arange(-20, 21, dtype=np.float32) / 2
    x = np.concatenate([quarters, quarters + 1e6, [0.25, -0.1, 1e6 + 0.125]]).astype(np.float32)
    y, z = np.empty((x.size, 2), np.float32), np.empty((x.size, 2))
    launch(LANGUAGE + "multiples_of_pi", x, y, z, x.size)
    turns = x.astype(np.float64) % 2  # exact
    exact = np.stack([np.sin(np.pi * turns), np.cos(np.pi * turns)], axis=1)
    assert np.array_equal(z[:82], np.rint(exact[:82]))  # of halves: -1, 0 or 1
    # Those of NumPy are of a rounded angle below 2 pi.
    assert np.abs(z - exact).max() <= 2 * np.pi * 2.0**-52
    assert np.array_equal(y, z.astype(np.float32))


def test_atomics_that_cuda_lacks_do_not_compile(tmp_path):
    file = tmp_path / "max.cu"
    file.write_text("// launch: grid=(1) block=(1)  inout: y\n"
                    "__global__ void k(float* y) {\n    atomicMax(y, 1.0f);\n}\n")  # fmt: skip
    with pytest.raises(CompileError, match="CUDA has no atomicMax of this type") as error:
        launch(f"{file}:k", np.zeros(1, np.float32))
    assert "max.cu:3:" in str(error.value)


def test_atomics():
    i = np.array([0, 0, 0, 0, 0, 0, -1, 0], np.int32)
    u, f = np.zeros(3, np.uint32), np.zeros(2, np.float32)
    d, total = np.zeros(1), np.zeros(1, np.uint64)
    launch(LANGUAGE + "atomics", i, u, f, d, total)
    t = np.arange(256)
    assert i.tolist() == [t.sum(), 255, -255, -256, 77, 2**20 - 1, -(2**20), 0]
    assert u.tolist() == [512, 255, 256 % 10]
    assert f.tolist() == [128, 255]
    assert d.tolist() == [64]
    assert total.tolist() == [256 << 33]


def test_half_and_bfloat16_round_to_nearest_even():
    x = np.concatenate(
        [
            rng.normal(size=2000) * 10.0 ** rng.integers(-9, 6, 2000),
            [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.9, 65520, 1e-8, 5.96e-8, 2.9e-8],
            1 + np.arange(9) / 2**12,  # ties and their neighbours
            2.0**-14 * (1 + np.arange(9) / 2**12),
        ]
    ).astype(np.float32)
    y, h, z = np.empty_like(x), np.empty(x.size, np.float16), np.empty(x.size, np.uint16)
    launch(LANGUAGE + "small_floats", x, y, h, z, x.size)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
        known = ~np.isnan(x)
        assert np.array_equal(h.view(np.uint16)[known], expected.view(np.uint16)[known])
        assert np.array_equal(y, (expected + expected).astype(np.float32), equal_nan=True)
    bits = x.view(np.uint32).astype(np.uint64)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # bfloat16 is a float's upper half
    assert np.array_equal(z[~np.isnan(x)], nearest[~np.isnan(x)].astype(np.uint16))


@pytest.mark.parametrize("n", [4, 256, 1000])
def test_float4_and_asynchronous_copies(n):
    x = rng.normal(size=n).astype(np.float32)
    y, z = np.empty_like(x), np.empty_like(x)
    launch(LANGUAGE + "copies", x, y, z, n)
    assert np.array_equal(y, x)
    assert np.array_equal(z, x)


def test_wmma():
    a, b = (rng.normal(size=(16, 16)).astype(np.float16) for _ in range(2))
    c = np.empty((16, 16), np.float32)
    launch(LANGUAGE + "wmma_tile", a, b, c)  # b lies in memory by columns
    exact = a.astype(np.float64) @ b.astype(np.float64).T
    size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)).T
    assert np.all(np.abs(c - exact) <= 16 * np.finfo(np.float32).eps * size)


def test_wmma_elements_of_a_lane():
    a, b = (rng.integers(-9, 9, (16, 16)).astype(np.float16) for _ in range(2))
    c, sums = np.empty((16, 16), np.float32), np.empty(32, np.float32)
    sizes = np.empty(7, np.int32)
    launch(LANGUAGE + "wmma_elements", a, b, c, sums, sizes)
    assert sizes.tolist() == [16, 16, 16, 16, 16, 4, 8]  # as CUDA's crt/mma.h has it
    assert sums.sum() == 2 * a.astype(np.float32).sum()  # 32 lanes of 16: each element twice
    assert np.array_equal(c, 3 * a.astype(np.float32) @ b.astype(np.float32).T)


def test_wmma_sums_in_half():
    a, b = (rng.normal(size=(16, 16)).astype(np.float16) for _ in range(2))
    c = np.empty((16, 16), np.float16)
    launch(LANGUAGE + "wmma_half_sum", a, b, c)
    exact = 2 * a.astype(np.float64) @ b.astype(np.float64).T
    size = 2 * np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)).T
    # Each of the two sums is rounded to half, by 2^-11 of at most `size`; float32 errs by far less.
    assert np.all(np.abs(c - exact) <= 2 * 2**-11 * size + 16 * np.finfo(np.float32).eps * size)


def test_mma_by_its_definition():
    a, b = rng.normal(size=(16, 8)).astype(np.float32), rng.normal(size=(8, 8)).astype(np.float32)
    c = np.empty((16, 8), np.float32)
    launch(LANGUAGE + "mma_tile", a, b, c)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
    # Each operand is rounded to 11 bits, hence by at most 2^-11; then float32 sums of 8 products.
    assert np.all(np.abs(c - exact) <= (2.01 * 2.0**-11 + 8 * 2.0**-24) * size)


def test_templates():
    x = rng.normal(size=50)
    y = np.empty_like(x)
    launch(LANGUAGE + "power<3, double>", x, y, 50)
    assert np.allclose(y, x**3, rtol=4 * np.finfo(float).eps, atol=0)
    with pytest.raises(TypeError, match=r"power .*: x: got an array of float64, needs float32"):
        launch(LANGUAGE + "power<3, float>", x, y, 50)
    with pytest.raises(ValueError, match="template arguments"):
        launch(LANGUAGE + "power", x, y, 50)


def test_scalars_keep_their_c_types():
    y = np.empty(10)
    launch(LANGUAGE + "scalars", None, y, True, -3, 2**32 - 1, -(2**40), 0.1, 0.1)
    assert y[:7].tolist() == [1, -3, 2**32 - 1, -(2**40), np.float32(0.1), 0.1, -1]
    assert y[7] == 9
    assert y[8] == 3 + 2.5 + 0
    assert y[9] == 0.5 + 1 + 0.25 + 8 + 31
    launch(LANGUAGE + "scalars", np.full(1, 5, np.float32), y, False, 0, 0, 0, 0, 0)
    assert y[6] == 5


def test_printf(capfd):
    launch(LANGUAGE + "says", np.arange(4, dtype=np.int32))
    assert capfd.readouterr().out == "thread 2 sees 2\n"


def test_a_failed_assertion_is_an_exception():
    message = r"language.cu:\d+: block \(0,0,0\), thread \(1,0,0\): assertion `x\[.*\] < 100`"
    with pytest.raises(RuntimeError, match=message):
        launch(LANGUAGE + "says", np.array([1, 200, 3, 4], np.int32))


def test_threads_that_wait_for_ever_are_an_exception():
    with pytest.raises(RuntimeError, match=r"is stuck: thread .* waits at language.cu:\d+, thread"):
        launch(LANGUAGE + "stuck", np.empty(64, np.int32))
    y = np.empty(6, np.float32)  # and the emulator goes on working
    launch(BASIC + "sum_warps", np.ones(1536, np.float32), y, 1536)
    assert np.all(y == 256)


def test_a_compiler_error_names_file_and_line(tmp_path):
    file = tmp_path / "broken.cu"
    file.write_text(
        "// launch: grid=(1) block=(1)  out: y\n__global__ void k(float* y) {\n    y[0] = z;\n}\n"
        "int main() { k<<<1, 1>>>(nullptr); }\n"
    )
    with pytest.raises(
        CompileError, match=r"broken.cu:3:.*z(.|\n)*a launch line stands for <<<grid"
    ):
        launch(f"{file}:k", np.empty(1, np.float32))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="an assembler's words")
def test_ptx_is_told_from_a_slip(tmp_path):
    file = tmp_path / "lane.cu"
    file.write_text(
        "// launch: grid=(1) block=(1)  out: y\n__global__ void k(unsigned* y) {\n"
        "    unsigned lane;\n"
        '    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));\n    y[0] = lane;\n}\n'
    )
    with pytest.raises(CompileError, match=r"lane.cu:4:(.|\n)*is it PTX.*MINSEG_EMULATOR"):
        launch(f"{file}:k", np.empty(1, np.uint32))


def test_declarations_of_shared_memory(tmp_path):
    file = tmp_path / "shared.cu"
    file.write_text("""// launch: grid=(1) block=(64) shared=(n > 2 ? 256 : 0)  in: x  out: y
__global__ void k(const int* x, int* y, int n) {
    constexpr int N = 64;
    __shared__ int a[N < 32 ? 32 : N], b[N][2];
    __shared__ struct Pair { int first, second; } c[N];
    __shared__ alignas(16) char d[N];
    __shared__ extern int e[];
    volatile __shared__ int f[N];
    const int t = threadIdx.x;
    Pair pair = {x[t], 2};
    a[t] = b[t][1] = d[t] = e[t] = f[t] = x[t];
    c[t] = pair;
    __syncthreads();
    const int u = 63 - t;
    y[t] = a[u] + b[u][1] + c[u].first * c[u].second + d[u] + e[u] + f[u] + (size_t)d % 16;
}
""")
    x, y = np.arange(64, dtype=np.int32), np.empty(64, np.int32)
    launch(f"{file}:k", x, y, 3)
    assert y.tolist() == (7 * x[::-1]).tolist()


@pytest.mark.parametrize(
    ("outside", "inside", "message"),
    [("", "__shared__ float s = 0;", "3: __shared__ memory takes no initial value"),
     ("", "__shared__ float s[4]{};", "3: __shared__ memory takes no initial value"),
     ("__shared__ float s;", "", "1: declare __shared__ memory inside the kernel"),
     ("", "__shared__ float (*s)(int);", "3: __shared__ .* not understood")],
)  # fmt: skip
def test_shared_memory_as_nvcc_refuses_it(outside, inside, message, tmp_path):
    file = tmp_path / "zero.cu"
    file.write_text(
        f"{outside}// launch: grid=(1) block=(1)  out: y\n"
        f"__global__ void k(float* y) {{\n    {inside}\n    y[0] = 0;\n}}\n"
    )
    with pytest.raises(ValueError, match=f"zero.cu:{message}"):
        launch(f"{file}:k", np.empty(1, np.float32))


def test_an_edited_kernel_is_compiled_anew(tmp_path):
    file, y = tmp_path / "edit.cu", np.empty(1, np.float32)
    for value in (1, 2):
        file.write_text(
            f"template <int N> __device__ int count() {{ static int c = {value}; return c; }}\n"
            "// launch: grid=(1) block=(1)  out: y\n"
            f"__global__ void k(float* y) {{ y[0] = {value} * count<1>(); }}\n"
        )
        launch(f"{file}:k", y)
        assert y[0] == value**2


def test_blocks_with_atomics_run_in_order(tmp_path):
    """So sums of floats have the same bits every time."""
    file, y = tmp_path / "order.cu", np.empty(5000, np.int32)
    file.write_text(
        "// launch: grid=(5000) block=(32)  inout: count  out: y\n"
        "__global__ void k(int* count, int* y) {\n"
        "    if (threadIdx.x) return;\n    for (volatile int i = 0; i < 2000; ++i) {}\n"
        "    y[blockIdx.x] = atomicAdd(count, 1);\n}\n"
    )
    launch(f"{file}:k", np.zeros(1, np.int32), y)
    assert (y == np.arange(5000)).all()


def test_an_empty_grid_runs_nothing():
    launch(BASIC + "saxpy", np.empty(0, np.float32), np.empty(0, np.float32), 1.0, 0)
