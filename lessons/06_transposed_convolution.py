# %% [markdown]
# # 06 · Transposed convolution, and its checkerboards
#
# A convolution with stride shrinks a map; its transpose makes it grow, with learnt weights. Many
# decoders since the FCN use it, and many of their outputs show a fine grid. **The question:** where
# does this checkerboard come from, how strong is it after training, what removes it?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, nn, no_grad
from minseg.lesson import start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## By hand: a matrix, transposed
#
# A convolution is linear, so it is a matrix, C. Kernel 1 2 3, stride 2, from 5 pixels to 2; and
# transposed, from 2 to 5. A row of C is what an output reads; in C^T it is the *stamp* of an input:
#
#     C = 1 2 3 . .       C^T (4, 8) =  4 * (1 2 3 . .)
#         . . 1 2 3                   + 8 * (. . 1 2 3)  =  4 8 20 16 24
#
# Sizes: a convolution has n' = floor((n + 2p - k) / s) + 1 outputs; so the way back gives
#
#     n = (n' - 1) s - 2p + k + output_padding        k = 3, s = 2, p = 1:    7 -> 4,  8 -> 4
#
# The floor lost something: 4 goes back to 7, or to 8 with output_padding = 1. Padding *crops* here.


# %%
def stamps(x: np.ndarray, w: np.ndarray, s: int, p: int, extra: int = 0) -> np.ndarray:
    """x (N, C, H, W), w (C, O, k, k) -> (N, O, H', W'): every input stamps the kernel."""
    (N, C, H, W), (_, O, k, _) = x.shape, w.shape
    y = np.zeros((N, O, *((size - 1) * s - 2 * p + k + extra for size in (H, W))))
    for n, c, r, q, o, i, j in np.ndindex(N, C, H, W, O, k, k):
        row, col = s * r + i - p, s * q + j - p
        if 0 <= row < y.shape[2] and 0 <= col < y.shape[3]:
            y[n, o, row, col] += w[c, o, i, j] * x[n, c, r, q]
    return y


def matrix(w: np.ndarray, size: tuple, s: int, p: int) -> np.ndarray:
    """The convolution of w (O, C, k, k) for images (C, H, W), as (outputs, inputs)."""
    units = np.eye(np.prod(size)).reshape(-1, *size)  # one pixel at a time: the columns
    return F.conv2d(Tensor(units), Tensor(w), stride=s, padding=p).numpy().reshape(len(units), -1).T


line, kernel = np.array([4.0, 8.0]).reshape(1, 1, 1, 2), np.array([1.0, 2, 3]).reshape(1, 1, 1, 3)
C = matrix(kernel, (1, 1, 5), (1, 2), 0)
assert (C == [[1, 2, 3, 0, 0], [0, 0, 1, 2, 3]]).all()
assert (C.T @ [4, 8] == [4, 8, 20, 16, 24]).all()

# %% [markdown]
# ## Vectorised, and the gradient
#
# Tap by tap (kernel element): input (r, q) adds to output (s r + i, s q + j), all inputs at once by
# a strided slice. As y = C^T x, dL/dx = C g: the gradient *is* the convolution. (So the gradient of
# a strided convolution is a transposed one: keep it in mind.) And each weight meets every input:
#
#     dL/dw[c, o, i, j] = sum over r, q of x[c, r, q] g[o, s r + i - p, s q + j - p]


# %%
def my_conv_transpose(x: Tensor, w: Tensor, s: int, p: int, extra: int = 0) -> Tensor:
    (N, _, H, W), (_, O, k, _) = x.shape, w.shape
    whole = [(size - 1) * s + k + extra for size in (H, W)]
    inner = np.s_[:, :, p : whole[0] - p, p : whole[1] - p]
    taps = [(i, j, np.s_[:, :, i : i + s * H : s, j : j + s * W : s]) for i, j in np.ndindex(k, k)]
    y = np.zeros((N, O, *whole))
    for i, j, places in taps:
        y[places] += np.einsum("co,ncrq->norq", w.data[:, :, i, j], x.data)

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        full, dx, dw = np.zeros(y.shape), np.zeros(x.shape), np.zeros(w.shape)
        full[inner] = g
        for i, j, places in taps:
            dx += np.einsum("co,norq->ncrq", w.data[:, :, i, j], full[places])
            dw[:, :, i, j] = np.einsum("ncrq,norq->co", x.data, full[places])
        return dx, dw

    return record("my_conv_transpose", y[inner], (x, w), backward)


x = Tensor(rng.standard_normal((2, 3, 4, 5)), requires_grad=True)
w = Tensor(rng.standard_normal((3, 2, 3, 3)), requires_grad=True)
for how in [(1, 0), (2, 1), (2, 1, 1), (3, 0)]:
    y = my_conv_transpose(x, w, *how).numpy()
    assert np.allclose(stamps(x.data, w.data, *how), y, rtol=0, atol=1e-13)  # sums of 27 products
    library = F.conv_transpose2d(x, w, None, *how)
    assert np.allclose(library.numpy(), y, rtol=0, atol=1e-13)
    C = matrix(w.data, y.shape[1:], *how[:2])  # on the way down, w is (out, in, k, k)
    assert np.allclose((x.data.reshape(2, -1) @ C).reshape(y.shape), y, rtol=0, atol=1e-13)
    assert minseg.gradcheck(lambda x, w, how=how: my_conv_transpose(x, w, *how), (x, w))
try:  # kernels/conv2d.cu: its gradient by the input, run forward
    with minseg.use_kernels("emulator"):
        assert np.allclose(F.conv_transpose2d(x, w, None, *how).numpy(), y, rtol=0, atol=1e-13)
except RuntimeError as error:
    print(f"CUDA kernel not run: {error}")

# %% [markdown]
# ## Where the grid comes from
#
# Let all inputs and weights be 1: each output counts the stamps on it. In a row, k = 3 and s = 2
# give 1 2 1 2: the middle tap falls on every second pixel, the outer two on the others. Where s
# divides k, all counts are equal: k = 4 gives 2 2 2 2. Three layers of k = 3 stack grids of period
# 2, 4 and 8. A net *can* learn weights that even this out; but even k = 4 has to learn that even
# and odd taps have the same sum. Two remedies: **resize, then convolve**, so that all pixels are
# made alike; start from **bilinear** weights (FCN): a tent, whose sums are equal.


# %%
def grid(y: np.ndarray, period: int) -> float:
    """Standard deviation among the means of the period x period places in y (H, W)."""
    H, W = (n // period for n in y.shape)
    cut = y[: H * period, : W * period].reshape(H, period, W, period)
    return cut.mean(axis=(0, 2)).std()


counts = {}
for name, k, layers in [("k = 3", 3, 1), ("k = 4", 4, 1), ("k = 3, three layers", 3, 3)]:
    y = Tensor(np.ones((1, 1, 20, 20)))
    for _ in range(layers):
        y = F.conv_transpose2d(y, Tensor(np.ones((1, 1, k, k))), stride=2, padding=1)
    first = y.shape[2] // 16 * 8 - 8
    counts[name] = y.numpy()[0, 0, first : first + 16, first : first + 16]
assert [grid(count, 2) > 0 for count in counts.values()] == [True, False, True]
tent = nn.init.bilinear_(Tensor(np.zeros((3, 1, 4, 4))))
double = F.conv_transpose2d(x, tent, stride=2, padding=1, groups=3).numpy()
smooth = F.interpolate(x, scale_factor=2, mode="bilinear").numpy()
assert np.allclose(double[..., 1:-1, 1:-1], smooth[..., 1:-1, 1:-1], rtol=0, atol=1e-13)

# %% [markdown]
# ## The experiment
#
# Discs in noise; three strided layers down, three layers up, in four ways. Then each net gets an
# empty picture. The score is how far apart the means of the 8x8 places are (their standard
# deviation), in units of the spread of the net's scores on real scenes.


# %%
def up(way: str) -> nn.Sequential:
    if way == "resize, 3x3":
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    k = int(way[4])
    conv = nn.ConvTranspose2d(8, 8, k, 2, padding=(k - 1) // 2, output_padding=k % 2)
    if way.endswith("bilinear"):
        nn.init.bilinear_(conv.weight)
    return nn.Sequential(conv, nn.ReLU())


def network(way: str) -> nn.Sequential:
    layers = []
    for c, s in ((1, 2), (8, 2), (8, 2), (8, 1)):
        layers += [nn.Conv2d(c, 8, 3, s, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, up(way), up(way), up(way), nn.Conv2d(8, 2, 1))


def scores(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with no_grad():
        return np.diff(model.eval()(Tensor(images).to(lesson.device)).numpy(), axis=1)[:, 0]


count, steps = (16, 4) if lesson.fast else (160, 200)
y, x = np.mgrid[:48, :64]
cy, cx, r = rng.uniform([0, 0, 6], [48, 64, 12], (count, 4, 1, 1, 3)).transpose(4, 0, 1, 2, 3)
masks = (np.hypot(y - cy, x - cx) < r).any(axis=1).astype(np.int64)
images = (masks + rng.normal(0, 0.3, masks.shape))[:, None].astype(np.float32)
test, rest = np.split(np.arange(count), [count // 4])
empty = np.zeros((1, 1, 128, 128), np.float32)
strength, iou, drawn = {}, {}, {}
for way in ("k = 3", "k = 4", "k = 4, bilinear", "resize, 3x3"):
    minseg.manual_seed(lesson.seed)
    model = network(way)
    lesson.fit(model, images[rest], masks[rest], steps)
    z = scores(model, images[test])
    flat = scores(model, empty)[0, 32:-32, 32:-32] / z.std()
    strength[way], drawn[way] = grid(flat, 8), flat[:24, :24] - flat.mean()
    iou[way] = ((z > 0) & (masks[test] > 0)).sum() / ((z > 0) | (masks[test] > 0)).sum()
    print(f"{way}: grid {strength[way]:.3f} of the scores' spread, IoU {iou[way]:.3f}")

photos = Tensor(images[test]).to(lesson.device).requires_grad_()
F.cross_entropy(model(photos), Tensor(masks[test]).to(lesson.device)).backward()
pull = np.abs(photos.grad.numpy()).mean(axis=(0, 1))  # (48, 64): of the last net, which resizes
figure = lesson.figure(12, 7)
axes = figure.subplots(2, 4)
for axis, (name, count) in zip(axes[0], counts.items(), strict=False):
    axis.imshow(count, cmap="Blues", vmin=0)
    axis.set(title=f"stamps: {name}", xticks=[], yticks=[])
    axis.set_xlabel(f"{count.min():.0f} to {count.max():.0f} on a pixel", fontsize=12)
axes[0, 3].imshow(np.tile(pull.reshape(6, 8, 8, 8).mean(axis=(0, 2)), (2, 2)), "Blues", vmin=0)
axes[0, 3].set(title="gradient at the image", xticks=[], yticks=[])
axes[0, 3].set_xlabel(f"grid {grid(pull, 8) / pull.mean():.2f} of the mean", fontsize=12)
for axis, (way, flat) in zip(axes[1], drawn.items(), strict=True):
    axis.imshow(flat, cmap="PuOr", vmin=-1, vmax=1)
    axis.set(title=way, xticks=[], yticks=[])
    axis.set_xlabel(f"grid {strength[way]:.2f}, IoU {iou[way]:.2f}", fontsize=12)
lesson.save(figure, "06_transposed_convolution")

# %% [markdown]
# Below: scores of an empty picture. Training has not removed the grid (in IoU, the four differ no
# more than seeds do). k = 4 is no remedy by itself. Bilinear weights stay nearly even; resizing
# cannot make a grid. Yet the way *down* has 3x3 kernels at stride 2: its gradient is a transposed
# convolution, with its grid (right: the last net's).
#
# ## What goes wrong
#
# **The lost row**: without output_padding, 7 come back where 8 went down. **"Deconvolution"**: the
# transpose is not the inverse. **Weights the wrong way round**: conv2d takes (out, in, k, k), this
# takes (in, out, k, k); where both numbers are equal, no error is raised.

# %%
skip, w = Tensor(rng.standard_normal((1, 3, 8, 8))), Tensor(rng.standard_normal((3, 3, 3, 3)))
down = F.conv2d(skip, w, stride=2, padding=1)
try:
    skip + F.conv_transpose2d(down, w, stride=2, padding=1)
except ValueError as error:
    print(f"no output_padding: {error}")
back = F.conv_transpose2d(down, w, stride=2, padding=1, output_padding=1).numpy()
likeness = np.corrcoef(back.ravel(), skip.numpy().ravel())[0, 1]
print(f"down and back by the same weights: correlation {likeness:.2f} with the original")
assert likeness < 0.9
# Over three seeds: 0.23 to 0.48 with k = 3, 0.13 to 0.29 with k = 4, 0.03 to 0.12 bilinear.
print(f"the claim: a grid of {strength['k = 3']:.2f} of the scores' spread with k = 3, s = 2; of "
      f"{strength['k = 4, bilinear']:.2f} from bilinear weights; none resized")  # fmt: skip
assert strength["resize, 3x3"] < 1e-5  # float32
assert lesson.fast or strength["k = 3"] > 1.5 * strength["k = 4, bilinear"], strength

# %% [markdown]
# ## Now change this
#
# 1. "k = 2" instead of "k = 4", as in U-Net: no stamps overlap. Is there a grid?
# 2. `mode="bilinear"` in `up`: what happens to grid and IoU? And 1000 steps, for k = 3?
#
# **The exercise:** `minseg exercise check conv_transpose2d`: stamps, padding, output_padding.
#
# ## Check yourself
#
# 1. k = 5, s = 3: how many stamps lie on each pixel of a row? And for k = 6?
# 2. Which output_padding takes 5 back to 17, with k = 5, s = 4, p = 2?
#
# ## Answers
#
# 1. 2 2 1, repeated; with k = 6 always 2.
# 2. 0: (5 - 1) 4 - 4 + 5 is 17 already.
