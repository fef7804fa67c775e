"""The sanitizer beyond the museum: no false alarm, every barrier needed, findings as data."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minseg import kernels
from minseg.commands import kernels as commands
from minseg.emulator import compiler, instrumented
from minseg.emulator.samples import samples
from minseg.emulator.sanitize import sanitize, sanitized

HERE = Path(__file__).parent
BASIC, LANGUAGE = HERE / "fixtures" / "basic.cu", HERE / "fixtures" / "language.cu"
SOUND = HERE / "fixtures" / "sound.cu"
rng = np.random.default_rng(3)


def basic_launches(dtype=np.float32):
    x = rng.normal(size=1000).astype(dtype)
    image = rng.normal(size=(40, 70)).astype(dtype)
    return [
        ("saxpy", x, x.copy(), 2.0, 1000),
        ("sum_blocks", x, np.empty(4, dtype), 1000),
        ("sum_warps", x, np.empty(4, dtype), 1000),
        ("transpose", image, np.empty((70, 40), dtype), 40, 70),
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", range(4))
def test_sound_kernels_have_no_findings(case, dtype):
    name, *arguments = basic_launches(dtype)[case]
    assert not sanitize(f"{BASIC}:{name}", *arguments)


def test_the_whole_language_has_no_findings():
    x, y = np.arange(32, dtype=np.int32), np.empty((32, 16), np.int32)
    f, z = rng.normal(size=1000).astype(np.float32), np.empty(1000, np.float32)
    half = rng.normal(size=(16, 16)).astype(np.float16)
    tile = rng.normal(size=(16, 16)).astype(np.float32)
    launches = [
        ("warp_functions", x, y),
        ("votes", x, np.empty((32, 3), np.int32), 32),
        ("copies", f, z.copy(), z.copy(), 1000),
        ("wmma_tile", half, half, tile),
        ("mma_tile", tile[:, :8].copy(), tile[:8, :8].copy(), np.empty((16, 8), np.float32)),
        ("power<3, float>", f, z, 1000),
        ("small_floats", f, z, np.empty(1000, np.float16), np.empty(1000, np.uint16), 1000),
    ]
    for name, *arguments in launches:
        assert not sanitize(f"{LANGUAGE}:{name}", *arguments), name


@pytest.mark.parametrize("kernel", kernels.find(str(SOUND)), ids=lambda k: k.name)
def test_what_only_looks_faulty_has_no_findings(kernel):
    for name, arguments in samples(kernel):
        assert not sanitize(name, *arguments)


def test_sound_kernels_compute_what_they_say():
    def run(name, *arguments):
        kernels.launch(f"{SOUND}:{name}", *arguments)

    x, t = rng.integers(0, 9, 128).astype(np.int32), np.arange(64)
    y = np.zeros(128, np.int32)
    run("last_block", x[:4].copy(), y[:4], y[4:5])
    assert y[4] == x[:4].sum()
    run("last_warp", x, y[:2])
    assert y[:2].tolist() == x.reshape(2, 64).sum(1).tolist()
    total = np.zeros(2, np.int32)
    run("locked", x[:80].copy(), total[:1], total[1:])
    assert total.tolist() == [0, x[:80].sum()]
    many, partial = rng.integers(0, 9, 192).astype(np.int32), np.zeros(192, np.int32)
    for name in ("one_fence_for_a_block", "one_fence_for_a_warp"):
        run(name, many, partial, np.zeros(1, np.uint32), y[:1])
        assert y[0] == many.sum()
    f, largest = rng.normal(size=80).astype(np.float32), np.zeros(1, np.float32)
    run("maximum", f, largest)
    assert largest[0] == f.max()
    run("carved", x[:64].copy(), y[:64])
    assert (y[:64] == x[63 - t] + 63 - t).all()
    run("some_ended", x[:50].copy(), y[:50], 50)
    large = x[:50] + x[:50][t[:50] // 32 * 32] > 9
    assert y[:50].tolist() == [large[:32].sum()] * 32 + [large[32:].sum()] * 18
    run("two_instances", x[:64].copy(), y[:64])
    assert (y[:64] == 11 * x[63 - t]).all()
    run("two_syncwarps", x[:32].copy(), y[:32])
    assert (y[:32] == np.where(t[:32] < 16, 2, 1) * x[31 - t[:32]]).all()
    y, v, lane = np.zeros((5, 32), np.int32), x[:32].copy(), np.arange(32)
    run("two_lines", v, y)
    assert y[0].tolist() == v[lane ^ np.where(lane % 2, 1, 2)].tolist()
    assert y[1].tolist() == np.where(lane < 20, v[31], v[16]).tolist()
    bits = 1 << lane.astype(np.uint32)
    large = bits[v >= 4].sum().astype(np.uint32).view(np.int32)
    equal = (np.where(v < 4, 0, v)[:, None] == np.where(v < 4, 0, v)) @ bits
    assert (y[2] == large).all()
    assert (y[3].view(np.uint32) == equal).all()
    assert (y[4] == 100 + v[1:].sum()).all()
    y = np.zeros(128, np.int32)
    run("dynamic_rows", x[:32].copy(), y[:32])
    assert (y[:32] == x[31 - t[:32]] + 2 * x[:32]).all()
    places, count = np.zeros(32, np.int32), np.zeros(1, np.int32)
    run("aggregated", x[:32].copy(), count, places)
    assert places.tolist() == np.where(x[:32] < 4, 0, np.cumsum(x[:32] >= 4)).tolist()
    assert count[0] == (x[:32] >= 4).sum()
    y[:4] = 0
    run("scopes", y[:4])
    assert y[:4].tolist() == [80, 39, 40, 5]
    z = np.empty(16, np.float32)
    run("defined_in_place<16, float>", f[:16].copy(), z)
    assert (z == f[15::-1] + np.arange(15, -1, -1, dtype=np.float32) + 4).all()
    h, bits = f[:16].astype(np.float16), f[:16].view(np.uint32)
    b, doubled, c = (bits >> 16).astype(np.uint16), np.empty_like(h), np.empty(16, np.uint16)
    run("pairs", h, b, doubled, c)
    expected = np.where(np.arange(16) % 2, h, np.sqrt(np.abs(h).astype(np.float64)).astype(h.dtype))
    assert (doubled == 2 * expected).all()
    assert (c == b + 128).all()  # one more in the exponent


def test_a_finding_within_the_emulators_own_functions_names_the_line_that_calls_them(tmp_path):
    file = tmp_path / "calls.cu"
    file.write_text("""#include <cuda_pipeline.h>
#include <mma.h>
// launch: grid=(1) block=(32)  in: x h  out: y
__global__ void k(const float* x, const half* h, float* y) {
    __shared__ float s[32];
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, half, nvcuda::wmma::row_major> a;
    const int t = threadIdx.x;
    __pipeline_memcpy_async(&s[t], x + t + 1, 4);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    y[t] = __ldg(x + t + 1) + s[t];
    __stcg(y + t + 1, 0.0f);
    nvcuda::wmma::load_matrix_sync(a, h, 17);
}
""")
    x, h = np.ones(32, np.float32), np.ones((16, 16), np.float16)
    findings = sanitize(f"{file}:k", x, h, np.empty_like(x))
    strays = {(f.file, f.line, f.variable) for f in findings if f.kind == "memcheck"}
    assert strays == {
        ("calls.cu", line, name) for line, name in [(8, "x"), (11, "x"), (12, "y"), (13, "h")]
    }


def test_a_misaligned_access_ends_the_launch_as_on_a_gpu(tmp_path):
    file = tmp_path / "ends.cu"
    file.write_text("""// launch: grid=(1) block=(1)  in: x  out: y
__global__ void k(const float* x, float2* y) {
    y[0] = *reinterpret_cast<const float2*>(x + 1);
    y[1] = y[0];
}
""")
    (finding,) = sanitize(f"{file}:k", np.ones(4, np.float32), np.empty(2, np.float32))
    assert (finding.kind, finding.line) == ("memcheck", 3)
    assert "no multiple of 8 bytes" in finding.message


def test_a_misaligned_half2_is_found(tmp_path):
    file = tmp_path / "half2.cu"
    file.write_text("""#include <cuda_fp16.h>
// launch: grid=(1) block=(4)  in: x  out: y
__global__ void k(const half* x, half2* y) {
    y[threadIdx.x] = *(const half2*)(x + 1 + 2 * threadIdx.x);
}
""")
    x, y = np.ones(10, np.float16), np.ones(8, np.float16)
    (finding,) = sanitize(f"{file}:k", x, y)
    assert (finding.kind, finding.variable, finding.line) == ("memcheck", "x", 4)
    assert "no multiple of 4 bytes" in finding.message
    assert "declare" not in finding.message  # an array of the caller's


@pytest.mark.parametrize("floats", [64, 66])
def test_shared_arrays_lie_one_after_the_other(floats, tmp_path):
    """So a float4 finds its place in the second of two tiles, if the first has a size to match."""
    file = tmp_path / "tiles.cu"
    file.write_text(f"""// launch: grid=(1) block=(16)  in: x  out: y
__global__ void k(const float4* x, float4* y) {{
    __shared__ float first[{floats}];
    __shared__ float second[64];
    const int t = threadIdx.x;
    reinterpret_cast<float4*>(first)[t] = x[t];
    reinterpret_cast<float4*>(second)[t] = x[t];
    __syncthreads();
    y[t] = t % 2 ? reinterpret_cast<float4*>(first)[15 - t] : x[t];
}}
""")
    x = np.ones(64, np.float32)
    findings = {(f.kind, f.variable, f.line) for f in sanitize(f"{file}:k", x, np.empty_like(x))}
    assert findings == (set() if floats == 64 else {("memcheck", "second", 7)})


def test_a_finding_in_shared_memory_of_four_dimensions(tmp_path):
    file = tmp_path / "four.cu"
    file.write_text("""// launch: grid=(1) block=(64)  in: x  out: y
__global__ void k(const float* x, float* y) {
    __shared__ float s[2][2][4][4];
    const int t = threadIdx.x;
    (&s[0][0][0][0])[t] = x[t];
    y[t] = t < 63 ? 0 : s[0][1][3][2];
}
""")
    x = np.ones(64, np.float32)
    findings = sanitize(f"{file}:k", x, np.empty_like(x))
    assert {(f.kind, f.variable, f.index) for f in findings} >= {("racecheck", "s", (0, 1, 3, 2))}


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [("__shfl_up_sync(~0u, x[lane], 1)", "__shfl_down_sync(~0u, x[lane], 1)", "operations"),
     ("__shfl_sync(~0u, x[lane], 0)", "__shfl_sync(~0u, (double)x[lane], 0)", "operations"),
     ("__shfl_sync(~0u, x[lane], 0)", "(__syncwarp(), 0.0f)", "operations"),
     ("__any_sync(~0u, lane)", "__all_sync(~0u, lane)", "operations"),
     ("__reduce_add_sync(~0u, lane)", "__reduce_max_sync(~0u, lane)", "operations"),
     ("__shfl_sync(~0u, x[lane], 0)", "__shfl_sync(0xffff0000, x[lane], 16)", "have ended"),
     ("__shfl_sync(~0u, x[lane], 0)", "x[lane]", "have ended")],
)  # fmt: skip
def test_lanes_have_to_meet_in_the_same_operation_with_the_same_mask(
    lower, upper, message, tmp_path
):
    """The CUDA C++ Programming Guide: "must execute the same intrinsic with the same mask"."""
    file = tmp_path / "halves.cu"
    file.write_text(f"""// launch: grid=(1) block=(32)  in: x  out: y
__global__ void k(const float* x, float* y) {{
    const int lane = threadIdx.x;
    if (lane < 16)
        y[lane] = {lower};
    else
        y[lane] = {upper};
}}
""")
    x = np.ones(32, np.float32)
    findings = [f for f in sanitize(f"{file}:k", x, np.empty_like(x)) if f.kind == "synccheck"]
    assert any(message in f.message for f in findings), findings
    assert {a.line for f in findings for a in (f.now, f.before) if a} - {0} <= {5, 7}


def without_barrier(text, number):
    """The source with its n-th __syncthreads() taken out."""
    found = list(re.finditer(r"__syncthreads\(\);", text))
    return text[: found[number].start()] + text[found[number].end() :]


@pytest.mark.parametrize(("kernel", "barriers"), [("sum_blocks", (0, 1)), ("transpose", (2,))])
def test_every_barrier_is_needed(kernel, barriers, tmp_path):
    (tmp_path / "kernels").mkdir()
    shutil.copy(HERE.parent.parent / "kernels" / "common.cuh", tmp_path / "kernels")
    launch = next(launch for launch in basic_launches() if launch[0] == kernel)
    for number in barriers:
        text = without_barrier(BASIC.read_text(), number)
        file = tmp_path / "kernels" / f"without_{number}.cu"
        file.write_text(text.replace("../../../kernels/", ""))
        findings = sanitize(f"{file}:{kernel}", *launch[1:])
        assert any(f.kind == "racecheck" for f in findings), (kernel, number)


def test_arrays_without_elements_have_no_findings():
    """Blocks run, as the launch line says, and find nothing to do: a batch of no images."""
    assert sanitize(f"{BASIC}:saxpy", np.ones(0, np.float32), np.ones(0, np.float32), 2.0, 0) == []
    empty, one = np.ones((0, 3, 7), np.float32), np.ones(3, np.float32)
    arguments = (empty, one, empty.copy(), 0, 3, 7, 1, 1)
    assert sanitize("bias_activation_forward", *arguments) == []


def test_a_finding_says_who_where_and_when():
    x, y = np.ones(100, np.float32), np.ones(100, np.float32)
    (finding,) = [f for f in sanitize(f"{BASIC}:saxpy", x, y, 1.0, 101) if f.variable == "x"]
    assert finding.kind == "memcheck"
    assert finding.kernel == "saxpy"
    assert finding.file == "basic.cu"
    assert "y[i] += a * x[i]" in BASIC.read_text().split("\n")[finding.line - 1]
    assert finding.index == (100,)
    assert finding.now.thread == (100, 0, 0)
    assert finding.now.block == (0, 0, 0)
    assert finding.count == 1
    assert np.all(y == 1)  # it ran on copies


def test_an_access_that_begins_inside_and_ends_outside(tmp_path):
    file, header = tmp_path / "last.cu", tmp_path / "four.cuh"
    header.write_text("""
__device__ void four(float* y, int i) {
    reinterpret_cast<float4*>(y)[i] = make_float4(0, 0, 0, 0);
}
""")
    file.write_text("""// launch: grid=(1, 1, 1) block=(2, 3, 3)  inout: y
#include "four.cuh"
__global__ void k(float* y) {
    const int i = (threadIdx.z * 3 + threadIdx.y) * 2 + threadIdx.x;
    if (i < 17) four(y, i);
}
""")
    (finding,) = sanitize(f"{file}:k", np.ones((6, 11), np.float32))
    assert (finding.kind, finding.index, finding.now.thread) == ("memcheck", (5, 9), (0, 2, 2))
    assert (finding.file, finding.line) == ("four.cuh", 3)
    assert "16 bytes at y[5][9] in global memory, 2 past the end of 66 elements" in finding.message


def test_an_element_that_depends_on_the_order_beside_an_infinite_one(tmp_path):
    file = tmp_path / "tickets.cu"
    file.write_text("""// launch: grid=(4) block=(1)  inout: count  out: y
__global__ void k(int* count, float* y) {
    const int ticket = atomicAdd(count, 1);
    y[blockIdx.x] = blockIdx.x ? ticket : INFINITY;
}
""")
    (finding,) = sanitize(f"{file}:k", np.zeros(1, np.int32), np.empty((2, 2), np.float32))
    assert (finding.kind, finding.index, finding.count) == ("order", (0, 1), 3)
    assert "y[0][1] is 1.0 with threads and blocks in order, 2.0 reversed" in finding.message


def test_volatile_may_stand_before_shared(tmp_path):
    """A volatile read does not race with an atomic."""
    file = tmp_path / "flag.cu"
    file.write_text("""// launch: grid=(1) block=(64)  out: y
__global__ void k(int* y) {
    volatile __shared__ int flag;
    if (threadIdx.x == 0) flag = 0;
    __syncthreads();
    if (threadIdx.x == 40) atomicAdd((int*)&flag, 1);
    y[threadIdx.x] = flag >= 0;
}
""")
    assert not sanitize(f"{file}:k", np.empty(64, np.int32))


@pytest.mark.parametrize(
    ("threads", "barrier", "kinds"),
    [(1, "__syncthreads();", set()), (1, "", {"racecheck", "initcheck"}),
     (32, "__syncthreads();", {"racecheck"})],
)  # fmt: skip
def test_memset_and_memcpy_are_seen(threads, barrier, kinds, tmp_path):
    file = tmp_path / "set.cu"
    file.write_text(f"""
// launch: grid=(1) block=(32)  in: x  out: y
__global__ void set(const int* x, int* y) {{
    __shared__ int a[32], b[32];
    if (threadIdx.x < {threads}) memset(a, 0, sizeof(a));
    if (threadIdx.x < {threads}) memcpy(b, x, sizeof(b));
    {barrier}
    y[threadIdx.x] = a[31 - threadIdx.x] + b[31 - threadIdx.x];
}}
""")
    x = np.arange(32, dtype=np.int32)
    assert {f.kind for f in sanitize(f"{file}:set", x, np.empty_like(x))} == kinds


def test_a_race_is_drawn_as_a_timeline():
    file = HERE / "museum" / "second_barrier_missing.cu"
    x, y = np.ones(256, np.float32), np.ones(64, np.float32)
    (finding,) = sanitize(f"{file}:broken", x, y, 256)
    read, write = sorted((finding.now.line, finding.before.line), reverse=True)
    assert finding.barrier == write + 1  # both have passed this one
    drawing = "\n".join(finding.timeline())
    for text in (f"line {write}: writes tile[", f"line {read}: reads tile[", "barrier at line"):
        assert text in drawing
    assert json.loads(json.dumps(finding.to_json()))["timeline"] == finding.timeline()


@pytest.mark.parametrize("pointer", ["int*", "volatile int*"])
def test_an_atomic_update_against_a_write_is_said_to_be_two_writes(pointer, tmp_path):
    file = tmp_path / "init.cu"
    file.write_text(f"""// launch: grid=(1) block=(32)  out: y
__global__ void k({pointer} y) {{
    if (threadIdx.x == 0) y[0] = 0;
    atomicAdd((int*)y, 1);
}}
""")
    findings = sanitize(f"{file}:k", np.empty(1, np.int32))
    (race,) = [f for f in findings if f.kind == "racecheck"]
    assert "(both write)" in race.message


@pytest.mark.parametrize(
    ("declared", "body"),
    [("float sum", "for (int k = 0; k < 3; ++k) sum += x[k]; y[t] = sum;"),
     ("float sum[2]", "for (int k = 0; k < 9; ++k) sum[k % 2] += x[k]; y[t] = sum[t % 2];"),
     ("float v", "if (t % 2) v = x[t]; y[t] = v;"),
     ("struct { float a, b; } p", "p.a = x[t]; y[t] = p.a + p.b;"),
     ("float* p = y, one = max(x[3], x[4]), v", "if (t % 2) v = one; p[t] = v;")],
)  # fmt: skip
def test_a_local_variable_without_a_value_is_found_where_the_output_depends_on_it(
    declared, body, tmp_path
):
    file = tmp_path / "local.cu"
    x = np.arange(32, dtype=np.float32) / 100
    for start, kinds in [("", ["initcheck"]), (" = {}", [])]:
        file.write_text(f"""// launch: grid=(1) block=(32)  in: x  out: y
__global__ void k(const float* x, float* y) {{
    const int t = threadIdx.x;
    {declared}{start};
    {body}
}}
""")
        assert [f.kind for f in sanitize(f"{file}:k", x, np.empty_like(x))] == kinds


@pytest.mark.parametrize(
    ("helper", "call"),
    [("__device__ float half(float x) { BODY }", "half(x[t])"),
     ("#define HALF(x) half(x)\n__device__ float half(float x) { BODY }", "HALF(x[t])"),
     ("class Half { public: __device__ static float of(float x) { BODY } };", "Half::of(x[t])"),
     ("struct F { float x; };\n__device__ float operator-(F f) { float x = f.x; BODY }",
      "-F{x[t]}")],
)  # fmt: skip
def test_such_a_variable_is_found_in_what_the_kernel_calls(helper, call, tmp_path, monkeypatch):
    file = tmp_path / "called.cu"
    file.write_text(
        helper.replace("BODY", "float v; if (x > 0) v = x / 2; return v;")
        + "".join(
            f"""
// launch: grid=(1) block=(32)  in: x  out: y
__global__ void {name}(const float* x, float* y) {{
    const int t = threadIdx.x;
    y[t] = {value};
}}
"""
            for name, value in (("calls", call), ("does_not", "x[t]"))
        )
    )
    runs, run = [], instrumented.run
    monkeypatch.setattr(instrumented, "run", lambda *a, **how: runs.append(how) or run(*a, **how))
    x = np.arange(-16, 16, dtype=np.float32)
    assert [f.kind for f in sanitize(f"{file}:calls", x, np.empty_like(x))] == ["initcheck"]
    assert {"filled": True} in runs
    runs.clear()
    assert not sanitize(f"{file}:does_not", x, np.empty_like(x))
    needless = {"filled": True} in runs
    assert needless == ("operator" in helper)  # which code calls without its name


@pytest.mark.skipif(0 < compiler.clang_version() < 15, reason="older clang forgets lines")
def test_what_a_loop_and_two_branches_repeat_keeps_its_line(tmp_path):
    """A compiler that moves it in front of them may forget where it stood."""
    file = tmp_path / "lines.cu"
    file.write_text("""// launch: grid=(1) block=(32)  in: x w  out: y
__global__ void k(const float* __restrict__ x, const float* w, float* __restrict__ y, int n) {
    const int t = threadIdx.x;
    for (int c = 0; c < n; ++c)
        y[t * n + c] = w[c] *
            x[t + 1];
    if (n > 3)
        y[t * n] = w[t + 5];
    else
        y[t * n] = w[t + 5] * 2;
}
""")
    x, w = np.ones(32, np.float32), np.ones(5, np.float32)
    findings = sanitize(f"{file}:k", x, w, np.empty((32, 5), np.float32), 5)
    assert {(f.variable, f.line) for f in findings} == {("x", 6), ("w", 8)}


def test_blocks_that_publish_by_fence_and_atomic_do_not_race(tmp_path):
    """The last block to finish sums what the others left: CUDA's own threadFenceReduction."""
    kernel = """
// launch: grid=(4) block=(32)  in: x  inout: partial count  out: y
__global__ void last_block(const float* x, float* partial, unsigned* count, float* y) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = x[blockIdx.x];
        FENCE
        last = atomicAdd(count, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        y[0] = partial[0] + partial[1] + partial[2] + partial[3];
}
"""
    arguments = (
        np.ones(4, np.float32),
        np.zeros(4, np.float32),
        np.zeros(1, np.uint32),
        np.zeros(1, np.float32),
    )
    file = tmp_path / "last.cu"
    file.write_text(kernel.replace("FENCE", "__threadfence();"))
    assert not sanitize(f"{file}:last_block", *arguments)
    file.write_text(kernel.replace("FENCE", ""))
    findings = sanitize(f"{file}:last_block", *arguments)
    assert {f.variable for f in findings if f.kind == "racecheck"} == {"partial"}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("y[0] = 0; int* p = (int*)0x7f0000000000; *p = 1;", "memcheck", "belongs to no array"),
        ("y[0] = 1; __builtin_trap();", "crash", "crashed"),
        ("y[0] = 0; while (n) { }", "timeout", "did not finish"),
        (
            "volatile char a[1 << 20];\n"
            "for (int i = 0; i < n << 20; i += 256) a[i] = i;\n"
            "y[0] = a[n];",
            "crash",
            "crashed",
        ),
    ],
)
def test_a_fault_does_not_take_python_down(body, kind, message, tmp_path):
    file = tmp_path / "fault.cu"
    file.write_text(
        "// launch: grid=(1) block=(1)  out: y\n"
        f"__global__ void k(int* y, int n) {{\n    {body}\n}}\n"
    )
    findings = sanitize(f"{file}:k", np.empty(1, np.int32), 1, seconds=1)
    assert findings[0].kind == kind
    assert message in findings[0].message


def test_launches_are_sanitized_within_a_context():
    x, y = np.ones(100, np.float32), np.ones(100, np.float32)
    with sanitized() as findings:
        kernels.launch(f"{BASIC}:saxpy", x, y, 2.0, 100)
    assert not findings
    assert np.all(y == 3)
    with sanitized() as findings:
        kernels.launch(f"{HERE / 'museum' / 'writes_its_input.cu'}:broken", x, y, 100)
    assert findings[0].kind == "memcheck"


def test_cli(tmp_path, capsys):
    museum = HERE / "museum"
    report = tmp_path / "findings.json"
    assert commands.sanitize([str(museum / "missing_guard.cu")], str(report)) == 1
    assert "memcheck: missing_guard.cu:9: broken: writes y[100]" in capsys.readouterr().out
    assert json.loads(report.read_text())[0]["kind"] == "memcheck"
    assert commands.sanitize([f"{museum / 'missing_guard.cu'}:fixed"], str(report)) == 0
    assert json.loads(report.read_text()) == []
    assert commands.sanitize([str(BASIC)], None) == 2  # it has no sample lines
    assert "not checked" in capsys.readouterr().err
