# %% [markdown]
# # 33 · Matrix product, rung by rung: one operand read, many products made
#
# Lesson 02 made a convolution a matrix product, and attention is two of them: most of a network's
# arithmetic is this one loop. **The question:** a published ladder of kernels begins at 309 GFLOP/s
# and reaches 15,971 once each thread keeps a tile in registers (S. Boehm, 2022, RTX A6000). All
# rungs do the same 2 n^3 operations. What makes the first one more than 50 times slower?
#
# You need lessons 31 and 32, and a C++ compiler (else `pip install ziglang`).

# %%
import numpy as np
from matplotlib.patches import Rectangle

import minseg
from minseg import Tensor
from minseg.emulator.profile import Profile, profile
from minseg.emulator.sanitize import sanitize
from minseg.kernels import kernels_folder, launch, load
from minseg.lesson import BLUE, GREEN, ORANGE, SKY, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## Shapes and reads, by hand
#
# c = a b, with a (M, K), b (K, L), c (M, L): c[m, l] is a sum of K products, M K L in all, each a
# **fused multiply-add** (FMA), one instruction. The matrices have far fewer elements, so each is
# used many times. What counts is how often it is *fetched*.
#
# For one element of c, fetch a row and a column: 2 K floats for K FMAs, two per FMA. With
# **tiling**, T x T elements at once, fetch T rows and T columns: 2 T K floats for T^2 K FMAs:
#
#     floats fetched per FMA = 2 / T         T = 1: 2      T = 16: 1/8      T = 64: 1/32
#
# It is an outer product: fetches grow with the tile's side, FMAs with its area. Counted in Python:


# %%
def matmul_loops(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    c = np.zeros((len(a), b.shape[1]), a.dtype)
    for m, l, k in np.ndindex(*c.shape, len(b)):
        c[m, l] += a[m, k] * b[k, l]
    return c


def matmul_tiles(a: np.ndarray, b: np.ndarray, T: int) -> tuple[np.ndarray, int]:
    """c, a tile at a time, and how many floats were fetched for it."""
    c, fetched = np.zeros((len(a), b.shape[1]), a.dtype), 0
    for m, l in np.ndindex(len(a) // T, b.shape[1] // T):  # a block of threads takes a tile
        rows, columns = a[m * T :][:T], b[:, l * T :][:, :T]
        c[m * T :][:T, l * T :][:, :T] = rows @ columns
        fetched += rows.size + columns.size
    return c, fetched


a, b = rng.standard_normal((8, 4)), rng.standard_normal((4, 16))
for T in (1, 2, 8):
    c, fetched = matmul_tiles(a, b, T)
    assert np.allclose(c, matmul_loops(a, b), rtol=0, atol=1e-14)  # sums of 4 products
    assert fetched == 2 * (8 * 4 * 16) / T

# %% [markdown]
# ## The gradient: two more products
#
# L depends on a[m, k] through row m of c: dL/da[m, k] = sum over l of g[m, l] b[k, l]. So
#
#     dL/da = g b^T  (M, L)(L, K)          dL/db = a^T g  (K, M)(M, L)
#
# Each takes M K L FMAs, as forward does. Here all run on minseg's own kernel, kernels/matmul.cu.


# %%
def by_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    c = np.empty((len(a), b.shape[1]), a.dtype)
    launch("matmul", a, b, c, 1, *a.shape, b.shape[1])
    return c


def my_matmul(a: Tensor, b: Tensor) -> Tensor:
    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return by_kernel(g, b.data.T), by_kernel(a.data.T, g)

    return record("my_matmul", by_kernel(a.data, b.data), (a, b), backward)


assert minseg.gradcheck(my_matmul, [Tensor(x, requires_grad=True) for x in (a[:3], b[:, :5])])

# %% [markdown]
# ## The rungs
#
# They are in kernels/ladder/matmul, one idea per file; open them as you go. In v3 a block shares a
# tile of T x T, fetched from **global** memory into **shared** memory. There the same story
# repeats: a thread of v3 reads two floats from shared memory for every FMA. From v4 on, it computes
# R x R elements and keeps them in **registers**: 2 / R floats per FMA. One law, on two levels.
#
# v1 and v2 differ only in which index is threadIdx.x. Blocks are 16 x 16, so a warp is two rows of
# 16 threads. In v1 these need 16 rows of a: 16 sectors of 32 bytes for 32 FMAs, and 1 for two
# columns of b. In v2, 16 columns of b: 2 sectors, and 2 for two rows of a. (v9 needs a Hopper GPU.)
#
# ## The experiment: predict, then count

# %%
predicted = {  # sides T of a block's tile, R of a thread's; bytes read per FMA, written per element
    "v1": (1, 0, 32 * (16 + 1) / 32, 16),  # naive; its stores are as far apart as its loads
    "v2": (1, 0, 32 * (2 + 2) / 32, 4),  # coalesced
    "v3": (16, 1, 4 * 2 / 16, 4),  # shared tiles
    "v4": (64, 4, 4 * 2 / 64, 4),  # register tiles
    "v5": (128, 8, 4 * 2 / 128, 4),  # float4: four floats a load
    "v6": (128, 8, 4 * 2 / 128, 4),  # double buffered: the next tile is loaded meanwhile
    "v7": (32, 16, 4 * 2 / 32, 4),  # tensor cores by WMMA: R is the tile of a *warp* now
    "v8": (64, 32, 4 * 2 / 64, 8),  # tensor cores by mma.sync; half of each sector of c is used
}
rungs = {path.stem[:2]: f"{path}:{next(iter(load(path).kernels))}"
         for path in sorted(kernels_folder().glob("ladder/matmul/v[1-8]_*.cu"))}  # fmt: skip
M, K, L = (128, 32, 128) if lesson.fast else (256, 128, 256)


def operands(M: int, K: int, L: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((M, K), (K, L)))
    return a, b, np.full((M, L), np.nan, np.float32)


def floats_an_fma(result: Profile, shared: bool) -> float:
    """Loaded by threads from a and b, or from their tiles."""
    loads = [x for x in result.accesses if x.kind == "load" and x.array[0] in "ab"]
    return sum(x.accesses * x.bytes // 4 for x in loads if x.shared == shared) / (M * K * L)


results, by_hand = {}, {}
a, b, c = operands(M, K, L)
print("rung  floats per FMA: global, shared   sectors  bank conflicts  operations per byte")
for rung, kernel in rungs.items():
    for size in ((M, K, L), (37, 19, 45)):  # tiles that fit, and that do not
        one, two, out = operands(*size)
        launch(kernel, one, two, out, *size)
        sizes = np.abs(one).astype(np.float64) @ np.abs(two)
        # A sum of K rounds K times by 2^-24; v7 and v8 round each operand to 11 bits before.
        bound = sizes * ((2**-10 if rung > "v6" else 0) + size[1] * 2**-24)
        assert (np.abs(out - one.astype(np.float64) @ two) <= bound).all()
    p = results[rung] = profile(kernel, a, b, c, M, K, L, operations=2 * M * K * L)
    T, R, read, written = predicted[rung]
    by_hand[rung] = read * M * K * L + written * M * L
    print(f"{rung} {floats_an_fma(p, False):18.4f} {floats_an_fma(p, True):9.4f} "
          f"{p.sectors_a_request:12.2f} {p.conflicts:12d} {p.intensity:16.2f}")  # fmt: skip
    assert p.bytes_moved == by_hand[rung]
    assert (floats_an_fma(p, False), floats_an_fma(p, True)) == (2 / T, 2 / R if R else 0)

# %% [markdown]
# These are requests, counted where they leave the warps; a GPU's caches answer some of them. Only a
# GPU tells times (there, `minseg ladder matmul`). But this we know: a tile does T / 4 operations
# per byte (2 per 8 / T); how many can a GPU do while the next byte arrives? By the data sheets,
# A100 SXM: 19.5 TFLOP/s of float32, 2.04 TB/s, so 9.6 operations and T >= 39; H100 SXM: 67 and
# 3.35, so 20 and T >= 80. Tensor cores, about 15 times faster, need that many more per byte.

# %%
figure = lesson.figure(13, 8.4)
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])
for axis, (side, rung) in zip(top.subplots(1, 3), ((1, "v1"), (16, "v3"), (64, "v4")), strict=True):
    y, x = (128 - side) // 2, (128 - side) // 3
    for corner, name in (((0, 140), "a"), ((140, 0), "b"), ((140, 140), "c")):
        axis.add_patch(Rectangle(corner, 128, 128, fc="0.93", ec="0.4"))
        axis.text(corner[0] + 6, corner[1] + 8, name, va="top", size=15, style="italic")
    axis.add_patch(Rectangle((0, 140 + y), 128, side, color=BLUE))
    axis.add_patch(Rectangle((140 + x, 0), side, 128, color=BLUE))
    axis.add_patch(Rectangle((140 + x, 140 + y), side, side, color=ORANGE))
    axis.set(xlim=(-2, 270), ylim=(270, -2), aspect="equal")
    axis.text(2, 60, f"2 / {side}\nfloats\nper FMA", va="center", size=14)
    axis.set_axis_off()
    axis.set_title(f"{rung}: a tile of {side} x {side}")
left, right = bottom.subplots(1, 2)
places = np.arange(len(rungs))
moved = [p.bytes_moved / 1e3 for p in results.values()]
left.bar(places - 0.2, np.array([*by_hand.values()]) / 1e3, 0.38, color=SKY, label="by hand")
bars = left.bar(places + 0.2, moved, 0.38, color=BLUE, label="counted by the profiler")
left.bar_label(bars, fmt="{:,.0f}", fontsize=11)
left.set(yscale="log", ylim=(0.5 * min(moved), 4 * max(moved)), ylabel="kB of global memory")
left.set_title(f"moved to multiply ({M}, {K}) by ({K}, {L})")
for x0, shared, colour, name in ((-0.2, False, BLUE, "global"), (0.2, True, ORANGE, "shared")):
    loads = [floats_an_fma(p, shared) for p in results.values()]
    right.bar(places + x0, loads, 0.38, color=colour, label=name)
for gpu, ridge in (("A100", 19.5 / 2.04), ("H100", 67 / 3.35)):
    right.axhline(2 / (4 * ridge), color=GREEN, lw=1.5, ls="--")
    right.text(7.6, 2 / (4 * ridge), gpu, color=GREEN, va="center")
right.set(yscale="log", ylabel="floats fetched per FMA", ylim=(1 / 128, 8), xlim=(-0.5, 7.6))
right.set_yticks([2, 1 / 2, 1 / 8, 1 / 32], ["2", "1/2", "1/8", "1/32"])
right.set_title("below a dashed line, global memory keeps up")
for axis in (left, right):
    axis.set_xticks(places, rungs)
    axis.legend(loc="upper right")
lesson.save(figure, "33_matmul")

# %% [markdown]
# ## What goes wrong
#
# **The second barrier**, forgotten: fast warps overwrite the tile that slow warps still read.
# **Bank conflicts**: v4 transposes a's tile, 4 rows of 8 along K per warp, so a warp stores to
# words k (64 + pad) + row. Without a pad, all 8 k of a row share a bank: 8 passes, 7 lost. With
# v4's pad of 1 the banks are k + row, 4 passes; with a pad of 4 they are 4 k + row, all different.
# **A tile that does not fit**: 65 x 65 elements take four tiles of 64, three of them nearly empty.

# %%
v4 = kernels_folder() / "ladder/matmul/v4_register_tiles.cu"
text = v4.read_text("utf-8").replace('#include "../../common.cuh"\n', "")  # not needed
forgot = lesson.out / "33_no_barrier.cu"
before, _, after = text.rpartition("        __syncthreads();\n")
forgot.write_text(before + after, encoding="utf-8")
races = sanitize(f"{forgot}:matmul_registers", *operands(64, 16, 64), 64, 16, 64)
print(f"{races[0]}\n")
assert {finding.kind for finding in races} == {"racecheck"}
assert not sanitize(rungs["v4"], *operands(64, 16, 64), 64, 16, 64)
for pad, lost in {0: 7, 1: 3, 4: 0}.items():
    padded = lesson.out / f"33_pad_{pad}.cu"
    padded.write_text(text.replace("[TILE + 1]", f"[TILE + {pad}]"), encoding="utf-8")
    accesses = profile(f"{padded}:matmul_registers", a, b, c, M, K, L).accesses
    (store,) = (x for x in accesses if (x.kind, x.array) == ("store", "a_tile"))
    print(f"pad {pad}: {store.conflicts / store.requests:.0f} passes lost per store")
    assert store.conflicts == lost * store.requests
tiles = [profile(rungs["v4"], *operands(n, 8, n), n, 8, n).blocks for n in (64, 65)]
print(f"64 x 64 elements: {tiles[0]} tile; 65 x 65: {tiles[1]}, as much work each")
assert tiles == [1, 4]

# %%
less = by_hand["v1"] / by_hand["v4"]
print(f"the claim: the same {2 * M * K * L:,} operations; v1 moves {less:.0f} times v4's bytes")
assert less > 50
assert by_hand["v1"] > 4 * by_hand["v2"]  # one line's difference

# %% [markdown]
# ## Now change this
#
# 1. `TILE 32` in v3, in a copy of kernels/ (blocks of 1024): predict bytes and loads, then profile.
# 2. M = 1, a vector times a matrix: no tile helps. How many operations per byte are left?
#
# **The exercise:** `minseg exercise check tiled_matmul`: v3 by yourself, for any sizes.
#
# ## Check yourself
#
# 1. Why not T = 1024? A block has at most 256 KB of registers.
# 2. v4 and v8 both have T = 64. How do tensor cores save reads of shared memory?
#
# ## Answers
#
# 1. The sums stay in registers until the end, and 1024^2 floats are 4 MB.
# 2. A warp's 32 lanes share one tile of 32 x 32: 1/16 float per FMA, not 1/2: eight times less.
