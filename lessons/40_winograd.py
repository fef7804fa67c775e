# %% [markdown]
# # 40 · Winograd: fewer multiplications
#
# Lesson 39 took a 3x3 convolution near the processor's speed, with 9 C multiplications per output.
# Is that the end? **The question:** can the same sums be had with fewer multiplications, and what
# is paid for those that are saved?

# %%
import time
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minseg.compare.floors import measure
from minseg.lesson import BLUE, GREEN, ORANGE, PINK, SKY, start
from minseg.ops.fast import shifted, winograd
from minseg.ops.window import Window
from minseg.parallel import blas_on_one_thread, set_num_threads

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## By hand, in one dimension
#
# Apply a kernel g of three weights at two neighbouring places of a row d:
#
#     y0 = d0 g0 + d1 g1 + d2 g2
#     y1 = d1 g0 + d2 g1 + d3 g2          six multiplications
#
# Both read d1 and d2. Winograd's method takes four multiplications, of sums:
#
#     m0 = (d0 - d2) g0                   m3 = (d3 - d1) g2
#     m1 = (d1 + d2) (g0 + g1 + g2) / 2   m2 = (d2 - d1) (g0 - g1 + g2) / 2
#
#     y0 = m0 + m1 + m2                   y1 = m1 - m2 + m3
#
# The sums of g are made once and used along the whole row. To check, multiply out: in y0 and y1 all
# unwanted terms cancel. As matrices, these are B^T d, G g and A^T m:

# %%
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]).T
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = np.array([[1, 1, 1, 0], [0, 1, -1, 1]]).T

d, g = np.array([3, 1, 4, 1]), np.array([2, 7, 1])
print("m =", m := (G @ g) * (B.T @ d), "and y =", A.T @ m)
assert np.array_equal(A.T @ m, np.correlate(d, g))

# %% [markdown]
# ## Along rows, then along columns
#
# In an image, d is a tile of 4x4 and y of 2x2. Let whole rows stand for the numbers above; each
# product of two rows is then a small convolution itself, done in the same way:
#
#     y = A^T [(G g G^T) * (B^T d B)] A       16 multiplications for 4 outputs; the definition: 36

# %%
d, g = rng.standard_normal((4, 4)), rng.standard_normal((3, 3))
y = A.T @ ((G @ g @ G.T) * (B.T @ d @ B)) @ A
for i, j in np.ndindex(2, 2):
    assert np.isclose(y[i, j], (d[i : i + 3, j : j + 3] * g).sum(), rtol=0, atol=1e-14)

# %% [markdown]
# ## Many channels
#
# y sums over C input channels, and A^T [...] A is linear: so add up first. Each of the 16 elements,
# by itself, is a sum over channels of kernels times tiles: a matrix product, in all with 16 C O
# multiplications per tile, not 36 C O. The way to the 16 elements takes 32 additions per tile for
# each *input* channel, the way back 24 for each *output* channel: with many of both, these hardly
# count; with few, they dominate.


# %%
def four(d: np.ndarray) -> np.ndarray:  # B^T d, along the first axis
    return np.stack([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]])


def two(m: np.ndarray) -> np.ndarray:  # A^T m
    return np.stack([m[0] + m[1] + m[2], m[1] - m[2] + m[3]])


def both_ways(step: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    return step(step(x).swapaxes(0, 1)).swapaxes(0, 1)


def own_winograd(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """3x3 with padding 1, on an even height and width; and when each of its parts was done."""
    (N, C, H, W), O, clock = x.shape, len(w), [time.perf_counter()]
    padded = np.pad(x.swapaxes(0, 1), ((0, 0), (0, 0), (1, 1), (1, 1)))  # (C, N, H + 2, W + 2)
    tiles = [[padded[:, :, i : i + H : 2, j : j + W : 2] for j in range(4)] for i in range(4)]
    tiles = both_ways(four, np.stack(tiles)).reshape(16, C, -1)
    clock.append(time.perf_counter())
    kernels = np.einsum("ai,bj,ocij->aboc", G, G, w, optimize=True).astype(x.dtype)
    m = kernels.reshape(16, O, C) @ tiles
    clock.append(time.perf_counter())
    y = both_ways(two, m.reshape(4, 4, O, N, H // 2, W // 2)).transpose(3, 2, 4, 0, 5, 1)
    y = y.reshape(N, O, H, W)
    clock.append(time.perf_counter())
    return y, np.diff(clock).tolist()


def columns(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Lesson 02's way, by NumPy's own means: all patches as a matrix, one product."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), (2, 3))  # (N, C, H, W, 3, 3)
    return np.tensordot(w, patches, ((1, 2, 3), (1, 4, 5))).swapaxes(0, 1)


# %% [markdown]
# ## Where it wins
#
# The same map, more and more channels. Beside these two are minseg's: shifted columns, and Winograd
# in blocks that stay in the cache (`minseg/ops/fast`). All run on one core and take turns, so that
# a slow moment hits each. Speeds count the *definition's* operations; Winograd does fewer, and may
# exceed the speed of a matrix product.

# %%
SIZE, ROUNDS = (24, 32) if lesson.fast else (48, 64), 3 if lesson.fast else 9
CHANNELS = (4, 16) if lesson.fast else (4, 8, 16, 32, 64, 128, 256)
window = Window((3, 3), (1, 1), (1, 1), (1, 1))
ways = {
    "columns": columns,
    "shifted columns": lambda x, w: shifted.forward(x, w, window),
    "our Winograd": own_winograd,
    "minseg's Winograd": lambda x, w: winograd.forward(x, w, window),
}


def seconds(way: Callable, x: np.ndarray, w: np.ndarray) -> float:
    begin = time.perf_counter()
    way(x, w)
    return time.perf_counter() - begin


set_num_threads(1)
with blas_on_one_thread():
    peak = measure("cpu").operations["float32"] / 1e9
print(f"GFLOP/s; a large matrix product: {peak:.0f}")
print("channels", *(f"{name:>18}" for name in ways))
speed, parts = [], []  # parts of own_winograd: to 16 elements, products, back
for C in CHANNELS:
    x = rng.standard_normal((2, C, *SIZE), np.float32)
    w = rng.standard_normal((C, C, 3, 3), np.float32) / np.float32(np.sqrt(9 * C))
    assert np.allclose(own_winograd(x, w)[0], columns(x, w), rtol=0, atol=1e-4)
    with blas_on_one_thread():
        turns = [[seconds(way, x, w) for way in ways.values()] for _ in range(ROUNDS + 1)]
        parts.append(np.median([own_winograd(x, w)[1] for _ in range(ROUNDS)], axis=0))
    speed.append(18 * C * x.size / 1e9 / np.median(turns[1:], axis=0))  # the first warms up
    print(f"{C:8}", *(f"{value:18.0f}" for value in speed[-1]))

# %% [markdown]
# ## Larger tiles?
#
# Where do the matrices come from? A polynomial is known by its values at as many points as it has
# coefficients, and values of a product are products of values. A, G and B evaluate at 0, 1, -1 and
# "infinity" (the highest coefficient) and interpolate again, transposed. More points allow larger
# tiles: m x m outputs take (m + 2)^2 multiplications, ever closer to one per output. But 2 and 1/2
# bring in their powers, and small differences of large numbers.


# %%
def powers(m: int, k: int) -> np.ndarray:
    """(m + 2, k): 1, x, ..., x^(k - 1) at m + 2 points, the last of them infinity."""
    points = np.array([0, 1, -1, 2, -2, 0.5, -0.5])[: m + 1, None]
    return np.vstack([points ** np.arange(k), np.eye(k)[-1]])


def in_tiles(m: int, d: np.ndarray, g: np.ndarray) -> np.ndarray:
    """m x m outputs of each of the tiles (tiles, C, m + 2, m + 2), of kernels (C, 3, 3)."""
    matrices = powers(m, m), powers(m, 3), np.linalg.inv(powers(m, m + 2))
    a, g_to, b = (matrix.astype(d.dtype) for matrix in matrices)
    return a.T @ ((g_to @ g @ g_to.T) * (b.T @ d @ b)).sum(axis=1) @ a


def plain(d: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.einsum("tcabij,cij->tab", sliding_window_view(d, (3, 3), (2, 3)), g)


errors: dict[int, float] = {}
for m in (1, 2, 4, 6):
    d, g = rng.standard_normal((300, 64, m + 2, m + 2)), rng.standard_normal((64, 3, 3))
    exact, single = plain(d, g), (d.astype(np.float32), g.astype(np.float32))
    assert np.allclose(in_tiles(m, d, g), exact, rtol=0, atol=1e-10)
    rounded = in_tiles(m, *single) if m > 1 else plain(*single)
    errors[m] = float(np.sqrt(np.mean((rounded - exact) ** 2) / np.mean(exact**2)))
    print(f"{m}x{m} outputs, {(m + 2) ** 2} multiplications: error {errors[m]:.1e}")

# %%
figure = lesson.figure(15, 4.8)
fast, spent, larger = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
names = [str(C) for C in CHANNELS]
for way, (name, colour) in enumerate(zip(ways, (ORANGE, BLUE, PINK, GREEN), strict=True)):
    look = "o--" if name in ("columns", "our Winograd") else "o-"
    fast.plot(names, [of_layer[way] for of_layer in speed], look, color=colour, label=name)
fast.axhline(peak, color="0.3", lw=1.5)
fast.text(0, peak, "a large matrix product", va="bottom")
fast.legend(loc="lower right", fontsize=11)
fast.set(xlabel="channels, in and out", ylabel="GFLOP/s by the definition", ylim=0)

shares = np.array(parts).T / np.sum(parts, axis=1)
for i, (step, colour) in enumerate({"to 16": SKY, "products": BLUE, "back to 4": ORANGE}.items()):
    spent.bar(names, shares[i], bottom=shares[:i].sum(axis=0), color=colour, label=step)
spent.legend(loc="upper center", ncols=3, fontsize=11, columnspacing=1, handlelength=1)
spent.set(xlabel="channels, in and out", ylabel="share of our Winograd's time", ylim=(0, 1.15))

larger.semilogy([f"{m}x{m}" for m in errors], [*errors.values()], "o", ms=10, color=PINK)
for place, (m, error) in enumerate(errors.items()):
    larger.text(place, 1.2 * error, f"{(m + 2) ** 2 / m**2:.2f}", ha="center")
larger.set(xlabel="outputs per tile", ylabel="error of float32, relative", ylim=(1e-7, 1e-5))
larger.set(title="numbers: multiplications per output", xlim=(-0.5, 3.5))
lesson.save(figure, "40_winograd")

assert errors[2] < 4 * errors[1] < errors[6]
if not lesson.fast:
    few, many = (of_layer[3] / of_layer[1] for of_layer in (speed[0], speed[-1]))
    print(f"the claim: Winograd is {few:.2f} times as fast at 4 channels, {many:.2f} times at 256")
    assert few < many  # where it begins to pay is the machine's: here, at 8 to 64 channels

# %% [markdown]
# ## What goes wrong
#
# **Using it everywhere**: minseg's `fits` asks for 64 channels. **Larger tiles**: 6x6 saves most,
# but loses one of float32's seven digits. **Infinite inputs**: inf - inf is NaN, not inf.

# %%
with np.errstate(invalid="ignore"):
    bad = two(four(np.array([1, np.inf, 1, 1])) * (G @ [1, 1, 1]))
print("an infinite input:", bad, "where the definition has inf, inf")
assert np.isnan(bad).all()

# %% [markdown]
# ## Now change this
#
# 1. Take the points 0, 1, -1, 3, -3 for 4x4 outputs. Is it worse than with 2 and -2, and why?
# 2. 256 channels in, 8 out: what remains of the gain? Which additions are in the way?
#
# **The exercise:** the weights' gradient, dg = G^T [(A dy A^T) * (B^T d B)] G, summed over tiles.
#
# ## Check yourself
#
# 1. Why is there nothing to save for a 1x1 kernel, and less at stride 2?
# 2. Tiles of 4x4 overlap by two. How many numbers per pixel do they have, and how many do columns?
#
# ## Answers
#
# 1. 1x1: one multiplication per output and channel is the least. At stride 2 neighbours share one
#    input of three, not two: there are fewer sums to use twice.
# 2. 16 for four outputs, so 4 per pixel; columns have 9. Winograd moves fewer bytes, too.
