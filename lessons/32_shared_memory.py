# %% [markdown]
# # 32 · Shared memory, and the barrier that you forgot
#
# In a transpose either the reads go down columns or the writes do, and for these the memory moves
# eight times what is needed (lesson 31). **The question:** can a transpose read *and* write along
# rows? It can, if the threads of a block cooperate. But threads that share data must wait for each
# other: what happens if they don't, and how is it found?
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
# Each block has some **shared memory**: small, fast, close to its threads, visible to all of them.
# A block loads a tile of x there, row by row, and writes it to y, again row by row, with the tile's
# two indices swapped in between. With t = threadIdx, b = blockIdx, T the side of the tile:
#
#     tile[t.y][t.x] = x[b.y T + t.y][b.x T + t.x]        neighbours in t.x: along a row of x
#     y[b.x T + t.y][b.y T + t.x] = tile[t.x][t.y]        neighbours in t.x: along a row of y
#
# A thread reads from the tile what *another* thread wrote: (t.y, t.x) reads what (t.x, t.y) wrote,
# perhaps too early. So between the two lines stands a **barrier**, `__syncthreads()`: no thread
# passes until all threads of the block have arrived. Here is a block of T x T threads in Python.
# Each thread is a generator; at `yield` it waits for all others.


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
# serves one word per pass. 32 words in 32 banks take a warp one pass; 32 words in the same bank
# take 32 passes, a **bank conflict**. With T = 32, lane t.x reads tile[t.x][t.y], word 32 t.x +
# t.y, in bank t.y for *all* lanes. With **padding**, rows of 33 with one column unused, it is word
# 33 t.x + t.y, in bank (t.x + t.y) % 32: a different one for each lane.


# %%
def passes_by_hand(row_length: int) -> int:
    """Most lanes of a warp in one bank, when it reads a column of the tile."""
    return int(np.bincount([lane * row_length % 32 for lane in range(32)]).max())


assert (passes_by_hand(32), passes_by_hand(33), passes_by_hand(34)) == (32, 1, 2)

# %% [markdown]
# ## The kernels
#
# The tile's rows have 32 elements in `transpose<0>` and 33 in `transpose<1>`. Guards enclose the
# accesses, never the barrier. For sides that are multiples of 32 no guard would be needed.

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
# Three ways to transpose an image: the sectors that a warp moves to read x and to write y, and the
# passes to read the tile. (These are counts; the times depend on the GPU.)

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
    print(f"{way:13} sectors per read {moved[way][0]:2.0f}, per write {moved[way][1]:2.0f}; "
          f"bytes moved / least {excess:.1f}; passes {passes[way]:2.0f}")  # fmt: skip

# %% [markdown]
# ## What goes wrong
#
# **No barrier.** The emulator runs a thread up to its next barrier, then the next thread, so what a
# thread reads may not be there yet, and half of the tile is wrong. On a GPU the result may be right
# a thousand times, because the warps happened to run in a good order. So trust no result: the
# sanitizer checks who touched what, and whether a barrier stands between. **A return before the
# barrier**, by threads without an element: GPUs since Volta (2017) wait for the remaining ones, so
# it may work; but what the others should have loaded is missing, silently. **One barrier in a loop
# that needs two**: a fast warp overwrites the tile that slow warps still read.

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
    panel.set_title(f"banks of tile[32][{length}]:\na column uses {32 // passes_by_hand(length)}")
for panel in panels:
    panel.set(xticks=[], yticks=[])
left, right = bottom.subplots(1, 2)
places = np.arange(len(ways))
for offset, side, label, colour in ((-0.2, 0, "read of x", BLUE), (0.2, 1, "write of y", ORANGE)):
    heights = [sectors[side] for sectors in moved.values()]
    left.bar_label(left.bar(places + offset, heights, 0.38, color=colour, label=label), fmt="%.0f")
left.set(ylabel="sectors per request", ylim=(0, 39))
left.legend(loc="upper right")
right.bar_label(right.bar(places, [*passes.values()], 0.5, color=BLUE), fmt="%.0f")
right.set(ylabel="passes per read of the tile", ylim=(0, 39))
for axis in (left, right):
    axis.set_xticks(places, [*ways])
lesson.save(figure, "32_shared_memory")

# %%
print("the claim: through shared memory, reads and writes both go along rows, 4 sectors each")
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
# **The exercise:** `minseg exercise check stencil`: a block of 16x16 threads loads 18x18 pixels
# into shared memory once, instead of reading nine for each of its own. Who loads the border?
#
# ## Check yourself
#
# 1. Why does the diagonal come out right without a barrier?
# 2. No padding, but every row rotated, `tile[t.y][(t.x + t.y) % 32]`: does that work, too?
#
# ## Answers
#
# 1. There a thread reads what it wrote itself; within one thread, the order is certain.
# 2. Yes (a *swizzle*): lanes that write and lanes that read both fall into 32 different banks.
