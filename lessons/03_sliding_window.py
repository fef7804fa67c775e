# %% [markdown]
# # 03 · Why not slide a window?
#
# Networks that say "cat" of a whole photo came first. To classify a *pixel*, cut out the window
# around it, classify that, and move on by one. It works: a contest on neuronal membranes was won
# like this in 2012 (Ciresan et al.). **The question:** what does sliding a window cost, how much of
# it is waste, and what is still wrong without the waste?

# %%
import timeit
from itertools import accumulate

import numpy as np
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view

import minseg
import minseg.functional as F
from minseg import Tensor, nn, no_grad, viz
from minseg.lesson import BLUE, GREEN, ORANGE, start
from minseg.summary import summary
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Shapes, by hand
#
# Our classifier sees a window of 9x9. A 3x3 convolution without padding takes a pixel off each
# side, so four of them make it 1x1: the fourth fits at one place only and is a fully connected
# layer. Multiply-adds (3 * 3 * input channels * output channels, at each place):
#
#     layer    at a place    places in a window   for a window   at once: for a pixel
#     1 -> 8        72           7 x 7 = 49          3,528             72
#     8 -> 8       576           5 x 5 = 25         14,400            576
#     8 -> 8       576           3 x 3 =  9          5,184            576
#     8 -> 8       576               1                 576            576
#     8 -> 2        16               1                  16             16     sums: 23,704, 1,816
#
# A value of the first layer is *the same* in all 49 windows that hold its 3x3 pixels. "At once",
# over the whole image, it is computed once: m x m places in a window cost m^2 times that.


# %%
def maps(x: Tensor) -> list[Tensor]:
    """What each layer computes, from (N, 1, H, W) to scores (N, 2, H - 8, W - 8)."""
    first, *later = weights
    return list(accumulate(later, lambda y, w: F.conv2d(F.relu(y), w), initial=F.conv2d(x, first)))


sizes = [(8, 1, 3, 3), *[(8, 8, 3, 3)] * 3, (2, 8, 1, 1)]
weights = [Tensor(rng.normal(0, 0.2, size), requires_grad=True) for size in sizes]
photo = Tensor(rng.standard_normal((1, 1, 20, 24)), requires_grad=True)
at_once = maps(photo)
for r, c in np.ndindex(12, 16):  # the loops: a window, a classifier, an answer
    answer = maps(photo[:, :, r : r + 9, c : c + 9])[-1].numpy()[0, :, 0, 0]
    assert np.allclose(answer, at_once[-1].numpy()[0, :, r, c], rtol=0, atol=1e-12)

# %% [markdown]
# ## All windows as a batch, and its gradient
#
# A loop over windows would be slow because of Python. Fairer: all windows as one batch, 81 times
# the image. Element i of window r is y[r, i] = x[r + i], so dL/dx[q] = sum over i of g[q - i, i].


# %%
def windows(x: Tensor, R: int = 9) -> Tensor:
    """(1, C, H, W) -> (H' W', C, R, R), with H' = H - R + 1: every window, row by row."""
    view = sliding_window_view(x.data[0], (R, R), axis=(1, 2))  # (C, H', W', R, R), not a copy
    C, h, w = view.shape[:3]

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        dx, g = np.zeros(x.shape), g.reshape(h, w, C, R, R)
        for i, j in np.ndindex(R, R):
            dx[0, :, i : i + h, j : j + w] += g[..., i, j].transpose(2, 0, 1)
        return (dx,)

    return record("windows", view.transpose(1, 2, 0, 3, 4).reshape(-1, C, R, R), (x,), backward)


two_channels = Tensor(rng.standard_normal((1, 2, 5, 6)), requires_grad=True)
assert minseg.gradcheck(lambda x: windows(x, 3), (two_channels,))

# %% [markdown]
# Layer by layer, the m x m patches of the image's *feature map* are what the windows compute one by
# one. And training on all windows gives the gradients of one pass over the image, only more slowly.

# %%
of_windows, work = maps(windows(photo)), np.zeros(2, int)
for w, whole, each in zip(weights, at_once, of_windows, strict=True):
    assert np.allclose(windows(whole, each.shape[-1]).numpy(), each.numpy(), rtol=0, atol=1e-12)
    work += np.array([each.numel(), whole.numel()]) * w[0].numel()
assert work[0] == 12 * 16 * 23_704
print(f"20x24: {work[0]:,} multiply-adds by windows, {1 - work[1] / work[0]:.0%} of them repeated")
of_windows[-1].backward(g := rng.standard_normal((192, 2, 1, 1)))
at_once[-1].backward(-g.T.reshape(1, 2, 12, 16))  # gradients add up: these two must cancel
assert max(np.abs(x.grad.numpy()).max() for x in (photo, *weights)) < 1e-10
try:  # kernels/conv2d.cu, on the emulator: a block gathers what 64 places see, for all 8 channels
    with minseg.use_kernels("emulator"), no_grad():
        by_kernel = maps(photo[:, :, :11, :12])[-1].numpy()
    assert np.allclose(by_kernel, at_once[-1].numpy()[:, :, :3, :4], rtol=0, atol=1e-12)
except RuntimeError as error:
    print(f"CUDA kernel not run: {error}")
with no_grad():
    large = Tensor(rng.standard_normal((1, 1, 96, 96)))
    slid, once = (min(timeit.repeat(way, number=1, repeat=3)) for way in
                  (lambda: maps(windows(large)), lambda: maps(large)))  # fmt: skip

# %% [markdown]
# ## Context, and what it costs
#
# Without waste, an output still depends on 9x9 pixels only, its *receptive field*, of size R = 9.
# If neighbours in a feature map lie s pixels apart, a kernel of size k adds (k - 1) s to R; a
# stride multiplies s from there on. Four convolutions (c), and six with two 2x2 poolings (p):
#
#     layer   c  c  c  c             c  c  p  c  c  p  c  c
#     s       1  1  1  1             1  1  1  2  2  2  4  4
#     R = 1 + 2+ 2+ 2+ 2 = 9     1 + 2+ 2+ 1+ 4+ 4+ 2+ 8+ 8 = 32


# %%
def field(plan: str) -> int:
    R, s = 1, 1
    for layer in plan:
        R, s = (R + 2 * s, s) if layer == "c" else (R + s, 2 * s)
    return R


def network(plan: str) -> nn.Sequential:
    """The plan, 8 channels wide, a 1x1 to two classes, and back to full size."""
    layers: list[nn.Module] = []
    for i, layer in enumerate(plan):
        conv = nn.Conv2d(8 if i else 1, 8, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(8), nn.ReLU()] if layer == "c" else [nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 2, 1), nn.Upsample(None, 2 ** plan.count("p"), "bilinear")]
    return nn.Sequential(*layers)


drawn, most, sees = {}, {}, {plan: field(plan) for plan in ("c" * 4, "c" * 15, "ccpccpcc")}
wide = 4 + max(sees.values())
for plan, R in sees.items():
    image = x = Tensor(np.zeros((1, 1, 128, 128)), requires_grad=True)
    for layer in plan:  # equal weights: by how much does the middle change with each pixel?
        x = F.avg_pool2d(x, 3, 1, padding=1) if layer == "c" else F.avg_pool2d(x, 2)
    x[0, 0, x.shape[2] // 2, x.shape[3] // 2].backward()
    grad = image.grad.numpy()[image.grad.numpy() > 0].reshape(R, R)
    layers = summary(network(plan), (1, 1, 64, 64)).layers  # by minseg/receptive_field.py
    assert layers[-3].receptive_field == (R, R)
    most[plan] = (abs(grad.sum(axis=1).cumsum() - 0.5) < 0.475).sum() + 1  # rows with 95 % of it
    drawn[plan] = np.pad(grad, (wide - R) // 2)

# %% [markdown]
# Without pooling, twice the context takes twice the layers, and its rim hardly counts: one path
# leads to the far corner, thousands to the middle. The influence is a bell curve, as wide as the
# root of the number of layers (Luo et al. 2016). With pooling, R and bell double at every level.
#
# ## The experiment
#
# Outlines of discs, in noise; inside is class 1. Deep inside, 9x9 pixels show only noise. The share
# of a disc that has the outline within its 9x9 bounds the IoU of networks that see no more.

# %%
count, steps = (16, 4) if lesson.fast else (160, 120)
y, x = np.mgrid[:48, :32]
cy, cx, r = rng.uniform([16, 15, 10], [32, 17, 14], (2 * count, 1, 1, 3)).transpose(3, 0, 1, 2)
depth = r - np.hypot(y - cy, x - cx)  # behind the outline, in pixels
depth = np.concatenate([depth[:count], depth[count:]], axis=2)  # two discs an image
masks, lines = (depth > 0).astype(np.int64), (depth > 0) & (depth < 1.5)
images = (lines + rng.normal(0, 0.2, lines.shape))[:, None].astype(np.float32)
test, rest = slice(0, count // 4), slice(count // 4, count)
near = F.max_pool2d(Tensor(1.0 * lines[test, None]), 9, 1, padding=4).numpy()[:, 0]
bound = near[masks[test] == 1].mean()
iou, price, answers = {}, {}, {}
for plan in ("c" * 4, "c" * 11, "ccpccpcc"):
    minseg.manual_seed(lesson.seed)
    name, model = f"{field(plan)}x{field(plan)}" + ", pooled" * ("p" in plan), network(plan)
    price[name] = summary(model, (1, 1, 48, 64)).total_multiply_adds / (48 * 64)
    lesson.fit(model, images[rest], masks[rest], steps, lr=0.02)
    answers[name] = lesson.predict(model, images[test])
    found, true = answers[name] == 1, masks[test] == 1
    iou[name] = (found & true).sum() / (found | true).sum()
    print(f"{name}: {price[name]:,.0f} multiply-adds a pixel, IoU {iou[name]:.3f}")

figure = lesson.figure(12, 7.2)
top, bottom = figure.subfigures(2, 1, height_ratios=[1.2, 1])
axes = top.subplots(1, 4, width_ratios=[1, 1, 1, 1.8])
for axis, (plan, grad) in zip(axes, drawn.items(), strict=False):
    R, edge = sees[plan], (wide - sees[plan]) // 2 - 0.5
    axis.imshow(grad, cmap="Blues")
    axis.add_patch(Rectangle((edge, edge), R, R, fill=False, color=ORANGE, lw=2))
    title = f"{plan.count('c')} convolutions" + ", pooled" * ("p" in plan)
    axis.set(title=title, xlabel=f"sees {R}x{R}\n95 % within {most[plan]}", xticks=[], yticks=[])
d, levels = np.arange(2, 51), np.arange(5)
slides = [72 * (2 * n - 1) ** 2 + 576 * sum(m * m for m in range(1, 2 * n - 2, 2)) for n in d]
axes[3].loglog(2 * d + 1, slides, "-.", color=ORANGE, label="sliding window")
axes[3].loglog(2 * d + 1, 576 * d - 504, "--", color=BLUE, label="at once")
pooled = 9 * 2**levels - 4, 1032 - 384 * 0.25**levels  # cc, ccpcc, ccpccpcc, ...
axes[3].loglog(*pooled, "o-", color=GREEN, label="at once, pooling")
axes[3].set(title="multiply-adds a pixel", xlabel="receptive field (pixels)", ylim=(300, 2e8))
axes[3].set_xticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"], minor=False)
axes[3].legend()
axes = bottom.subplots(1, 4)
axes[0].imshow(images[0, 0], cmap="gray")
axes[0].set(title="outlines, in noise", xticks=[], yticks=[])
for axis, (name, labels) in zip(axes[1:], answers.items(), strict=True):
    axis.imshow(viz.OKABE_ITO[np.where(labels[0] != masks[0], 6, 4 + labels[0])])
    axis.set(title=name, xlabel=f"IoU {iou[name]:.2f}, at {price[name]:,.0f}", xticks=[], yticks=[])
lesson.save(figure, "03_sliding_window")

# %% [markdown]
# Blue: inside, yellow: outside, orange: wrong. Sliding a window for the first prediction takes 13
# times the work. Pooling makes context six times cheaper, and blurs outlines: see lessons 04 to 07.
#
# ## What goes wrong
#
# **Padding within the window**: its edge reads zeros where the image has pixels. **Pooling within
# it**: at once, only every second answer comes out; shift the image for the rest, or see lesson 07.

# %%
whole = F.conv2d(photo, weights[0], padding=1).numpy()[0, :, :12, :16].reshape(8, -1).T
off = abs(F.conv2d(windows(photo), weights[0], padding=1).numpy()[:, :, 0, 0] - whole).max()
each = F.max_pool2d(F.conv2d(windows(photo, 4), weights[0]), 2).numpy().T.reshape(1, 8, 17, 21)
pooled = F.max_pool2d(F.conv2d(photo, weights[0]), 2).numpy()
assert np.allclose(pooled, each[:, :, ::2, ::2], rtol=0, atol=1e-12)
assert off > 0.1
print(f"padded: off by {off:.1f}; pooled: {pooled[0, 0].size} of {each[0, 0].size} answers")
gain = iou[name] - iou["9x9"]
print(f"the claim: windows take {slid / once:.0f} times as long; {name}, brings {gain:.2f}")
assert work[0] > 9 * work[1]  # the times are this machine's, as busy as it is
# Over three seeds: IoU 0.58 to 0.59 with 9x9 (bound: 0.8), 0.97 to 0.98 with 32x32.
assert lesson.fast or (gain > 0.25 and iou["9x9"] < bound), iou

# %% [markdown]
# ## Now change this
#
# 1. Slide to every second pixel only: what does it cost now, and what do you lose?
# 2. Try "ccpccpccpcc" in place of "ccpccpcc": what happens to context, cost and outlines?
#
# **The exercise:** `minseg exercise check conv2d`: the layer that makes the window superfluous.
#
# ## Check yourself
#
# 1. Five 3x3 convolutions, no padding: what is R? How often does sliding compute the first layer?
# 2. Which sees the corners of its receptive field better: 32 convolutions, or "ccpccpccpcc"?
#
# ## Answers
#
# 1. R = 11. The first layer's map in a window is 9x9: every value is computed 81 times.
# 2. The one with pooling (R = 68): it gets there in fewer steps, so its bell is wider.
