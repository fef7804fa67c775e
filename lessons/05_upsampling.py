# %% [markdown]
# # 05 · Upsampling: which pixel goes where?
#
# A network shrinks its feature maps, so its prediction has to grow again. What stands between two
# pixels can only be guessed: nearest, bilinear, bicubic guess differently. But *where* between them
# an output lies is no guess, and there are two formulas for it. **The question:** which is right,
# `align_corners=False` or `True`, and what does the other do to a mask's borders?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, viz
from minseg.lesson import start
from minseg.metrics import BoundaryIoU
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Where and what, by hand
#
# *Pixels are squares.* Pixel i covers i to i + 1, its centre is i + 1/2. From n to m pixels,
# lengths grow by m / n: output o has its centre at (o + 1/2) n / m, or, from the centre of pixel 0,
#
#     align_corners=False     p = (o + 1/2) n / m - 1/2     2 -> 4 pixels: -1/4  1/4  3/4  5/4
#
# *Pixels are points.* First stays first, last stays last: m - 1 steps span what n - 1 steps did:
#
#     align_corners=True      p = o (n - 1) / (m - 1)       2 -> 4 pixels:   0   1/3  2/3   1
#
# Each output is a sum over the pixels i around p with weights k(|p - i|); beyond the edge, the edge
# pixel repeats. *Bilinear*: k(s) = 1 - s, two pixels. *Bicubic*: four, by two cubics that meet
# smoothly; a quarter behind a pixel the weights are (-27 225 67 -9) / 256. *Nearest* takes
# x[floor(o n / m)] as it is. With two axes, their weights multiply. By hand, the pixels 4 8 become
#
#     nearest  4 4 8 8     bilinear  4 5 7 8, aligned 4 16/3 20/3 8     bicubic  3.58 4.91 7.09 8.42


# %%
def linear(s: np.ndarray) -> np.ndarray:
    return np.maximum(1 - s, 0)


def cubic(s: np.ndarray, a: float = -0.75) -> np.ndarray:  # a: the slope where the cubics meet
    far = np.where(s < 2, a * (s - 1) * (s - 2) ** 2, 0)
    return np.where(s <= 1, ((a + 2) * s - (a + 3)) * s**2 + 1, far)


def places(n: int, m: int, aligned: bool) -> np.ndarray:
    o = np.arange(m)
    return o * (n - 1) / (m - 1) if aligned else (o + 0.5) * n / m - 0.5


def resize_loops(x: np.ndarray, size: tuple, kernel, aligned: bool = False) -> np.ndarray:
    (h, w), y = x.shape, np.zeros(size)
    rows, cols = places(h, size[0], aligned), places(w, size[1], aligned)
    for r, c in np.ndindex(size):
        top, left = int(np.floor(rows[r])) - 1, int(np.floor(cols[c])) - 1
        for i, j in np.ndindex(4, 4):  # linear gives the outer ones the weight 0
            weight = kernel(abs(rows[r] - top - i)) * kernel(abs(cols[c] - left - j))
            y[r, c] += weight * x[min(max(top + i, 0), h - 1), min(max(left + j, 0), w - 1)]
    return y


# %% [markdown]
# ## Two small matrices
#
# Places and weights of the rows are the same in all columns. So resizing x (N, C, h, w) takes two
# matrices, R (H, h) for the rows, C (W, w) for the columns: y = R x C^T. For 2 -> 4, bilinear:
#
#     R =  1    0          row o: the weights with which output o reads the inputs
#         3/4  1/4         column i: the outputs that input i goes to, and with which weights
#         1/4  3/4         (a large R is mostly 0: the library, and its CUDA kernel,
#          0    1          kernels/interpolate.cu, keep only the other weights)


# %%
def matrix(n: int, m: int, kernel, aligned: bool = False) -> np.ndarray:
    p, R = places(n, m, aligned), np.zeros((m, n))
    for tap in range(-1, 3):
        i = np.floor(p).astype(int) + tap
        R[np.arange(m), i.clip(0, n - 1)] += kernel(abs(p - i))
    return R


def nearest(n: int, m: int) -> np.ndarray:
    return np.eye(n)[np.arange(m) * n // m]


assert (matrix(2, 4, linear) == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]).all()
x, size = rng.standard_normal((2, 3, 5, 7)), (13, 9)
assert np.array_equal(nearest(5, 13) @ x @ nearest(7, 9).T, F.interpolate(Tensor(x), size).numpy())
for mode, kernel in [("bilinear", linear), ("bicubic", cubic)]:
    for aligned in (False, True):
        R, C = matrix(5, 13, kernel, aligned), matrix(7, 9, kernel, aligned)
        image = Tensor(x, requires_grad=True)
        library = F.interpolate(image, size, mode=mode, align_corners=aligned)
        y, loops = R @ x @ C.T, resize_loops(x[1, 2], size, kernel, aligned)
        assert np.allclose(y, library.numpy(), rtol=0, atol=1e-13)  # sums of 16 products
        assert np.allclose(y[1, 2], loops, rtol=0, atol=1e-13)

# %% [markdown]
# ## The gradient
#
# A change dx of the input changes y by R dx C^T, and the loss by the sum of all g * (R dx C^T),
# with g = dL/dy. Moved to the other factor, R and C are transposed:
#
#     sum of g * (R dx C^T) = sum of (R^T g C) * dx        so        dL/dx = R^T g C
#
# It is the *adjoint*, no inverse: each input collects the gradients of the outputs that it went to.


# %%
def my_resize(x: Tensor) -> Tensor:
    return record("my_resize", R @ x.data @ C.T, (x,), lambda g: (R.T @ g @ C,))


assert minseg.gradcheck(my_resize, (Tensor(x, requires_grad=True),))
g = rng.standard_normal(y.shape)
library.backward(g)
assert np.allclose(image.grad.numpy(), R.T @ g @ C, rtol=0, atol=1e-12)  # sums of <= 117 products

# %% [markdown]
# ## Half-pixel shifts, measured
#
# Let each pixel hold its own coordinate; shrink three times, double three times. The place minus
# the coordinate that comes back is how far content moved. To shrink, take the *mean* of 2x2 pixels,
# whose centre lies between them, or a 3x3 at *stride* 2, padding 1, with its centre on a pixel.


# %%
def there_and_back(x: np.ndarray, stages: int, pooled: bool, how: dict) -> np.ndarray:
    y, sizes = Tensor(x), []
    for _ in range(stages):
        sizes.append(y.shape[2:])
        padded = F.pad(y, (1, 1, 1, 1), "replicate")
        y = F.avg_pool2d(y, 2) if pooled else F.conv2d(padded, tent, stride=2)
    for size in reversed(sizes):
        y = F.interpolate(y, size, **how)
    return y.numpy()


tent = Tensor(np.outer([1, 2, 1], [1, 2, 1])[None, None] / 16)  # a 3x3 that changes no place
square, point = ({"mode": "bilinear", "align_corners": aligned} for aligned in (False, True))
shift = {}
for pooled, how, n in [(1, square, 64), (1, point, 64), (0, square, 64), (0, point, 65)]:
    here = np.tile(np.arange(n) + 0.5, (1, 1, n, 1))
    name = f"{'mean' if pooled else 'stride'}, {how['align_corners']}"
    shift[name] = (here - there_and_back(here, 3, pooled, how))[0, 0, 0]
assert np.allclose(shift["mean, True"], np.linspace(-3.5, 3.5, 64))  # outwards, but in the middle
for name, far in [("mean, False", 0), ("stride, False", 3.5), ("stride, True", 0)]:
    assert np.allclose(shift[name][16:-16], far, rtol=0, atol=1e-12)

# %% [markdown]
# So each formula is right for one way to shrink: squares stay squares under means (SegNet, U-Net),
# points stay points where every second of 2n + 1 is kept (hence DeepLab's crops of 513 and 321).
# The wrong one moves content by up to (s - 1) / 2 pixels, s = 2^stages: either all of it to one
# side, or each half towards its border. (Near the edges, a neighbour is missing: the lines bend.)
#
# ## The experiment
#
# Masks of 3x4 discs, shrunk, doubled back step by step, cut at 1/2; nothing is trained. The score:
# boundary IoU (of the pixels near an outline, within 2 % of the diagonal) in the four corners.

# %%
y, x = np.mgrid[:193, :257]
masks = np.zeros((3 if lesson.fast else 30, 1, 193, 257))
for n, i, j in np.ndindex(len(masks), 3, 4):
    cy, cx = 64 * i + rng.uniform(28, 36), 64 * j + rng.uniform(28, 36)
    masks[n, 0, (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(16, 24) ** 2] = 1
corners = np.ix_(range(len(masks)), np.r_[:64, 128:192], np.r_[:64, 192:256])


def discs(stages: int, pooled: bool, how: dict) -> np.ndarray:
    truth = masks[..., :192, :256] if pooled else masks
    return (there_and_back(truth, stages, pooled, how)[:, 0] > 0.5)[corners]


def score(*way) -> float:
    metric = BoundaryIoU(("ground", "disc"))
    metric.update(discs(*way).astype(int), masks[:, 0][corners].astype(int))
    return metric.compute()["disc"]


ways = {"bicubic": {"mode": "bicubic"}, "bilinear": square, "nearest": {"mode": "nearest"}}
ways["bilinear, align_corners"] = point
curve = {name: [score(stages, True, how) for stages in range(5)] for name, how in ways.items()}
for name, values in curve.items():
    print(f"boundary IoU after 0 to 4 doublings: {np.round(values, 3)} {name}")
strided = [score(3, False, how) for how in (square, point)]
figure = lesson.figure(12, 7.4)
axes = figure.subplot_mosaic([["lines"] * 2 + ["shift"] * 2, ["False", "True"] + ["curve"] * 2])
line, up = np.array([1, 1, 4, 2, 3, 3]), (matrix(6, 120, cubic), matrix(6, 120, linear))
lines = dict(zip(ways, [R @ line for R in (*up, nearest(6, 120))], strict=False))
for key, drawn, styles in [("lines", lines, "-- - :"), ("shift", shift, "- -- -. :"),
                           ("curve", curve, "s-- o- ^: D-.")]:  # fmt: skip
    for style, (name, values) in zip(styles.split(), drawn.items(), strict=True):
        axes[key].plot(values, style, label=name, linewidth=3, markersize=8)
    axes[key].legend(fontsize=12)
axes["lines"].plot(np.arange(9.5, 120, 20), line, "ko")
axes["lines"].set(title="six pixels, twenty times as many", ylim=(0, 4.6))
axes["shift"].set(title="moved by (pixels), after three doublings", xlabel="pixel", ylim=(-4, 12))
axes["shift"].legend(loc="upper left", ncols=2, title="shrunk by, align_corners")
axes["curve"].set(title="boundary IoU in the corners", xlabel="doublings", xticks=range(5))
for key, how in (("False", square), ("True", point)):
    found, true = discs(3, True, how)[0], masks[:, 0][corners][0] > 0
    axes[key].imshow(viz.OKABE_ITO[np.where(found & true, 4, np.where(true, 6, 5 * found))])
    axes[key].set(title=f"align_corners={key}", xticks=[], yticks=[])
    axes[key].set_xlabel("orange missed, blue invented", fontsize=12)
lesson.save(figure, "05_upsampling")

# %% [markdown]
# ## What goes wrong
#
# **Labels treated as numbers**: between class 0 and class 4, classes 1 and 3 appear. Resize scores,
# then take the argmax. **Bicubic on probabilities**: it overshoots, and a logarithm meets numbers
# below 0. **A factor instead of a size**: what was 33 wide comes back as 34.

# %%
print("labels 0 4, doubled:", (matrix(2, 4, linear) @ [0, 4]).round())
print("probabilities 0 1, doubled, bicubic:", (matrix(2, 4, cubic) @ [0, 1]).round(2))
skip = Tensor(np.zeros((1, 1, 33, 33)))
try:
    skip + F.interpolate(skip[:, :, ::2, ::2], scale_factor=2, mode="bilinear")
except ValueError as error:
    print(f"scale_factor=2 instead of size=(33, 33): {error}")
loss, gain = curve["bilinear"][3] - curve["bilinear, align_corners"][3], strided[1] - strided[0]
print(f"the claim, x8: align_corners costs {loss:.2f} after means, brings {gain:.2f} after strides")
assert min(loss, gain) > 0.3, (loss, gain)  # over three seeds: 0.41 to 0.42

# %% [markdown]
# ## Now change this
#
# 1. `"bicubic"` with `align_corners=True`: does a smoother curve make up for wrong places?
# 2. Interpolate once by 8 instead of three times by 2: which of the four shifts change?
#
# **The exercise:** `minseg exercise check bilinear`, then `bilinear_grad`, without a matrix.
#
# ## Check yourself
#
# 1. Five doublings after means, `align_corners=True`: how far has content at the border moved?
# 2. What does a column of R sum to for bilinear x2, away from the edge, and why is it not 1?
#
# ## Answers
#
# 1. By (32 - 1) / 2 = 15.5 pixels, outwards.
# 2. 2: twice as many outputs share the same inputs. A *row* sums to 1: constants stay constant.
