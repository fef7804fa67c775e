# %% [markdown]
# # 32 · Shared memory, and the barrier that you forgot
#
# In a transpose either the reads go down columns or the writes do, and for these the memory moves
# eight times what is wanted (lesson 31). **The question:** can a transpose read and write along
# rows? It can, if the threads of a block help each other. But threads that share something must
# wait for each other: what happens if they don't, and how is it found?
#
# You need lessons 30 and 31, and a C++ compiler (else `pip install ziglang`).

# %%
from collections.abc import Iterator

import numpy as np
from matplotlib.patches import Rectangle

from minseg import Tensor
from minseg.data import Street
from minseg.emulator.profile import profile
from minseg.emulator.sanitize import sanitize
from minseg.kernels import launch
from minseg.lesson import BLUE, ORANGE, start

lesson = start()
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## The detour, by hand
#
# Each block has some **shared memory**: small, fast, close to its threads, seen by all of them. A
# block takes a tile of x there, row by row, and writes it to y row by row, but with the two indices
# of the tile swapped in between. With t = threadIdx, b = blockIdx, T the side of the tile:
#
#     tile[t.y][t.x] = x[b.y T + t.y][b.x T + t.x]        neighbours in t.x: along a row of x
#     y[b.x T + t.y][b.y T + t.x] = tile[t.x][t.y]        neighbours in t.x: along a row of y
#
# A thread reads from the tile what *another* thread put there: (t.y, t.x) reads what (t.x, t.y)
# wrote. It may run long before. So between the two lines stands a **barrier**, `__syncthreads()`:
# nobody passes until all threads of the block have arrived. Here is a block of T x T threads in
# Python. A thread is a generator; where it says `yield`, it waits for all others.


# %%
def thread(
    x: np.ndarray, y: np.ndarray, tile: np.ndarray, ty: int, tx: int, barrier: bool
) -> Iterator[None]:
    tile[ty, tx] = x[ty, tx]
    if barrier:
        yield
    y[ty, tx] = tile[tx, ty]


def run_block(x: np.ndarray, barrier: bool) -> np.ndarray:
    y, tile = np.zeros_like(x), np.zeros_like(x)
    threads = [thread(x, y, tile, ty, tx, barrier) for ty, tx in np.ndindex(x.shape)]
    while threads:  # each runs to its next barrier, or to its end
        threads = [t for t in threads if next(t, "ended") != "ended"]
    return y


small = np.arange(1, 17).reshape(4, 4)
good, bad = run_block(small, barrier=True), run_block(small, barrier=False)
print(f"with the barrier:\n{good}\nwithout:\n{bad}")
assert (good == small.T).all()
assert (bad != small.T).sum() == 4 * 3 // 2  # those above the diagonal

# %% [markdown]
# ## Banks, by hand
#
# Shared memory is 32 **banks** side by side; word number w, of 4 bytes, is in bank w % 32. A bank
# serves one word a pass. A warp that wants 32 words of 32 banks has them in one pass; if they all
# lie in one bank, it takes 32. The tile has T = 32: lane t.x reads tile[t.x][t.y], word
# 32 t.x + t.y, bank t.y for *all* lanes. Make its rows 33 long, one column unused: word
# 33 t.x + t.y, bank (t.x + t.y) % 32, another for every lane.


# %%
def passes_by_hand(row_length: int) -> int:
    """Most lanes of a warp in one bank, when it reads a column of the tile."""
    return int(np.bincount([lane * row_length % 32 for lane in range(32)]).max())


assert (passes_by_hand(32), passes_by_hand(33), passes_by_hand(34)) == (32, 1, 2)

# %% [markdown]
# ## The kernels
#
# `transpose<0>` has rows of 32 in its tile, `transpose<1>` of 33. The guards stand around the
# accesses, never around the barrier. Sides of a multiple of 32 would need no guard at all.

# %%
SOURCE = """\
#define T 32
// launch: grid=(ceil_div(W, T), ceil_div(H, T)) block=(T, T)  in: x  out: y
__global__ void naive(const float* x, float* y, int H, int W) {
    int column = blockIdx.x * T + threadIdx.x, row = blockIdx.y * T + threadIdx.y;
    if (row < H && column < W) y[column * H + row] = x[row * W + column];
}

// launch: grid=(ceil_div(W, T), ceil_div(H, T)) block=(T, T)  in: x  out: y
template <int PAD>
__global__ void transpose(const float* x, float* y, int H, int W) {
    __shared__ float tile[T][T + PAD];
    int column = blockIdx.x * T + threadIdx.x, row = blockIdx.y * T + threadIdx.y;
    if (row < H && column < W) tile[threadIdx.y][threadIdx.x] = x[row * W + column];
    __syncthreads();
    column = blockIdx.y * T + threadIdx.x, row = blockIdx.x * T + threadIdx.y;  // of y, (W, H)
    if (row < W && column < H) y[row * H + column] = tile[threadIdx.x][threadIdx.y];
}
"""
FAULTY = """\
#define T 32
// launch: grid=(1) block=(T, T)  in: x  out: y
__global__ void no_barrier(const float* x, float* y) {
    __shared__ float tile[T][T + 1];
    tile[threadIdx.y][threadIdx.x] = x[threadIdx.y * T + threadIdx.x];
    y[threadIdx.y * T + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}

// launch: grid=(1, ceil_div(H, T)) block=(T, T)  in: x  out: y
__global__ void early_return(const float* x, float* y, int H) {
    __shared__ float tile[T][T + 1];
    int row = blockIdx.y * T + threadIdx.y;
    if (row >= H) return;
    tile[threadIdx.y][threadIdx.x] = x[row * T + threadIdx.x];
    __syncthreads();
    y[row * T + threadIdx.x] = tile[threadIdx.y][T - 1 - threadIdx.x];
}

// launch: grid=(1) block=(T, T)  in: x  out: y
__global__ void one_barrier(const float* x, float* y, int tiles) {
    __shared__ float tile[T][T + 1];
    int place = threadIdx.y * T + threadIdx.x;
    for (int i = 0; i < tiles; i++) {
        tile[threadIdx.y][threadIdx.x] = x[i * T * T + place];
        __syncthreads();
        y[i * T * T + place] = tile[threadIdx.x][threadIdx.y];
    }
}
"""
lesson.out.mkdir(parents=True, exist_ok=True)
file, faulty = lesson.out / "32_transpose.cu", lesson.out / "32_faulty.cu"
file.write_text(SOURCE, encoding="utf-8")
faulty.write_text(FAULTY, encoding="utf-8")

# %% [markdown]
# ## The experiment
#
# Three ways to transpose one image: sectors that a warp moves in a read of x and a write of y, and
# passes that a read of the tile takes. (Counts; how long each takes depends on the GPU.)

# %%
H, W = (64, 96) if lesson.fast else (192, 256)
grey = Street(1, (H, W), seed=lesson.seed, light="day")[0].image.mean(axis=2, dtype=np.float32)
ways = {"naive": "naive", "tile[32][32]": "transpose<0>", "tile[32][33]": "transpose<1>"}
moved, passes = {}, {}
for way, kernel in ways.items():
    x, y = (Tensor(a).to(lesson.device).data for a in (grey, np.zeros((W, H), np.float32)))
    launch(f"{file}:{kernel}", x, y, H, W)
    assert (Tensor(y).numpy() == grey.T).all()
    result = profile(f"{file}:{kernel}", grey, np.zeros((W, H), np.float32), H, W)
    by_array = {f"{a.kind} {a.array}": a for a in result.accesses}
    moved[way] = [by_array[name].sectors_a_request for name in ("load x", "store y")]
    tile = by_array.get("load tile")
    passes[way] = tile.passes / tile.requests if tile else 0
    excess = result.bytes_moved / result.bytes_least
    print(f"{way:13} sectors a read {moved[way][0]:2.0f}, a write {moved[way][1]:2.0f}; "
          f"bytes moved / least {excess:.1f}; passes {passes[way]:2.0f}")  # fmt: skip

# %% [markdown]
# ## What goes wrong
#
# **No barrier.** The emulator runs threads one after the other up to a barrier, so what a thread
# reads too early is not there yet, and half of the tile is wrong. On a GPU it may come out right a
# thousand times, because the warps happened to run in a good order. So look at no result: the
# sanitizer looks at who touched what, and whether a barrier stands between. **A return before the
# barrier**, by threads without an element: GPUs since Volta (2017) wait for those that are left, so
# it may pass; but what the others were to load is missing, and nobody says so. **One barrier in a
# loop that needs two**: a fast warp puts the next tile over the one that slow warps still read.

# %%
crop = np.ascontiguousarray(grey[:32, :32]) + 1
torn = np.zeros((32, 32), np.float32)
launch(f"{faulty}:no_barrier", crop, torn)
wrong = int((torn != crop.T).sum())
findings = sanitize(f"{faulty}:no_barrier", crop, torn)
race = next(finding for finding in findings if finding.kind == "racecheck")
print(f"no barrier: {wrong} of 1024 elements wrong\n{race}\n")
tall = np.ascontiguousarray(grey[:64, :32])
early = sanitize(f"{faulty}:early_return", tall[:40], np.zeros_like(tall[:40]), 40)
one = sanitize(f"{faulty}:one_barrier", tall, np.zeros_like(tall), 2)
print(f"{early[0]}\n\n{one[0]}\n")
assert [found[0].kind for found in (early, one)] == ["synccheck", "racecheck"]

# %%
figure = lesson.figure(12.5, 7.2)
top, bottom = figure.subfigures(2, 1, height_ratios=[1.2, 1])
panels = top.subplots(1, 4)
whole = panels[0].imshow(crop.T, cmap="gray")
panels[0].set_title("a tile, transposed")
panels[1].imshow(np.where(torn == crop.T, torn, np.nan), cmap="gray", norm=whole.norm)
panels[1].set(facecolor=ORANGE, title=f"without the barrier:\n{wrong} read too early")
for panel, length in zip(panels[2:], (32, 33), strict=True):
    banks = np.add.outer(length * np.arange(32), np.arange(length)) % 32
    panel.imshow(banks)
    panel.add_patch(Rectangle((4.5, -0.5), 1, 32, fill=False, ec=ORANGE, lw=3))
    panel.set_title(f"banks of tile[32][{length}]:\na column has {32 // passes_by_hand(length)}")
for panel in panels:
    panel.set(xticks=[], yticks=[])
left, right = bottom.subplots(1, 2)
places = np.arange(len(ways))
for offset, side, label, colour in ((-0.2, 0, "read of x", BLUE), (0.2, 1, "write of y", ORANGE)):
    heights = [sectors[side] for sectors in moved.values()]
    left.bar_label(left.bar(places + offset, heights, 0.38, color=colour, label=label), fmt="%.0f")
left.set(ylabel="sectors a request", ylim=(0, 39))
left.legend(loc="upper right")
right.bar_label(right.bar(places, [*passes.values()], 0.5, color=BLUE), fmt="%.0f")
right.set(ylabel="passes a read of the tile", ylim=(0, 39))
for axis in (left, right):
    axis.set_xticks(places, [*ways])
lesson.save(figure, "32_shared_memory")

# %%
print("the claim: by way of shared memory, reads and writes both go along rows, 4 sectors each")
assert moved.pop("naive") == [4, 32]
assert passes.pop("naive") == 0
assert all(sectors == [4, 4] for sectors in moved.values())
assert all(found == passes_by_hand(int(way[9:11])) for way, found in passes.items())
assert wrong == 32 * 31 // 2  # the threads that read above the diagonal
assert not sanitize(f"{file}:transpose<1>", grey, np.zeros((W, H), np.float32), H, W)

# %% [markdown]
# ## Now change this
#
# 1. Rows of 34, 36, 40 (`transpose<2>`, ...): predict the passes by hand, then profile.
# 2. Add the second barrier to `one_barrier`. Where must it stand?
# 3. Let `run_block` run the threads in reverse, without a barrier. Which half is wrong now?
#
# **The exercise:** `minseg exercise check stencil`: a block of 16x16 threads takes 18x18 pixels to
# shared memory, once, instead of reading nine for each of its own. Who loads those at the edges?
#
# ## Check yourself
#
# 1. Why does the diagonal come out right without a barrier?
# 2. No padding, but every row shifted, `tile[t.y][(t.x + t.y) % 32]`: could that do it, too?
#
# ## Answers
#
# 1. There a thread reads what it wrote itself; its own order is never in doubt.
# 2. Yes (a *swizzle*): lanes that write and lanes that read both fall into 32 different banks.
