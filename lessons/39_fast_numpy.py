# %% [markdown]
# # 39 · Fast NumPy: where a convolution's time goes
#
# Lesson 02 made a convolution one matrix product, and those run at the processor's speed. **The
# question:** why is a convolution still slow, then, and what can plain NumPy do about it?

# %%
import timeit
import tracemalloc
from collections.abc import Callable

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.compare.floors import measure
from minseg.lesson import BLUE, GREEN, ORANGE, PINK, start
from minseg.parallel import get_num_threads, in_blocks, parallel_for, set_num_threads

lesson = start()
rng = np.random.default_rng(lesson.seed)


def seconds(run: Callable[[], object], repeat: int = 3 if lesson.fast else 9) -> float:
    """The shortest of several runs: a disturbance can only make a run longer."""
    return min(timeit.repeat(run, number=1, repeat=repeat + 1)[1:])  # the first warms caches up


# %% [markdown]
# ## By hand: bytes and operations
#
# A program computes, and it moves bytes between memory and processor; both have a top speed. A 3x3
# layer from C to O channels on L pixels (in all images) computes
#
#     2 * 9 C * O * L operations,        and lesson 02's columns have 9 C * L floats,
#
# each written once and read once: 72 C L bytes, so O / 4 operations per byte. Image and result are
# smaller: most of the traffic is the *columns*.

# %%
N, C, O, H, W = (2, 16, 16, 30, 40) if lesson.fast else (8, 32, 32, 120, 160)
x = rng.standard_normal((N, C, H, W), np.float32)
w = rng.standard_normal((O, C, 3, 3), np.float32)
operations, moved = 2 * 9 * C * O * N * H * W, 2 * 4 * 9 * C * N * H * W

machine = measure("cpu")  # how fast this one copies, and multiplies large matrices
bandwidth, peak = machine.bandwidth, machine.operations["float32"]
print(f"{operations / 1e9:.1f} GFLOP at {peak / 1e9:.0f} GFLOP/s: {1e3 * operations / peak:.0f} ms")
print(f"{moved / 1e6:.0f} MB at {bandwidth / 1e9:.0f} GB/s: {1e3 * moved / bandwidth:.0f} ms")

# %% [markdown]
# ## Step 0: lesson 02's way, with a clock between its two halves


# %%
def fill(columns: np.ndarray, padded: np.ndarray) -> np.ndarray:
    """im2col of padded (C, h + 2, W + 2) into columns (C, 3, 3, h, W), as a matrix."""
    for i, j in np.ndindex(3, 3):
        columns[:, i, j] = padded[:, i : i + columns.shape[3], j : j + W]
    return columns.reshape(9 * C, -1)


padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
matrix = w.reshape(O, -1)
spent = {"columns": 0.0, "product": 0.0}


def all_at_once() -> np.ndarray:
    begin = timeit.default_timer()
    columns = np.empty((N, C, 3, 3, H, W), np.float32)
    for n in range(N):
        fill(columns[n], padded[n])
    between = timeit.default_timer()
    y = matrix @ columns.reshape(N, 9 * C, H * W)
    spent["columns"], spent["product"] = between - begin, timeit.default_timer() - between
    return y.reshape(N, O, H, W)


times = {"all columns at once": seconds(all_at_once)}
print(f"{spent['columns'] / sum(spent.values()):.0%} of the time goes into writing the columns")

# %% [markdown]
# Writing the columns computes nothing, and only one core does it; then they are too large to stay
# in the cache, and the product waits for them.
#
# ## Step 1: a block of columns at a time
#
# A product needs each column once. So make those of some rows of the image, in a buffer that fits
# into the cache, multiply them while they are there, and reuse the buffer.


# %%
def one_by_one(body: Callable[[int], None], count: int) -> None:
    for i in range(count):
        body(i)


def by_blocks(rows: int, for_each: Callable[..., None]) -> np.ndarray:
    y = np.empty((N, O, H, W), np.float32)
    starts = [(n, first) for n in range(N) for first in range(0, H, rows)]

    def one_block(index: int) -> None:
        n, first = starts[index]
        inside = padded[n, :, first : first + rows + 2]  # rows, and one above and below
        columns = np.empty((C, 3, 3, inside.shape[1] - 2, W), np.float32)
        y[n, :, first : first + rows] = (matrix @ fill(columns, inside)).reshape(O, -1, W)

    for_each(one_block, len(starts))
    return y


ROWS = max(1, 2**22 // (4 * 9 * C * W))  # of the image: a buffer of about four megabytes
times["a block at a time"] = seconds(lambda: by_blocks(ROWS, one_by_one))

# %% [markdown]
# Alone, that may even be slower: one core copies, and the products are too small to be shared.
#
# ## Step 2: blocks for every core
#
# `parallel_for` hands blocks to threads (NumPy releases Python's lock, the GIL, while it works) and
# keeps each product on one thread: OpenBLAS's own would spin after each, for 25 ms on our cores.
# minseg's conv2d copies even less (`minseg/ops/fast/shifted.py`), or multiplies less: lesson 40.

# %%
times["a block for each core"] = seconds(lambda: by_blocks(ROWS, parallel_for))
times["minseg's conv2d"] = seconds(lambda: F.conv2d(Tensor(x), Tensor(w), padding=1))
y = F.conv2d(Tensor(x), Tensor(w), padding=1).numpy()
bound = 8 * np.finfo(np.float32).eps * np.sqrt(9 * C) * abs(y).max()  # sums of 9 C products
for way in (all_at_once(), by_blocks(ROWS, one_by_one), by_blocks(ROWS, parallel_for)):
    assert abs(way - y).max() < bound
print("\n".join(f"{name:22} {1e3 * t:7.1f} ms" for name, t in times.items()))

# %% [markdown]
# **How large a block?** Too large, and the columns fall out of the cache. Too small, and NumPy's
# calls get short. Between two calls a thread needs the GIL; handing it over means waking a sleeper,
# which takes 20 microseconds and more. Threads whose calls are shorter only take turns.

# %%
sizes = [rows for rows in (1, 2, 4, 8, 15, 30, 60, 120) if rows <= H]
megabytes = [4 * 9 * C * W * rows / 2**20 for rows in sizes]
by_size, bits = {}, set()
for threads in sorted({1, get_num_threads()}):  # the number that it was comes last
    set_num_threads(threads)
    bits.add(by_blocks(ROWS, parallel_for).tobytes())
    by_size[threads] = [seconds(lambda rows=rows: by_blocks(rows, parallel_for)) for rows in sizes]
scaling = np.divide(by_size[1], by_size[get_num_threads()])
print("speed-up by all threads, from small blocks to large ones:", scaling.round(2))

# %% [markdown]
# ## Without a matrix product
#
# An activation only moves bytes. NumPy computes a formula operation by operation, each one reading
# and writing whole arrays, four times for x / (1 + e^-x). `in_blocks` runs the formula on pieces
# that stay in the cache, on all cores. And a *branch* costs more than arithmetic: `where` looks at
# each element's sign, and where the processor predicts it wrong, it has to start over.


# %%
def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def leaky_where(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.float32(0.1) * x)


def leaky_factors(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.float32(0.1) * np.minimum(x, 0)


assert np.array_equal(in_blocks(silu)(x), silu(x))
assert np.array_equal(leaky_where(x), leaky_factors(x))
elementwise = {
    name: 1e9 * seconds(lambda f=f, x=x: f(x)) / x.size
    for name, f, x in [
        ("silu, whole arrays", silu, x),
        ("silu, in blocks", in_blocks(silu), x),
        ("leaky ReLU by where", leaky_where, x),
        ("the same, x sorted", leaky_where, np.sort(x, axis=None)),
        ("leaky ReLU by factors", leaky_factors, x),
    ]
}
print("\n".join(f"{name:22} {t:6.2f} ns per element" for name, t in elementwise.items()))

# %%
figure = lesson.figure(13, 8.6)
axes = figure.subplot_mosaic([["steps", "roof"], ["size", "elements"]])
bars = axes["steps"].barh([*times], 1e3 * np.array([*times.values()]), color=[ORANGE] + 3 * [BLUE])
axes["steps"].bar_label(bars, fmt=" %.0f ", bbox={"fc": "white", "ec": "none", "pad": 0})
axes["steps"].axvline(1e3 * operations / peak, color="0.3", ls="--", lw=1.5, zorder=2.5)
axes["steps"].invert_yaxis()
axes["steps"].set(xlabel="ms (dashed: the product alone)", title="one layer, step by step")

ratio = np.logspace(-1, 3, 100)
axes["roof"].loglog(ratio, np.minimum(ratio * bandwidth, peak) / 1e9, color="0.3")
for name, ops, size, t, colour in [
    ("all columns", operations, moved, times["all columns at once"], ORANGE),
    ("blocks", operations, x.nbytes + y.nbytes, times["a block for each core"], BLUE),
    ("silu", 4 * x.size, 8 * x.size, elementwise["silu, in blocks"] * 1e-9 * x.size, GREEN),
]:
    axes["roof"].plot(ops / size, ops / t / 1e9, "o", ms=10, color=colour, label=name)
axes["roof"].legend(loc="lower right")
axes["roof"].set(xlabel="operations per byte", ylabel="GFLOP/s", title="this machine's roofline")

for threads, of_size in by_size.items():
    look = "o-" if threads > 1 else "o--"
    axes["size"].semilogx(megabytes, 1e3 * np.array(of_size), look, color=PINK, base=2)
axes["size"].set(xlabel="columns in a block, MiB (dashed: one thread)", ylabel="ms", ylim=0)
axes["size"].xaxis.set_major_formatter("{x:g}")

bars = axes["elements"].barh([*elementwise], [*elementwise.values()], color=GREEN)
axes["elements"].bar_label(bars, fmt=" %.2f")
axes["elements"].invert_yaxis()
axes["elements"].set(xlabel="nanoseconds per element", title="without a matrix product")
lesson.save(figure, "39_fast_numpy")

# %% [markdown]
# ## What goes wrong
#
# **Timing the first run**, which pays for cold caches and for memory that the system hands out page
# by page. **Timing one run**: other programs ran, too. **Threads within threads** compete.

# %%
tracemalloc.start()
by_blocks(ROWS, one_by_one)
needed = tracemalloc.get_traced_memory()[1]  # with the result
gain = times["all columns at once"] / times["a block for each core"]
print(f"the claim: in blocks, on {get_num_threads()} threads, {gain:.1f} times as fast; and in "
      f"{needed / 1e6:.0f} MB: the columns alone are {moved / 2e6:.0f} MB")  # fmt: skip
# Times are this machine's, as busy as it is. Bits and bytes are the same on every machine:
assert len(bits) == 1
assert lesson.fast or needed < moved / 2 / 5  # a small layer is a block or two

# %% [markdown]
# ## Now change this
#
# 1. 256 to 256 channels on 15x20: what is left to gain? (O / 4 operations per byte.)
# 2. `minseg bench --explain unet` lists every convolution of a network: which are slow, and why?
#
# **The exercise:** the gradient to the weights, `grad @ columns.T`, in blocks. What must be summed?
#
# ## Check yourself
#
# 1. A 1x1 convolution: how many operations per byte, and why does it need no columns?
# 2. Why is the result the same to the last bit, however many threads there are?
#
# ## Answers
#
# 1. 2 C O operations on 4 (C + O) bytes per pixel. The image itself is the matrix of columns.
# 2. Each output is computed by one block alone: no sum is split, so no order of adding can change.
