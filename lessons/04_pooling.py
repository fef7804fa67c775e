# %% [markdown]
# # 04 · Pooling, and unpooling by remembered places
#
# A network sees far by shrinking its feature maps: of every 2x2, one value stays. On the way back,
# three of four pixels are made up, unless somebody noted where the maximum stood. **The question:**
# how much do two bits per window, noting where its maximum stood, help to restore thin borders?

# %%
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minseg
import minseg.functional as F
from minseg import Tensor, nn, viz
from minseg.lesson import BLUE, ORANGE, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Shapes, by hand
#
# A window of k pixels that moves by s pixels at a time (the *stride*) fits floor((n - k) / s) + 1
# times into n. With k = s = 2, (N, C, H, W) becomes (N, C, H / 2, W / 2), rounded down:
#
#     1 5 2 0     max: 5 4    its places, row * W + column: 1  7    mean: 2.25 1.75
#     0 3 1 4          7 9                                  8 15         2.25 3.00
#     7 0 0 0
#     1 1 3 9     unpooled (SegNet): each maximum goes back to its place, all else is 0:
#                     . 5 . .      doubled by      5 5 4 4
#                     . . . 4      "nearest":      5 5 4 4
#                     7 . . .                      7 7 9 9
#                     . . . 9                      7 7 9 9
#
# The maximum answers "is it there?", the mean "how much of it?". Neither says where.


# %%
def max_pool_loops(x: np.ndarray, k: int, s: int) -> tuple[np.ndarray, np.ndarray]:
    N, C, H, W = x.shape
    y = np.full((N, C, (H - k) // s + 1, (W - k) // s + 1), -np.inf)
    places = np.zeros(y.shape, int)
    for n, c, r, q in np.ndindex(y.shape):
        for i, j in np.ndindex(k, k):
            row, col = r * s + i, q * s + j
            if x[n, c, row, col] > y[n, c, r, q]:  # > and not >=: among equals, the first wins
                y[n, c, r, q], places[n, c, r, q] = x[n, c, row, col], row * W + col
    return y, places


hand = np.array([[1.0, 5, 2, 0], [0, 3, 1, 4], [7, 0, 0, 0], [1, 1, 3, 9]])[None, None]
(y, places), mean = max_pool_loops(hand, 2, 2), hand.reshape(1, 1, 2, 2, 2, 2).mean(axis=(3, 5))
assert (np.ravel([y, places, mean]) == [5, 4, 7, 9, 1, 7, 8, 15, 2.25, 1.75, 2.25, 3]).all()

# %% [markdown]
# ## Vectorised, and the gradient
#
# View all windows (nothing is copied), put their k * k values on one axis, take the argmax. And
# back: the loss depends on a window only through its maximum, so dL/dx gets each g at its place;
# where windows overlap (k > s), the g of all that chose the pixel add up. With the places fixed,
# pooling *selects*: y = P x, with a single 1 in each row of P, and the gradient is P^T g. But "back
# to its place" is P^T, too: **unpooling is the gradient of pooling**, used on the way forward; its
# own gradient is P again: <P x, v> = <x, P^T v>. (For means, rows of P hold k k times 1 / k^2.)


# %%
def max_pool(x: np.ndarray, k: int, s: int) -> tuple[np.ndarray, np.ndarray]:
    view = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s]
    flat = view.reshape(*view.shape[:4], k * k)  # (N, C, H', W', k k)
    i, j = np.divmod(flat.argmax(axis=4), k)
    rows = s * np.arange(flat.shape[2])[:, None] + i
    return flat.max(axis=4), rows * x.shape[3] + s * np.arange(flat.shape[3]) + j


def put(v: np.ndarray, places: np.ndarray, shape: tuple) -> np.ndarray:
    """P^T v: each value goes to its place, (N, C, H', W') -> `shape`; values that meet add up."""
    planes = np.arange(np.prod(shape), step=np.prod(shape[2:])).reshape(*shape[:2], 1, 1)
    return np.bincount((planes + places).ravel(), v.ravel(), np.prod(shape)).reshape(shape)


def my_max_pool(x: Tensor, k: int, s: int) -> Tensor:
    y, places = max_pool(x.data, k, s)
    return record("my_max_pool", y, (x,), lambda g: (put(g, places, x.shape),))


def my_unpool(v: Tensor, places: np.ndarray, shape: tuple) -> Tensor:
    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        rows = np.prod(shape[:2]), -1
        return (np.take_along_axis(g.reshape(rows), places.reshape(rows), 1).reshape(v.shape),)

    return record("my_unpool", put(v.data, places, shape), (v,), backward)


x = Tensor(rng.permutation(np.arange(480.0)).reshape(2, 3, 8, 10), requires_grad=True)  # no ties
for how in [(3, 1), (3, 2), (2, 2)]:
    y, places = max_pool(x.data, *how)
    library = F.max_pool2d(x, *how, return_indices=True)
    for mine, loops, theirs in zip((y, places), max_pool_loops(x.data, *how), library, strict=True):
        assert (mine == loops).all()
        assert (mine == theirs.numpy()).all()
    assert minseg.gradcheck(lambda x, how=how: my_max_pool(x, *how), (x,))
    v = rng.integers(-9, 9, y.shape).astype(float)
    assert (y * v).sum() == (x.data * put(v, places, x.shape)).sum()  # integers: no rounding
assert minseg.gradcheck(lambda v: my_unpool(v, places, x.shape), (Tensor(v, requires_grad=True),))
unpooled = F.max_unpool2d(*library, 2).numpy()
assert (unpooled == put(y, places, x.shape)).all()
try:  # kernels/pool.cu and unpool.cu: a thread looks through a window, or claims a place
    with minseg.use_kernels("emulator"):
        pooled = F.max_pool2d(x, 2, return_indices=True)
        assert (F.max_unpool2d(*pooled, 2).numpy() == unpooled).all()
except RuntimeError as error:
    print(f"CUDA kernels not run: {error}")

# %% [markdown]
# ## What a pooled map forgets
#
# Move an edge, pixel by pixel, to 64 places and pool it three times. Maxima are the same for eight
# places in a row. Means keep the amount, and so the place, if there is only *one* edge.

# %%
edges = (np.arange(64)[:, None] <= np.arange(160) - 40).astype(float)  # row m: at 40 + m
moved = {}
for name, pool in {"max": F.max_pool2d, "mean": F.avg_pool2d}.items():
    z = pool(pool(pool(Tensor(np.tile(edges[:, None, None], (1, 1, 8, 1))), 2), 2), 2)
    moved[name] = 120 - 8 * z.numpy()[:, 0, 0].sum(axis=1)  # where it seems to be, minus 40
assert [np.diff(track).max() for track in moved.values()] == [8, 1]

# %% [markdown]
# ## The experiment
#
# Cells that touch, between them a border of one or two pixels, in noise. Three times convolve and
# pool; then three times unpool and convolve. The nets differ in one line and start from the same
# weights: values go to remembered places, or to the corner of their 2x2, or are interpolated.


# %%
class EncoderDecoder(nn.Module):
    def __init__(self, way: str):
        super().__init__()
        self.way = way
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for blocks, first in ((self.down, 1), (self.up, 8)):
            for c in (first, 8, 8):
                conv = nn.Conv2d(c, 8, 3, padding=1)
                blocks.append(nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU()))
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        notes = []
        for block in self.down:
            x = block(x)
            looked_at = 0 * x if self.way == "corner" else x  # all equal: the first one wins
            notes.append(F.max_pool2d(looked_at, 2, return_indices=True)[1])
            x = F.max_pool2d(x, 2)
        for block in self.up:
            if self.way == "bilinear":
                x = block(F.interpolate(x, scale_factor=2, mode="bilinear"))
            else:
                x = block(F.max_unpool2d(x, notes.pop(), 2))
        return self.head(x)


count, steps = (16, 4) if lesson.fast else (200, 200)
y, x = np.mgrid[:48, :64]
cy, cx = rng.uniform([0, 0], [48, 64], (count, 1, 1, 14, 2)).transpose(4, 0, 1, 2, 3)
distance = np.hypot(y[..., None] - cy, x[..., None] - cx)
cell = distance.argmin(axis=3)  # (count, 48, 64): each pixel belongs to the nearest of 14 seeds
masks = viz.outlines(cell.transpose(1, 2, 0)).transpose(2, 0, 1).astype(np.int64)
shade = np.take_along_axis(rng.normal(0, 0.15, (count, 14)), cell.reshape(count, -1), axis=1)
images = shade.reshape(masks.shape) + 0.8 * masks + rng.normal(0, 0.2, masks.shape)
images, (test, rest) = images[:, None].astype(np.float32), np.split(np.arange(count), [count // 5])
iou, answers = {}, {}
for way in ("places", "corner", "bilinear"):
    minseg.manual_seed(lesson.seed)
    model = EncoderDecoder(way)
    lesson.fit(model, images[rest], masks[rest], steps)
    answers[way] = lesson.predict(model, images[test])
    found, true = answers[way] == 1, masks[test] == 1
    iou[way] = (found & true).sum() / (found | true).sum()
    print(f"{way}: IoU of borders {iou[way]:.3f}")

# %% [markdown]
# Here the note saves the border. Three poolings leave a map of 6x8, in which 8 numbers have to say
# what 8x8 pixels look like. The zeros alone are no help: *corners* do as badly as smooth guesses.
# (On photographs, five seeds say the opposite: lesson 13.) U-Net's *skip connections* (lesson 14)
# carry more: 4 * 32 bits where this note has 2.

# %%
figure = lesson.figure(12, 6.4)
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1])
axes = top.subplots(1, 2, width_ratios=[1.5, 1])
axes[0].plot(moved["max"], color=ORANGE, label="max-pooled")
axes[0].plot(moved["mean"], "--", color=BLUE, label="mean-pooled")
axes[0].set(xlabel="an edge moves to the right by (pixels)", title="where three poolings see it")
axes[0].legend()
bars = axes[1].barh(["remembered places", "corners", "bilinear"], [*iou.values()], color=BLUE)
axes[1].bar_label(bars, fmt=" %.2f")
axes[1].set(title="IoU of borders", xlim=(0, 1.1), ylim=(2.5, -0.5))
axes = bottom.subplots(1, 4)
axes[0].imshow(images[0, 0], cmap="gray")
axes[0].set(title="cells, in noise", xticks=[], yticks=[])
for axis, (way, labels) in zip(axes[1:], answers.items(), strict=True):
    true, found = masks[0] == 1, labels[0] == 1
    axis.imshow(viz.OKABE_ITO[np.where(true & found, 4, np.where(true, 6, 5 * found))])
    axis.set(title=way, xticks=[], yticks=[])
bottom.supxlabel("border found: yellow, missed: orange, invented: blue", fontsize=12)
lesson.save(figure, "04_pooling")

# %% [markdown]
# ## What goes wrong
#
# **Ties.** After a ReLU whole windows are 0. The first pixel wins and alone gets the gradient;
# there is no true derivative. **An odd size.** 7 rows pool to 3, and 3 unpool to 6; `output_size`
# must say that there were 7. **Places from another map.** If the sizes fit, nobody notices.

# %%
flat = Tensor(np.zeros((1, 1, 2, 2)), requires_grad=True)
F.max_pool2d(flat, 2).backward(np.ones((1, 1, 1, 1)))
assert (flat.grad.numpy()[0, 0] == [[1, 0], [0, 0]]).all()
try:
    minseg.gradcheck(lambda x: F.max_pool2d(x, 2), (flat,))
except AssertionError as error:  # a step up moves y, a step down does not
    print(f"a tie: {error}")
odd = Tensor(rng.standard_normal((1, 1, 7, 6)))
y, where = F.max_pool2d(odd, 2, return_indices=True)
assert F.max_unpool2d(y, where, 2).shape == (1, 1, 6, 6)
assert F.max_unpool2d(y, where, 2, output_size=(7, 6)).shape == odd.shape
gain = iou["places"] - max(iou["bilinear"], iou["corner"])
# Over three seeds: 0.87 to 0.89 with places, 0.00 to 0.05 in corners, 0.09 to 0.16 bilinear.
print(f"the claim: remembered places raise the IoU of thin borders by {gain:.2f}")
assert lesson.fast or gain > 0.4, iou

# %% [markdown]
# ## Now change this
#
# 1. Borders twice as wide, or two poolings instead of three: how much does the note help then?
# 2. Unpool the means, at the places of the maxima. Or the maxima, at random places of their 2x2.
#
# **The exercise:** `minseg exercise check max_pool2d`, then `max_unpool2d`: places, ties, gradient.
#
# ## Check yourself
#
# 1. Kernel 3, stride 2, on 8x10: how many outputs, and how many can choose the same pixel?
# 2. Unpooling after pooling is P^T P x. What does it do to x? And what does P P^T v do to v?
#
# ## Answers
#
# 1. 3x4. Four: the pixel in the middle of four windows, at even row and column, is in all of them.
# 2. P^T P keeps the maxima, all else is 0. P P^T is the identity if no two windows chose one pixel.
