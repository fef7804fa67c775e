"""What a launch is checked for, and how a kernel is found. Nothing here runs on a GPU."""

from pathlib import Path

import numpy as np
import pytest

from minseg import kernels
from minseg.cuda.expression import evaluate
from minseg.emulator import program
from minseg.kernels import check, kernel_info, kernels_folder, launch, list_kernels

BASIC = str(Path(__file__).parent / "emulator" / "fixtures" / "basic.cu") + ":"
LANGUAGE = BASIC.replace("basic", "language")
X = np.ones(1000, np.float32)


def saxpy(x=X, y=None, a=2.0, n=1000):
    return check(BASIC + "saxpy", x, np.ones_like(x) if y is None else y, a, n)


def test_the_launch_line_gives_the_geometry():
    launch = saxpy()
    assert launch.grid == (4, 1, 1)
    assert launch.block == (256, 1, 1)
    assert launch.shared == 0
    image = np.ones((40, 70))
    launch = check(BASIC + "transpose", image, image.T.copy(), 40, 70)
    assert launch.grid == (5, 3, 1)
    assert launch.block == (16, 16, 1)
    assert launch.shared == 16 * 17 * 8  # sizeof(scalar) is a double's here


def test_scalar_follows_the_arrays():
    assert not saxpy().double
    assert saxpy(X.astype(np.float64)).double
    assert saxpy().arguments[2].dtype == np.float32
    assert saxpy(X.astype(np.float64)).arguments[2].dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X.astype(np.float16), X, 1.0, 5), r"saxpy .*: x is float16, needs float32 or float64"),
        ((X, X.astype(np.float64), 1.0, 5), r"saxpy .*: y is float64, but x is float32"),
        ((X.tolist(), X, 1.0, 5), r"saxpy .*: x: got list, needs an array"),
        ((X, X, "2", 5), r"saxpy .*: a: got str, needs a number \(float\)"),
        ((X, X, 1.0, X), r"saxpy .*: n: got ndarray, needs a number \(int\)"),
    ],
)
def test_wrong_types(arguments, message):
    with pytest.raises(TypeError, match=message):
        check(BASIC + "saxpy", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, X, 1.0), r"saxpy .*: got 3 arguments, needs 4: x, y, a, n"),
        ((X[::2], X, 1.0, 5), r"saxpy .*: x: the array is strided"),
        ((X, X, 1.0, 1.5), r"saxpy .*: n: 1.5 does not fit C type int"),
        ((X, X, 1.0, 2**31), r"saxpy .*: n: 2147483648 does not fit C type int"),
        ((X, X, 1.0, 10**400), r"saxpy .*: n: 10+ does not fit C type int"),
        ((X, X, 1.0, np.float32(2**31)), r"saxpy .*: n: 2147483648.0 does not fit C type int"),
        ((X, X, 10**400, 5), r"saxpy .*: a: 10+ does not fit C type float"),
        ((X, X, 1.0, float("nan")), r"saxpy .*: n: nan does not fit C type int"),
        ((X, X, 1e300, 5), r"saxpy .*: a: 1e\+300 does not fit C type float"),
        ((X, X, 2**24 + 1, 5), r"saxpy .*: a: 16777217 does not fit C type float"),
        ((X, X, 1.0, -300), r"saxpy .*: the launch line gives a negative size"),
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        check(BASIC + "saxpy", *arguments)


def test_a_read_only_output_is_refused_before_it_runs():
    y = np.ones(1000, np.float32)
    y.flags.writeable = False
    assert saxpy(x=y, y=y.copy()).arguments[0] is y
    with pytest.raises(ValueError, match=r"saxpy .*: y: .* read-only"):
        saxpy(y=y)


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3), np.array(3), True])
def test_lossless_casts_pass(value):
    assert saxpy(n=value).arguments[3].dtype == np.int32
    assert saxpy(n=value).arguments[3] == value


def test_infinity_is_a_float():
    assert saxpy(a=float("inf")).arguments[2] == np.inf


@pytest.mark.parametrize("flag", [True, 1, 0.0, np.bool_(False)])
def test_bool_takes_zero_and_one(flag):
    y = np.empty(10)
    assert check(LANGUAGE + "scalars", None, y, flag, 0, 0, 0, 0, 0).arguments[2] == bool(flag)
    with pytest.raises(ValueError, match=r"flag: 2 does not fit C type bool"):
        check(LANGUAGE + "scalars", None, y, 2, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match=r"u: -1 does not fit C type unsigned int"):
        check(LANGUAGE + "scalars", None, y, True, 0, -1, 0, 0, 0)


def test_a_vector_type_needs_whole_and_aligned_vectors():
    x = np.zeros(1001, np.float32)
    with pytest.raises(ValueError, match=r"y: 1001 elements are no whole number of float4"):
        check(LANGUAGE + "copies", x, x, x, 1001)
    start = next(i for i in range(4) if x[i:].ctypes.data % 16)
    with pytest.raises(ValueError, match=r"y: the array does not start on a multiple"):
        check(LANGUAGE + "copies", x, x[start : start + 4], x, 4)


def test_vectors_of_three_lie_packed(tmp_path):
    file = tmp_path / "three.cu"
    file.write_text(
        "// launch: grid=(1) block=(n)  in: x colour  out: y\n"
        "__global__ void k(const float3* x, const uchar3* colour, uint* y, int n) {\n"
        "    const float3 v = x[threadIdx.x];\n"
        "    y[threadIdx.x] = v.x + 10 * v.y + 100 * v.z + colour[threadIdx.x].z;\n}\n"
    )
    x, y = np.arange(16, dtype=np.float32)[1:], np.empty(5, np.uint32)
    colour = np.arange(15, dtype=np.uint8).reshape(5, 3)
    launch(f"{file}:k", x, colour, y, 5)
    assert y.tolist() == (x.reshape(5, 3) @ [1, 10, 100] + colour[:, 2]).tolist()
    with pytest.raises(ValueError, match=r"x: 14 elements are no whole number of float3"):
        check(f"{file}:k", x[1:], colour, y, 5)


def test_launch_bounds_and_block_limits(tmp_path):
    file = tmp_path / "big.cu"
    file.write_text(
        "// launch: grid=(1) block=(n)  out: y\n"
        "__global__ void __launch_bounds__(128) k(float* y, int n) {}\n"
        "// launch: grid=(1) block=(n)  shared=(n * 1024)  out: y\n"
        "__global__ void m(float* y, int n) {}\n"
        "// launch: grid=(1) block=(1, 1, n)  out: y\n"
        "__global__ void deep(float* y, int n) {}\n"
        "// launch: grid=(a, b, c) block=(1)\n"
        "__global__ void wide(long long a, int b, int c) {}\n"
    )
    with pytest.raises(ValueError, match=r"block \(129, 1, 1\) has 129 threads, needs 1 to 128"):
        check(f"{file}:k", X, 129)
    with pytest.raises(ValueError, match=r"has 1025 threads, needs 1 to 1024"):
        check(f"{file}:m", X, 1025)
    with pytest.raises(ValueError, match=r"\(1, 1, 65\) is larger than a GPU takes .*64\)"):
        check(f"{file}:deep", X, 65)
    assert check(f"{file}:deep", X, 64).block == (1, 1, 64)
    most = (2**31 - 1, 65535, 65535)  # by the CUDA C++ Programming Guide
    assert check(f"{file}:wide", *most).grid == most
    for axis in range(3):
        with pytest.raises(ValueError, match=r"is larger than a GPU takes \(2\^31"):
            check(f"{file}:wide", *(n + (i == axis) for i, n in enumerate(most)))
    with pytest.raises(ValueError, match=r"bytes of shared memory"):
        check(f"{file}:m", X, 512)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("__global__ void k(float* y) {}", r"f.cu:1: kernel k: no line `// launch:"),
        ("// launch: grid=(1)  out: y\n__global__ void k(float* y) {}", r"has no block="),
        ("// launch: grid=(1) block=(1)\n__global__ void k(float* y) {}", r"says neither .* 'y'"),
        ("// launch: grid=(1) block=(1) in: z y\n__global__ void k(float* y) {}", r"names z"),
        ("// launch: grid=(1) block=(1) in: n\n__global__ void k(int n) {}", r"'n', which is no"),
        ("// launch: grid=(m) block=(1)\n__global__ void k(int n) {}", r"'m' is no parameter"),
        ("// launch: grid=(f(2)) block=(1)\n__global__ void k(int n) {}", r"no function 'f'"),
        ('#include "no.cuh"\n__global__ void k(int n) {}', r"f.cu:1: .*no such file.*< >"),
        ("// launch: grid=(n)) block=(1)\n__global__ void k(int n) {}", r"k \(f.cu:2\): .*'\)' is"),
        ("// launch: grid=((n) block=(1)\n__global__ void k(int n) {}", r"f.cu:2: .* never closed"),
        ("// launch: grid=(n) block=(1)\n__global__ void k(int n) {", r"f.cu:2: a { that is never"),
        ("#define A B\n#define B A\n// launch: grid=(A) block=(1)\n__global__ void k(int n) {}",
         r"k \(f.cu:4\): launch line: .*recursion"),
        ("// launch: grid=(n) block=(1)\n\n#endif\n__global__ void k(int n) {}",
         r"f.cu:3: #endif: there is no #if"),
        ("#if f(x)\n#endif\n// launch: grid=(n) block=(1)\n__global__ void k(int n) {}",
         r"f.cu:1: #if f\(x\): .*no function 'f'"),
        ("// Gr\u00f6\u00dfe\n__global__ void k(int n) {}", r"f.cu:1: this is not UTF-8"),
        ("// launch: grid=(n) block=(1)\n__global__ void k(int n) {}\n"
         "// launch: grid=(n) block=(1)\n__global__ void k(int n, int m) {}",
         r"f.cu:4: k \(f.cu:2\) has the same name"),
        ("namespace a {}\nnamespace b {\n// launch: grid=(n) block=(1)\n"
         "__global__ void k(int n) {}\n}", r"f.cu:4: kernel k: put it outside of namespace b"),
        ("#define KERNEL __global__ void\n// launch: grid=(n) block=(1)\nKERNEL k(int n) {}",
         r"f.cu has no kernel 'k'; it has none"),
    ],
)  # fmt: skip
def test_a_faulty_source_is_named(source, message, tmp_path):
    (tmp_path / "f.cu").write_text(source + "\n", encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        check(f"{tmp_path / 'f.cu'}:k", *([1] if "int n" in source else [X]))


def test_constants_of_a_launch_line_are_those_above_the_kernel(tmp_path):
    """And of the file: not a function's own."""
    (tmp_path / "f.cu").write_text(
        "#define A 2\nconstexpr int B = 3;\nnamespace c {\nconstexpr int C = 4;\n}\n"
        "__device__ int f(int n) {\n    const int B = n;\n#define D 5\n    return B;\n}\n"
        "// launch: grid=(A, B, C) block=(D)\n__global__ void first() {}\n"
        "#undef A\n#ifdef A\n#define B 1\n#elif 1\n#define A 6\n#elif 1\n#define A 7\n"
        "#else\n#define A 8\n#endif\n"
        "// launch: grid=(A, B) block=(1)\n__global__ void last() {}\n"
    )
    first, last = (check(f"{tmp_path / 'f.cu'}:{name}") for name in ("first", "last"))
    assert (first.grid, first.block) == ((2, 3, 4), (5, 1, 1))
    assert last.grid == (6, 3, 1)


def test_what_stands_in_a_comment_or_below_if_0_is_not_there(tmp_path):
    """Nor do a byte order mark and a #define of __global__ (for an editor) do harm."""
    (tmp_path / "f.cu").write_text(
        '/*\n#include "gone.cuh"\n*/\n#ifndef __CUDACC__\n#define __global__\n#endif\n#if 0 //\n'
        "#ifdef A\n#else\n__global__ void gone() { {\n#endif\n__global__ void k(int n, int m) {}\n"
        "#else\n// launch: grid=(n) block=(1)\n__global__ void k(int n) {}\n#endif\n"
        "// launch: grid=(2 * n) block=(1)\n__global__ void last(int n) {}\n",
        encoding="utf-8-sig",
    )
    assert check(f"{tmp_path / 'f.cu'}:k", 3).grid == (3, 1, 1)
    assert [(k.name, k.line) for k in kernels.find(str(tmp_path / "f.cu"))] == [
        ("k", 15),
        ("last", 18),
    ]


def test_arguments_of_a_template(tmp_path):
    (tmp_path / "f.cu").write_text(
        "// launch: grid=(BOTH ? 2 : 1) block=(N)  in: x, b,  out: y\n"
        "template <typename T, int  N = 64, bool BOTH=false>\n"
        "__global__ void k(const T* x, const unsigned short int* b, T* y, float f = 1.5f) {}\n"
        "template __global__ void k<int, 3, true>(const int*, const ushort*, int*, float);\n"
        "template <> __global__ void k<int, 1>(const int*, const ushort*, int*, float) {}\n"
        "__device__ float f(int n) { return n; }\n"
    )
    kernel = f"{tmp_path / 'f.cu'}:k"
    arguments = (X, np.zeros(3, np.uint16), X, 1)
    launch = check(f"{kernel}<float, 2 * 16, true>", *arguments)
    assert (launch.grid, launch.block) == ((2, 1, 1), (32, 1, 1))
    for given, message in [
        ("", r"arguments \[\], needs <typename T, int N, bool BOTH>"),
        ("<float, 32, true", r"arguments \[\], needs <typename T, int N, bool BOTH>"),
        ("<float, TILE, true>", r"argument N: got 'TILE', needs a number \(int\)"),
        ("<32, float, true>", r"argument N: got 'float', needs a number"),
    ]:
        with pytest.raises(ValueError, match=rf"k \(f.cu:3\): template {message}"):
            check(kernel + given, *arguments)


@pytest.mark.parametrize(
    ("helper", "call"),
    [
        ("__device__ void wait() { __syncthreads(); }", "wait();"),
        ('extern "C" __device__ void wait() { __syncthreads(); }', "wait();"),
        ("#define NONE(a) do { \\\n    a; } while (0)\n__device__ void wait() { __syncthreads(); }",
         "wait();"),
        ("#ifndef FAST\n#define WAIT() __syncthreads()\n#else\n#define WAIT()\n#endif", "WAIT();"),
        ("#define MAKE(f) __device__ void f() {}\nMAKE(g)\n"
         "__device__ void wait() { __syncthreads(); }", "wait();"),
        ("__attribute__((aligned(16))) __device__ void wait() { __syncthreads(); }", "wait();"),
        ("struct __align__(16) A { __device__ void wait() { __syncthreads(); } };", "A().wait();"),
        ("template <int N> struct A { __device__ void wait() { __syncthreads(); } };\n"
         "using B = A<3>;", "B().wait();"),
        ("namespace a { }\nnamespace b { __device__ void wait() { __syncthreads(); } }",
         "b::wait();"),
    ],
)  # fmt: skip
def test_a_barrier_is_seen_in_all_that_a_kernel_calls(helper, call, tmp_path):
    (tmp_path / "f.cu").write_text(
        helper
        + "".join(
            f"\n// launch: grid=(1) block=(1)\n__global__ void {name}() {{ {body} }}"
            for name, body in (("waits", call), ("does_not", ""))
        )
    )
    source = kernels.load(tmp_path / "f.cu")
    assert program.needs_fibers(source, "waits")
    assert program.needs_fibers(source, "does_not") == ("using" in helper)  # used without its name


def test_the_launch_line_may_go_on(tmp_path):
    (tmp_path / "f.cu").write_text(
        "#ifdef MINSEG_DOUBLE\n#define T 8\n#else\n#define T 16\n#endif\n"
        "#ifdef NOT_DEFINED\n#if 1\n#define T 4\n#endif\n#endif\n"
        "constexpr int HALF = T / 2;\ntypedef double scalar;\n"
        "// launch: grid=(max(n, 3), n > 9 ? 1 : min(n, HALF), T >> 3)\n"
        "//   block=(T, n % 3 + 1)\n//   in: y\n"
        "// A comment between.\n"
        'extern "C" __global__ void\n__launch_bounds__(T * 4)\n'
        "k(const scalar *__restrict__ y, int n)\n{\n}\n"
    )
    launch = check(f"{tmp_path / 'f.cu'}:k", X, 7)
    assert (launch.grid, launch.block) == ((7, 7, 2), (16, 2, 1))
    launch = check(f"{tmp_path / 'f.cu'}:k", X.astype(float), 7)
    assert (launch.grid, launch.block) == ((7, 4, 1), (8, 2, 1))


def test_every_type_that_a_kernel_may_take_has_a_size(tmp_path):
    """Of a vector type, that of its components together."""
    (tmp_path / "f.cu").write_text(
        "// launch: grid=(1) block=(1) shared=(3 * sizeof(T))\n"
        "template <typename T> __global__ void k(int n) {}\n"
    )
    for ctype, (item, lanes) in ({c: (c, 1) for c in kernels.DTYPES} | kernels.VECTORS).items():
        size = lanes * np.dtype(kernels.DTYPES[item]).itemsize
        assert check(f"{tmp_path / 'f.cu'}:k<{ctype}>", 1).shared == 3 * size, ctype


def test_another_kernel_folder(tmp_path, monkeypatch):
    source = Path(BASIC[:-1]).read_text()
    (tmp_path / "mine.cu").write_text(
        "// launch: grid=(1) block=(1)  out: y\n__global__ void only_here(float* y) { y[0] = 7; }\n"
    )
    (tmp_path / "broken.cu").write_bytes(
        b"__global__ void no_launch_line() {} // \xb5m, not UTF-8\n"
    )
    monkeypatch.setenv("MINSEG_KERNELS", str(tmp_path))
    assert kernels_folder() == tmp_path
    (tmp_path / "declares.cu").write_text("__global__ void only_here(float* y);\n")
    assert list_kernels() == ["no_launch_line", "only_here"]
    y = np.zeros(1, np.float32)
    launch("only_here", y)
    assert y[0] == 7
    with pytest.raises(ValueError, match="there is no kernel 'saxpy'; known: no_launch_line, only"):
        kernel_info("saxpy")
    monkeypatch.chdir(tmp_path.parent)
    for target in ("only_here", "mine.cu", f"{tmp_path.name}/mine.cu"):
        assert [k.name for k in kernels.find(target)] == ["only_here"]
    assert kernel_info(f"{tmp_path.name}/mine.cu:only_here") == kernel_info("only_here")
    (tmp_path / "twice.cu").write_text((tmp_path / "mine.cu").read_text())
    kernels._homes.clear()
    with pytest.raises(ValueError, match=r"'only_here' is in mine\.cu and in twice\.cu"):
        kernel_info("only_here")
    monkeypatch.setenv("MINSEG_KERNELS", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no such folder"):
        list_kernels()
    assert "saxpy" in source


def test_kernel_info_reads_the_signature():
    kernel = kernel_info(BASIC + "sum_blocks")
    assert [p.name for p in kernel.parameters] == ["x", "partial", "n"]
    assert [p.role for p in kernel.parameters] == ["in", "out", ""]
    assert [p.ctype for p in kernel.parameters] == ["scalar", "scalar", "int"]
    assert [p.pointer for p in kernel.parameters] == [True, True, False]
    assert [p.const for p in kernel.parameters] == [True, False, False]
    assert kernel.max_threads == "BLOCK"


def test_every_kernel_of_the_project_can_be_read():
    assert list_kernels()
    for name in list_kernels():
        assert kernel_info(name).name == name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7 - 2 - 1", 4),
        ("ceil_div(7, 2) + min(3, 4) * max(1, 2)", 10),
        ("1 << 4 | 3", 19),
        ("n > 3 ? n : 0", 5),
        ("n == 5 && !(n < 2)", 1),
        ("n && 0", 0),
        ("n <= 5 || 0", 1),
        ("6 & 3 | 8 ^ 12", 6),
        ("0x10u + 3L + 0xFuL", 34),
        ("n2L + 1", 10),  # a name, not 2L
        ("(int)n * DOUBLE_N", 50),
        ("sizeof(float4) * 2", 32),
    ],
)
def test_expressions_as_in_c(text, value):
    names = {"n": 5, "n2L": 9, "DOUBLE_N": "(n + n)"}
    assert evaluate(text, names.__getitem__, {"float4": 16}.__getitem__) == value


@pytest.mark.parametrize(
    "text",
    [
        "1 +",
        "1 2",
        "(1",
        "n @ 2",
        "f(1)",
        "1 / 0",
        "1 % 0",
        "ceil_div(n, 0)",
        "ceil_div(n)",
        "min(n)",
        "sizeof(float4",
        "",
    ],
)
def test_what_is_no_expression(text):
    with pytest.raises(ValueError, match="expression"):
        evaluate(text, {"n": 5}.__getitem__, {"float4": 16}.__getitem__)
