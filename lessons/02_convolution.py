# %% [markdown]
# # 02 · Convolution: from seven loops to one matrix product
#
# Nearly all the work of a segmentation network is convolution, and convolution is nothing but
# multiply and add. **The question:** why do loops take minutes for a layer that a library does in
# milliseconds, when both do the very same multiplications? And what does a 3x3 kernel see?

# %%
import timeit

import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, viz
from minseg.data import Street
from minseg.lesson import BLUE, ORANGE, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Shapes, by hand
#
# Lay a small kernel on the image, multiply each weight by the pixel under it, add up, move on:
#
#     image 3x4        kernel 2x2      output 2x3
#     0  1  2  3          1 2          34 44 54        34 = 1*0 + 2*1 + 3*4 + 4*5
#     4  5  6  7          3 4          74 84 94
#     8  9 10 11
#
# The kernel fits at 3 - 2 + 1 = 2 heights and 4 - 2 + 1 = 3 widths. Images have channels, too. Each
# output channel (a *feature map*) has its own kernel, with a slice for every input channel; the sum
# runs over all slices. With p rows and columns of zeros around the image (*padding*):
#
#     x (N, C, H, W)   w (O, C, kh, kw)   ->   y (N, O, H + 2p - kh + 1, W + 2p - kw + 1)
#
# ## Loops
#
# First the formula, word for word: plain enough to be sure of, so the rest is checked against it.
# Then one step from there: the three inner loops are a dot product, one call in NumPy.


# %%
def conv2d_loops(x: np.ndarray, w: np.ndarray, p: int = 0) -> np.ndarray:
    N, _, H, W = x.shape
    O, C, kh, kw = w.shape
    y = np.zeros((N, O, H + 2 * p - kh + 1, W + 2 * p - kw + 1), x.dtype)
    for n, o, r, c in np.ndindex(y.shape):  # four loops: every output ...
        for k, i, j in np.ndindex(C, kh, kw):  # ... and three: every weight
            row, col = r + i - p, c + j - p
            if 0 <= row < H and 0 <= col < W:  # outside of the image is 0
                y[n, o, r, c] += w[o, k, i, j] * x[n, k, row, col]
    return y


def pad(x: np.ndarray, p: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))


def conv2d_patches(x: np.ndarray, w: np.ndarray, p: int = 0) -> np.ndarray:
    x, (O, _, kh, kw) = pad(x, p), w.shape
    y = np.empty((x.shape[0], O, x.shape[2] - kh + 1, x.shape[3] - kw + 1), x.dtype)
    for n, o, r, c in np.ndindex(y.shape):
        y[n, o, r, c] = (w[o] * x[n, :, r : r + kh, c : c + kw]).sum()
    return y


image, kernel = np.arange(12.0).reshape(1, 1, 3, 4), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
assert (conv2d_loops(image, kernel)[0, 0] == [[34, 44, 54], [74, 84, 94]]).all()

# %% [markdown]
# ## One matrix product: im2col and GEMM
#
# All output channels read the *same* patches. Write each patch down as a column (im2col: image to
# columns) and each kernel as a row; then "every row times every column" is one matrix product, the
# operation that processors do best. Libraries call it GEMM. By hand:
#
#      0 1 2 4  5  6    top left of each patch
#      1 2 3 5  6  7    top right                 (1 2 3 4) @ columns = (34 44 54 74 84 94)
#      4 5 6 8  9 10    bottom left
#      5 6 7 9 10 11    bottom right
#
# Each *row* of columns is the image, shifted: kh * kw shifted copies of the image make the matrix.


# %%
def im2col(x: np.ndarray, kh: int, kw: int) -> np.ndarray:
    N, C, H, W = x.shape
    columns = np.empty((N, C, kh, kw, H - kh + 1, W - kw + 1), x.dtype)
    for i, j in np.ndindex(kh, kw):
        columns[:, :, i, j] = x[:, :, i : i + H - kh + 1, j : j + W - kw + 1]
    return columns.reshape(N, C * kh * kw, -1)  # (N, C kh kw, H' W')


def conv2d_gemm(x: np.ndarray, w: np.ndarray, p: int = 0) -> np.ndarray:
    x, (O, _, kh, kw) = pad(x, p), w.shape
    y = w.reshape(O, -1) @ im2col(x, kh, kw)  # (O, C kh kw) @ (N, C kh kw, H' W')
    return y.reshape(x.shape[0], O, x.shape[2] - kh + 1, x.shape[3] - kw + 1)


x, w = rng.standard_normal((2, 3, 6, 8)), rng.standard_normal((4, 3, 3, 2))  # H != W, kh != kw
y = conv2d_loops(x, w, 1)
others = {"patches": conv2d_patches(x, w, 1), "GEMM": conv2d_gemm(x, w, 1)}
library = F.conv2d(Tensor(x).to(lesson.device), Tensor(w).to(lesson.device), padding=1)
others["minseg"] = library.numpy()
try:  # kernels/conv2d.cu: GEMM on a GPU. Here an emulator plays the GPU's threads one by one.
    with minseg.use_kernels("emulator"):
        others["CUDA kernel"] = F.conv2d(Tensor(x), Tensor(w), padding=1).numpy()
except RuntimeError as error:  # no C++ compiler, or it refuses the file
    print(f"CUDA kernel not run: {error}")
for name, other in others.items():
    print(f"{name:11} differs from the loops by at most {np.abs(other - y).max():.1e}")
    assert np.allclose(other, y, rtol=0, atol=1e-13)  # sums of 18 products, in another order

# %% [markdown]
# ## The gradient
#
# Training needs dL/dw and dL/dx, given grad = dL/dy. With the weights as a matrix M (O, C kh kw)
# and the columns X of one image, y[o, l] = sum over k of M[o, k] X[k, l]. So
#
#     dL/dM[o, k] = sum over l of grad[o, l] X[k, l]     that is   grad @ X.T
#
# Where does pixel x[k, row, col] (padded) go? Through w[o, k, i, j] into output (row - i, col - j):
#
#     dL/dx[k, row, col] = sum over o, i, j of w[o, k, i, j] * grad[o, row - i, col - j]
#
# A convolution reads at row + i, this at row - i. Turn the kernel by 180 degrees, swap its channel
# axes, put kh - 1 zeros around grad (a corner reaches one output only), and it is a convolution:


# %%
def grad_weight(grad: np.ndarray, x: np.ndarray, w: np.ndarray, p: int) -> np.ndarray:
    columns = im2col(pad(x, p), *w.shape[2:]).swapaxes(1, 2)  # (N, H' W', C kh kw)
    by_image = grad.reshape(*grad.shape[:2], -1) @ columns  # (N, O, C kh kw)
    return by_image.sum(axis=0).reshape(w.shape)


def grad_input(grad: np.ndarray, w: np.ndarray, p: int) -> np.ndarray:
    (kh, kw), turned = w.shape[2:], w.swapaxes(0, 1)[:, :, ::-1, ::-1]
    padded = np.pad(grad, ((0, 0), (0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1)))
    dx = conv2d_gemm(padded, turned)  # of the padded image
    return dx[:, :, p : dx.shape[2] - p, p : dx.shape[3] - p]


def my_conv2d(x: Tensor, w: Tensor, p: int = 0) -> Tensor:
    def backward(grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return grad_input(grad, w.data, p), grad_weight(grad, x.data, w.data, p)

    return record("my_conv2d", conv2d_gemm(x.data, w.data, p), (x, w), backward)


both = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
assert minseg.gradcheck(lambda x, w: my_conv2d(x, w, 1), both)
print("gradcheck: both gradients equal (f(v + 1e-6) - f(v - 1e-6)) / 2e-6")

# %% [markdown]
# ## The experiment
#
# One layer, 16 to 32 channels, 3x3. All ways do the same multiplications; how many a second? (Loops
# get a small image: their rate is the same on a large one. The fastest of several runs counts.)

# %%
size = (60, 80) if lesson.fast else (240, 320)
small = rng.standard_normal((1, 16, 4, 6)).astype(np.float32)
large = rng.standard_normal((1, 16, *size)).astype(np.float32)
weight = rng.standard_normal((32, 16, 3, 3)).astype(np.float32)
X, W = Tensor(large).to(lesson.device), Tensor(weight).to(lesson.device)
rate = {}
for way, data, repeat, run in [
    ("seven loops", small, 2, lambda: conv2d_loops(small, weight, 1)),
    ("loop over outputs", small, 5, lambda: conv2d_patches(small, weight, 1)),
    ("im2col and GEMM", large, 7, lambda: conv2d_gemm(large, weight, 1)),
    ("minseg's conv2d", large, 7, lambda: F.conv2d(X, W, padding=1).numpy()),
]:
    rate[way] = weight.size * data[0, 0].size / min(timeit.repeat(run, number=1, repeat=repeat))
times = [weight.size * size[0] * size[1] / r for r in rate.values()]  # of one large image

# %% [markdown]
# A step of Python costs microseconds, the multiplication in it less than a nanosecond. GEMM does no
# less work, but all of it in one call, in an order that suits the cache. The price is memory: the
# columns are nine times as large as the image. So minseg makes and uses them block by block.
#
# And what does a 3x3 kernel see? An edge, for example: this one computes right minus left.

# %%
street = Street(1, (96, 128), seed=lesson.seed, light="day")[0].image
grey = street.mean(axis=2, dtype=np.float64)[None, None]  # (1, 1, H, W)
sobel = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])[None, None]
edges = conv2d_gemm(grey, sobel)

figure = lesson.figure(11, 7)
axes = figure.subplot_mosaic([["rate", "rate"], ["image", "edges"]], height_ratios=[1, 1.6])
bars = axes["rate"].barh([*rate], [*rate.values()], color=[ORANGE, ORANGE, BLUE, BLUE])
axes["rate"].bar_label(bars, [f" {t:.2g} s" if t < 60 else f" {t / 60:.0f} min" for t in times])
axes["rate"].set_xlabel(f"multiply-adds a second (and the time for one {size[0]}x{size[1]} image)")
axes["rate"].set(xscale="log", xlim=(1e4, 1e12))
axes["rate"].invert_yaxis()
axes["image"].imshow(viz.rgb(street))
axes["edges"].imshow(edges[0, 0], cmap="PuOr", vmin=-2, vmax=2)
axes["image"].set(title="an image", xticks=[], yticks=[])
axes["edges"].set(title="what one 3x3 kernel sees: upright edges", xticks=[], yticks=[])
lesson.save(figure, "02_convolution")

# %% [markdown]
# ## What goes wrong
#
# **A flipped kernel**: convolution in mathematics turns it (`np.convolve` too), in networks it does
# not. **Padding forgotten**: the output is too small to be added to the input. **H and W swapped**:
# on square images no test notices. So test with nothing symmetric and no two sizes equal.

# %%
blur = np.full((1, 1, 3, 3), 1 / 9)
assert np.allclose(conv2d_gemm(grey, blur[..., ::-1, ::-1]), conv2d_gemm(grey, blur))
assert np.allclose(conv2d_gemm(grey, sobel[..., ::-1, ::-1]), -edges)
print("flipped: a blur cannot tell, but the edges have the wrong sign")
try:
    Tensor(grey) + my_conv2d(Tensor(grey), Tensor(blur))
except ValueError as error:
    print(f"no padding: {error}")
for width in (10, 12):
    right = conv2d_gemm(grey[:, :, 40:50, :width], sobel, p=1)
    same = np.array_equal(right.reshape(1, 1, width, 10), right)  # (N, O, W', H')
    print(f"H and W swapped, on a 10x{width} image: {'unnoticed' if same else 'caught'}")

speedup = rate["im2col and GEMM"] / rate["seven loops"]
print(f"the claim: as one matrix product it runs {speedup:,.0f} times as fast as in loops")
assert speedup > 100, speedup

# %% [markdown]
# ## Now change this
#
# 1. Give `im2col` a stride s: `x[:, :, i : i + s * H_out : s, ...]`. Which gradient is wrong now?
# 2. Try 256 to 256 channels: more or fewer a second? (minseg then saves some: see lesson 40.)
# 3. Replace `sobel` by its transpose, or by a corner detector. Does an assert fail, and why?
#
# **The exercise:** `minseg exercise check conv2d`; then let a lesson's networks train on it:
# `minseg lesson run 14 --with conv2d=exercises/conv2d.py`; in a program of your own, write
# `with minseg.override("conv2d", forward=forward): ...`
#
# ## Check yourself
#
# 1. 64 to 128 channels, 3x3, p = 1, on 60x80: how many multiply-adds? How large are the columns?
# 2. Which outputs does the corner x[0, 0] reach (3x3, p = 1)? Why does `grad_input` need no `if`?
#
# ## Answers
#
# 1. 60 * 80 * 128 * 64 * 9 = 354 million; 64 * 9 * 60 * 80 floats, 11 MB: nine images of 1.2 MB.
# 2. (0, 0), (0, 1), (1, 0), (1, 1). The others do not exist; the zeros around grad stand for them.
