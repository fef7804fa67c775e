# %% [markdown]
# # 30 · Your first kernel, and what a thread is
#
# A loop over the pixels of an image handles one after the other. A GPU is not given the loop but
# its *body*, a function called a **kernel**, and runs it once for each pixel, thousands at a time.
# Each run is a **thread**. **The question:** all threads run the same code; how does each know
# which pixel is its own, and what do threads do that have none?
#
# You need no GPU: minseg compiles the kernel for your CPU and emulates its threads there. That
# takes a C++ compiler, g++ or clang++; if you have none, `pip install ziglang` brings one.

# %%
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
from matplotlib.patches import Rectangle

from minseg import Tensor, viz
from minseg.data import Street
from minseg.emulator.sanitize import sanitize
from minseg.kernels import launch
from minseg.lesson import AMBER, BLUE, GREEN, ORANGE, SKY, start

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## The index, by hand
#
# Threads come in **blocks** of equal size; all blocks of a launch form its **grid**. Each thread
# has two built-in variables: `blockIdx.x`, the number of its block, and `threadIdx.x`, its number
# within the block. From these it computes its index into an array of n elements. For n = 10, blocks
# of 4:
#
#     blockIdx.x       0  0  0  0    1  1  1  1    2  2  2  2
#     threadIdx.x      0  1  2  3    0  1  2  3    0  1  2  3
#     i = 4 b + t      0  1  2  3    4  5  6  7    8  9 10 11
#
# 10 / 4 is 2.5, so it takes ceil(10 / 4) = 3 blocks: 12 threads for 10 elements. Threads 10 and 11
# have nothing to do, and the code must say so. In general (with integer division, as in C):
#
#     blocks = (n + B - 1) / B          threads without an element: blocks * B - n
#
# As loops, y = a x + y ("saxpy": single-precision a times x plus y) looks like this:


# %%
def saxpy_loops(x: np.ndarray, y: np.ndarray, a: float, n: int, B: int) -> None:
    for b in range((n + B - 1) // B):  # the grid
        for t in range(B):  # a block
            i = b * B + t
            if i < n:  # the guard
                y[i] = a * x[i] + y[i]


# %% [markdown]
# ## The kernel
#
# The body in CUDA C; the GPU supplies both loops. `__global__` marks a kernel; `float*` is an array
# of float32 that does not know its length, so n is passed, too; each thread has an `i` of its own.
# The comment above it is not CUDA but minseg's: the grid and block to launch, what is read and
# written (in plain CUDA: `saxpy<<<grid, block>>>(x, y, a, n)`). An image takes two dimensions.

# %%
SOURCE = """\
#define B 64

// launch: grid=(ceil_div(n, B)) block=(B)  in: x  inout: y
__global__ void saxpy(const float* x, float* y, float a, int n) {
    int i = blockIdx.x * B + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

// launch: grid=(ceil_div(W, 16), ceil_div(H, 16)) block=(16, 16)  in: x  out: mask
__global__ void threshold(const float* x, unsigned char* mask, float level, int H, int W) {
    int column = blockIdx.x * 16 + threadIdx.x, row = blockIdx.y * 16 + threadIdx.y;
    if (row < H && column < W) mask[row * W + column] = x[row * W + column] > level;
}

// launch: grid=(3) block=(4)  out: y
__global__ void who(int* y, int n) {
    int i = blockIdx.x * 4 + threadIdx.x;
    printf("block %d, thread %d: i = %d\\n", (int)blockIdx.x, (int)threadIdx.x, i);
    if (i < n) y[i] = i;
}
"""


def write_cu(name: str, text: str) -> str:
    path = lesson.out / f"{name}.cu"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


kernels = write_cu("30_kernels", SOURCE)
n = 1000
x, y = rng.standard_normal((2, n), dtype=np.float32)
expected = 2 * x + y  # NumPy, which hides its loop
by_loops = y.copy()
saxpy_loops(x, by_loops, np.float32(2), n, B=64)
on_device = Tensor(x).to(lesson.device).data, Tensor(y.copy()).to(lesson.device).data
launch(f"{kernels}:saxpy", *on_device, 2.0, n)  # it writes into its y
assert (by_loops == expected).all()
assert np.allclose(Tensor(on_device[1]).numpy(), expected, rtol=0, atol=1e-6)  # GPU: one rounding
print(f"saxpy: {n} elements, {-(-n // 64)} blocks of 64, the same as loops and NumPy")

# %% [markdown]
# ## In which order?
#
# `printf` works in a kernel, and is the first tool for finding out. The *sanitizer*, needed below,
# runs a kernel three times: in order, reversed, shuffled. A GPU may take *any* order, and runs many
# threads at once: a thread must not depend on another having run before it.

# %%
printed = StringIO()
with redirect_stdout(printed):
    findings = sanitize(f"{kernels}:who", np.zeros(10, np.int32), 10)
assert not findings
lines = printed.getvalue().splitlines()  # 12 threads, three times
for row in zip(lines[:12], lines[12:24], lines[24:], strict=True):
    print("   ".join(f"{line:27}" for line in row).rstrip())

# %% [markdown]
# ## The experiment: take the guard away
#
# An array in GPU memory ends where the next one begins, and no index is checked: thread 10 writes
# into memory that is not ours. Often nothing visible happens, until one day that memory matters. So
# we use the sanitizer, which knows where each array ends and counts every access beyond. (Never
# `launch` this kernel: on the CPU, too, it would overwrite other memory.)

# %%
UNGUARDED = """\
// launch: grid=(ceil_div(n, B)) block=(B)  in: x  out: mask
template <int B>
__global__ void unguarded(const float* x, unsigned char* mask, float level, int n) {
    int i = blockIdx.x * B + threadIdx.x;
    mask[i] = x[i] > level;
}
"""
unguarded = write_cu("30_unguarded", UNGUARDED)
H, W = 90, 120
street = Street(1, (H, W), seed=lesson.seed, light="day")[0].image
grey = street.mean(axis=2, dtype=np.float32)  # (H, W)
n = H * W
sizes = (64, 256) if lesson.fast else (32, 64, 128, 256, 512)
stray, spare = [], []
for size in sizes:
    blocks = (n + size - 1) // size
    spare.append(blocks * size - n)  # by hand
    findings = sanitize(f"{unguarded}:unguarded<{size}>", grey, np.zeros(n, np.uint8), 0.5, n)
    writes = [f for f in findings if f.kind == "memcheck" and f.variable == "mask"]
    stray.append(sum(f.count for f in writes))
    print(f"{blocks:3} blocks of {size:3}: {spare[-1]:3} spare threads, {stray[-1]:3} stray writes")
print(f"\nIn the sanitizer's words:\n{writes[0]}\n")

# %%
# A real mask, too: blocks of 16x16 threads, some of them past the right and bottom borders.
image, mask = (Tensor(a).to(lesson.device).data for a in (grey, np.zeros((H, W), np.uint8)))
launch(f"{kernels}:threshold", image, mask, 0.5, H, W)
assert (Tensor(mask).numpy() == (grey > 0.5)).all()

figure = lesson.figure(12, 7.4)
axes = figure.subplot_mosaic([["line", "line"], ["mask", "bars"]], height_ratios=[1, 2.4])
for i in range(12):
    b, t = divmod(i, 4)
    left, colour = i + 0.6 * b, (SKY, AMBER, GREEN)[b] if i < 10 else "white"
    hatch = None if i < 10 else "//"
    axes["line"].add_patch(Rectangle((left, 0), 0.94, 1, fc=colour, ec="black", hatch=hatch))
    box = {"color": colour, "pad": 2}
    axes["line"].text(left + 0.47, 0.5, i, ha="center", va="center", size=16, bbox=box)
    axes["line"].text(left + 0.47, 1.15, f"{b}, {t}", ha="center")
axes["line"].set(xlim=(-0.1, 13.3), ylim=(-0.1, 1.6))
axes["line"].set_title("n = 10, blocks of 4: thread (b, t) takes element i = 4 b + t")
axes["line"].set_axis_off()
axes["mask"].add_patch(Rectangle((0, 0), 128, 96, fc="white", hatch="//", lw=0, zorder=0))
picture = viz.colourise(Tensor(mask).numpy(), viz.OKABE_ITO[[5, 4]])
axes["mask"].imshow(picture, extent=(0, W, H, 0), zorder=1)
axes["mask"].set(xlim=(0, 128), ylim=(96, 0), xticks=range(0, 129, 16), yticks=range(0, 97, 16))
axes["mask"].grid(color="black", lw=1.2)
axes["mask"].set_title("a mask of 90x120 by 6x8 blocks;\nhatched: threads without a pixel")
places = np.arange(len(sizes))
bars = axes["bars"].bar(places - 0.2, spare, width=0.38, color=BLUE, label="by hand: spare threads")
axes["bars"].bar_label(bars)
bars = axes["bars"].bar(places + 0.2, stray, width=0.38, color=ORANGE, label="found: stray writes")
axes["bars"].bar_label(bars)
axes["bars"].set(xticks=places, xlabel="threads per block", title="90x120 pixels, no guard")
axes["bars"].set(ylim=(0, 1.2 * max(spare)))
axes["bars"].set_xticklabels(sizes)
axes["bars"].legend(loc="upper left")
lesson.save(figure, "30_first_kernel")

# %% [markdown]
# ## What goes wrong
#
# **A guard on the flat index**: i < H * W also holds for a thread past the right border; it lands
# in the *next row*, and two threads write one pixel, a **race**. **A grid rounded down**: of n / B
# instead of ceil(n / B) blocks; the end is never written. **Another dtype**: NumPy's is float64. A
# kernel that takes its bytes for float32 silently computes nonsense; minseg refuses.

# %%
FAULTY = """\
// launch: grid=(ceil_div(W, 16), ceil_div(H, 16)) block=(16, 16)  out: y
__global__ void flat_guard(float* y, int H, int W) {
    int i = (blockIdx.y * 16 + threadIdx.y) * W + blockIdx.x * 16 + threadIdx.x;
    if (i < H * W) y[i] = i;
}

// launch: grid=(n / 64) block=(64)  out: y
__global__ void rounded_down(float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) y[i] = i;
}
"""
faulty = write_cu("30_faulty", FAULTY)
flat = sanitize(f"{faulty}:flat_guard", np.zeros((16, 20), np.float32), 16, 20)
down = sanitize(f"{faulty}:rounded_down", np.zeros(1000, np.float32), 1000)
print(f"{flat[0]}\n\n{down[0]}\n")
try:
    launch(f"{kernels}:saxpy", x.astype(np.float64), y, 2.0, n)
except TypeError as error:
    print(f"another type: {error}")
assert {f.kind for f in flat + down} == {"racecheck", "initcheck"}

# %%
print("the claim: without the guard each spare thread writes outside the array; with it, none")
assert stray == spare
assert not sanitize(f"{kernels}:threshold", grey, np.zeros((H, W), np.uint8), 0.5, H, W)

# %% [markdown]
# ## Now change this
#
# 1. Make n = 1024. Which block sizes are safe without a guard? Would you leave it out?
# 2. Launch `saxpy` with 4 blocks only, and let each thread loop: `for (; i < n; i += 4 * B)`.
# 3. Put the line `// sample: H=16 W=20 y=(H, W)` above `flat_guard` in `out/30_faulty.cu`, then run
#    `minseg sanitize out/30_faulty.cu:flat_guard`, and mend the file until it finds nothing.
#
# **The exercise:** `minseg exercise check saxpy`: your first kernel; then write ReLU the same way.
#
# ## Check yourself
#
# 1. An image of 375x1242, blocks of 32x8 (columns, rows): how many blocks, how many spare threads?
# 2. Why does the sanitizer report the flat guard as a "race", and not as "past the end"?
#
# ## Answers
#
# 1. 39 x 47 = 1833 blocks: 39 * 32 = 1248 columns, 47 * 8 = 376 rows, 469248 - 465750 = 3498.
# 2. Its stray threads write inside the array, to a row that belongs to other threads.
