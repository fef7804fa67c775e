# %% [markdown]
# # 31 · Memory: what a warp asks for together
#
# Most kernels of a segmentation network compute little and read much, so they take as long as the
# memory does. **The question:** one kernel copies an image, another copies it transposed. Each
# reads every pixel once. Why does the memory have to deliver eight times as many bytes for the
# second one, and can this be seen without a GPU?
#
# You need lesson 30, and a C++ compiler: g++ or clang++; if you have none, `pip install ziglang`.

# %%
import numpy as np

from minseg import Tensor
from minseg.data import Street
from minseg.emulator.profile import Access, Profile, profile
from minseg.emulator.sanitize import sanitize
from minseg.kernels import launch
from minseg.lesson import BLUE, ORANGE, start

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## Addresses, by hand
#
# A GPU does not run threads one by one but in groups of 32 with consecutive threadIdx.x: a
# **warp**; each of its threads is a **lane**. When a warp reads, its 32 addresses go out as one
# *request*, and memory answers in **sectors** of 32 bytes, 8 floats, whole or not at all.
#
#     lane                      0     1     2    ...   7     8   ...   31
#     x[row][lane], byte        0     4     8         28    32        124     sectors 0, 1, 2, 3
#     x[lane][col], byte        0    4 W   8 W       28 W  32 W      124 W    32 sectors, if W >= 8
#
# Neighbouring lanes read neighbouring addresses: 128 bytes in 4 sectors, nothing is wasted. This is
# called **coalesced**. Down a column each lane needs its own sector, and uses 4 of its 32 bytes.
#
# You know this from NumPy. An array is memory and *strides*, the steps from one index to the next:
# x (H, W) has the strides (W, 1), counted in elements, and x.T is the same memory with (1, W). The
# lanes walk along the last axis, so its stride s decides. Counted one by one:


# %%
def sectors_by_hand(stride: int, offset: int = 0) -> int:
    """How many different sectors of 8 floats the 32 lanes of a warp touch."""
    return len({(offset + stride * lane) // 8 for lane in range(32)})


assert [sectors_by_hand(s) for s in (0, 1, 2, 4, 8, 256)] == [1, 4, 8, 16, 32, 32]

# %% [markdown]
# ## The kernels
#
# `copy` is `np.ascontiguousarray` for any view: a thread reads the element that the strides lead
# to, and writes it to its place in a new array. `copy4` moves a `float4`, four floats per thread.
# `sum_channels` adds the channels of each pixel, for both memory layouts of images: NCHW, all of
# one channel, then the next; NHWC, all channels of one pixel, then the next pixel.

# %%
SOURCE = """\
// launch: grid=(ceil_div(W, 32), ceil_div(H, 8)) block=(32, 8)  in: x  out: y
__global__ void copy(const float* x, float* y, int H, int W,
                     int row_stride, int column_stride, int offset) {
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 8 + threadIdx.y;
    if (row < H && column < W)
        y[row * W + column] = x[offset + row * row_stride + column * column_stride];
}

// launch: grid=(ceil_div(n, 1024)) block=(256)  in: x  out: y
__global__ void copy4(const float* x, float* y, int n, int offset) {
    int i = 4 * (blockIdx.x * 256 + threadIdx.x);
    if (i + 3 < n)
        *reinterpret_cast<float4*>(y + i) = *reinterpret_cast<const float4*>(x + offset + i);
}

// launch: grid=(ceil_div(pixels, 256)) block=(256)  in: x  out: y
__global__ void sum_channels(const float* x, float* y, int C, int pixels,
                             int channel_stride, int pixel_stride) {
    int i = blockIdx.x * 256 + threadIdx.x;
    float sum = 0;
    for (int c = 0; c < C; c++)
        if (i < pixels) sum += x[c * channel_stride + i * pixel_stride];
    if (i < pixels) y[i] = sum;
}

// launch: grid=(ceil_div(H, 32), ceil_div(W, 8)) block=(32, 8)  in: x  out: y
__global__ void copy_swapped(const float* x, float* y, int H, int W) {
    int row = blockIdx.x * 32 + threadIdx.x, column = blockIdx.y * 8 + threadIdx.y;
    if (row < H && column < W) y[row * W + column] = x[row * W + column];
}
"""
file = lesson.out / "31_memory.cu"
file.parent.mkdir(parents=True, exist_ok=True)
file.write_text(SOURCE, encoding="utf-8")

# %% [markdown]
# ## The experiment
#
# The profiler counts what each warp requests. Which of these views is cheap? Guess before you read
# on: every other row, every other column, backwards, shifted by one pixel, one of three colours.

# %%
side = 256
x = rng.standard_normal((side, side), dtype=np.float32)
image = Street(1, (96, 128), seed=lesson.seed)[0].image.astype(np.float32)  # (H, W, 3): NHWC
views = {
    "x": x,
    "x[::2]": x[::2],
    "x[:, ::-1]": x[:, ::-1],
    "x[:, 1:-31]": x[:, 1:-31],
    "x[:, ::2]": x[:, ::2],
    "image[:, :, 0]": image[:, :, 0],
    "x.T": x.T,
}


def arguments(view: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int, int, int, int]:
    """What `copy` takes: the memory of the view, an output, its shape, strides, first element."""
    memory = image if np.shares_memory(view, image) else x
    offset = (view.ctypes.data - memory.ctypes.data) // 4
    row_stride, column_stride = (stride // 4 for stride in view.strides)
    return memory, np.zeros(view.shape, np.float32), *view.shape, row_stride, column_stride, offset


def reads(result: Profile) -> Access:
    return next(a for a in result.accesses if (a.kind, a.array) == ("load", "x"))


results: dict[str, Profile] = {}
for name, view in views.items():
    memory, y, *numbers = arguments(view)
    on_device = Tensor(memory).to(lesson.device).data, Tensor(y).to(lesson.device).data
    launch(f"{file}:copy", *on_device, *numbers)
    assert (Tensor(on_device[1]).numpy() == view).all()
    results[name] = profile(f"{file}:copy", memory, y, *numbers)
    hand = sectors_by_hand(view.strides[1] // 4, numbers[-1])
    assert reads(results[name]).sectors_a_request == hand
results["x, float4"] = profile(f"{file}:copy4", x, np.zeros_like(x), x.size, 0)
C, pixels = 16, x.size // 16
layouts = {"NCHW": (x.reshape(C, pixels).sum(axis=0), pixels, 1),
           "NHWC": (x.reshape(pixels, C).sum(axis=1), 1, C)}  # fmt: skip
for layout, (expected, *steps) in layouts.items():
    totals = np.zeros(pixels, np.float32)
    launch(f"{file}:sum_channels", x, totals, C, pixels, *steps)
    assert np.allclose(totals, expected, rtol=0, atol=1e-5)
    name = f"{C} channels, {layout}"
    results[name] = profile(f"{file}:sum_channels", x, totals, C, pixels, *steps)
excess = {name: result.bytes_moved / result.bytes_least for name, result in results.items()}
for name, result in results.items():
    sectors = reads(result).sectors_a_request
    print(f"{name:17} {sectors:4.0f} sectors per read; bytes moved / least {excess[name]:5.2f}")

# %% [markdown]
# Skipping rows and walking backwards is free: what counts is how many sectors a warp's addresses
# fall into, not their order. A shift by one pixel costs a fifth sector. `float4` moves no fewer
# bytes; it only requests 16 sectors at once, with a quarter of the requests. With one thread per
# pixel, NHWC is the transposed case: each of 16 reads moves 32 sectors. So with NHWC, give the
# lanes to the channels instead. (The counts are what warps request. A GPU's cache may still hold a
# sector when it is needed again, until too many warps need too many sectors at once.)
#
# The figure: a panel is the first 32 KiB of x, 32 sectors per row; a dot is a sector that the first
# read of a warp moves, its colour the (last) lane that needs it.

# %%
strides = range(0, 17, 4 if lesson.fast else 1)
by_hand = [sectors_by_hand(stride) for stride in strides]
counted = []
for stride in strides:
    wide = np.zeros(32 * 16, np.float32)
    numbers = (1, 32, 0, stride, 0)
    result = profile(f"{file}:copy", wide, np.zeros(32, np.float32), *numbers)
    counted.append(reads(result).sectors_a_request)
assert counted == by_hand

shown = ["x", "x[:, ::2]", "x.T", "x, float4", f"{C} channels, NHWC"]
figure = lesson.figure(12.5, 7.6)
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.35])
axes = top.subplots(1, len(shown))
for axis, name in zip(axes, shown, strict=True):
    access = reads(results[name])
    touched = np.full(32 * 32, np.nan)
    for lane, first in enumerate(access.example):
        if first // 32 < touched.size:
            touched[first // 32] = lane
    picture = touched.reshape(32, 32)
    rows, places = np.nonzero(~np.isnan(picture))
    dots = axis.scatter(places, rows, c=picture[rows, places], s=24, marker="s", vmin=0, vmax=31)
    axis.set(xlim=(-1, 32), ylim=(32, -1), xticks=[], yticks=[], aspect="equal")
    axis.set(facecolor="0.9", xlabel="32 sectors per row")
    axis.set_title(f"{name}\n{access.sectors_a_request:.0f} sectors")
axes[0].set_ylabel("32 KiB")
top.colorbar(dots, ax=axes, label="lane", ticks=(0, 31), shrink=0.7)
left, right = bottom.subplots(1, 2)
colours = [ORANGE if value > 1.3 else BLUE for value in excess.values()]
left.bar_label(left.barh([*excess], [*excess.values()], color=colours), fmt=" %.1f")
left.set(xlim=(0, 9), xlabel="bytes moved / bytes touched, whole kernel")
left.invert_yaxis()
right.plot(strides, by_hand, color=BLUE, label="by hand")
right.plot(strides, counted, "o", color=ORANGE, label="counted by the profiler")
right.set(xlabel="stride between neighbouring lanes, in floats", ylabel="sectors per read")
right.set(ylim=(0, 35), xticks=range(0, 17, 4), yticks=range(0, 33, 8))
right.legend(loc="lower right")
lesson.save(figure, "31_memory")

# %% [markdown]
# ## What goes wrong
#
# **threadIdx.x as the row**, because x sounds like the first index. The result is right and the
# sanitizer finds nothing; only the profiler sees it. **A misaligned float4**, not at a multiple of
# 16 bytes: a GPU aborts the kernel. **A length that four does not divide**: who copies the rest?

# %%
square = (x, np.zeros_like(x), side, side)
swapped = profile(f"{file}:copy_swapped", *square)
print(f"swapped: {len(sanitize(f'{file}:copy_swapped', *square))} findings, but bytes moved / "
      f"least {swapped.bytes_moved / swapped.bytes_least:.2f}")  # fmt: skip
aside = sanitize(f"{file}:copy4", x.ravel(), np.zeros(64, np.float32), 64, 1)
rest = sanitize(f"{file}:copy4", x.ravel(), np.zeros(66, np.float32), 66, 0)
print(f"\n{aside[0]}\n\n{rest[0]}\n")
assert (aside[0].kind, rest[0].kind) == ("memcheck", "initcheck")

# %%
cost = reads(results["x.T"]).sectors / reads(results["x"]).sectors
print(f"the claim: to read x down its columns, the memory delivers {cost:.0f} times the bytes")
assert cost == 8
assert swapped.bytes_moved == 8 * swapped.bytes_least
assert excess["x"] == excess["x[::2]"] == excess["x, float4"] == excess["16 channels, NCHW"] == 1
assert excess["x.T"] == (8 + 1) / 2  # its writes are coalesced

# %% [markdown]
# ## Now change this
#
# 1. Let the threads of `copy` walk along x.T's memory: coalesced reads, scattered writes. Better?
# 2. Blocks of (8, 32) instead of (32, 8): what is a warp now? Predict the sectors, then profile.
# 3. Read `image` as bytes (`unsigned char`): how many sectors does a warp need at least?
#
# **The exercise:** `minseg exercise check transpose`. Or `sum_channels` for NHWC, each byte read
# once: lanes along the channels, as many threads per pixel as channels. What problem remains?
#
# ## Check yourself
#
# 1. A warp reads the red channel of an RGB image in NHWC. How many sectors? What share is used?
# 2. Each lane reads one double, side by side. How many sectors per request? Is it coalesced?
#
# ## Answers
#
# 1. 32 * 3 * 4 = 384 bytes are 12 sectors, a third of them used: as `image[:, :, 0]` above.
# 2. 32 * 8 = 256 bytes are 8 sectors, fully used: coalesced. What counts is the waste.
