# %% [markdown]
# # 12 · FCN: a classifier that answers at every place
#
# A classifier says "street" for a whole photo. Segmentation asks for an answer at every pixel. The
# FCN (Long, Shelhamer, Darrell 2015) showed that the first contains the second: no window need
# slide. **The question:** how coarse is one answer for 32x32 pixels really, and what do *skips*
# (skip connections) from finer maps bring back?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, nn, viz
from minseg.data import Street
from minseg.lesson import BLUE, SKY, start
from minseg.metrics import BoundaryIoU, ConfusionMatrix
from minseg.models import FCN

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## A fully connected layer is a convolution
#
# VGG's feature map of a 224x224 image is 7x7; its layer fc6 multiplies that, flattened, by a
# matrix. Each row has a weight for each of C * 7 * 7 values: it *is* a 7x7 kernel, which fits on a
# 7x7 map at one place. On a larger map it fits at more:
#
#     map (C, 7, 7)    7x7 kernels, no padding    scores (K, 1, 1)
#     map (C, 9, 10)   the same kernels           scores (K, 3, 4): 9 - 7 + 1, 10 - 7 + 1

# %%
features, matrix = rng.standard_normal((8, 9, 10)), rng.standard_normal((5, 8 * 7 * 7))
slid = np.empty((5, 3, 4))  # the slow way: cut out each window, flatten it, classify it
for row, col in np.ndindex(3, 4):
    slid[:, row, col] = matrix @ features[:, row : row + 7, col : col + 7].reshape(-1)

kernels = matrix.reshape(5, 8, 7, 7)  # the whole conversion
scores = F.conv2d(Tensor(features[None]), Tensor(kernels)).numpy()[0]
assert np.allclose(scores, slid, rtol=0, atol=1e-12)  # sums of 392 products

# %% [markdown]
# At fc6 both ways cost the same. In the layers before it, neighbouring windows share all but 32 of
# 224 columns: to slide 9x14 windows over 480x640 pixels, VGG would work on 21 times as many.
#
# ## Upsampling is a convolution, too
#
# A transposed convolution multiplies its kernel by each input's value and stamps it onto the
# output, s pixels further each time. With the tent kernel (1 3 3 1) / 4 and s = 2 it interpolates:
#
#     input 4 8      stamp of 4:   1 3 3 1 . .
#                    stamp of 8:   . . 2 6 6 2
#                    sum:          1 3 5 7 6 2     length 2 * (2 - 1) + 4 = 6
#
# In 3 5 7 6, pixels are squares: input 0 covers outputs 1 and 2. The first and the last value lie
# outside: the map has moved by s / 2 = 1 and is cropped by as much. 5 and 7 lie on the line from 4
# to 8, at 1/4 and 3/4; at the border the tent fades, since there is nothing beyond.


# %%
def stamp(x: np.ndarray, kernel: np.ndarray, s: int) -> np.ndarray:
    """(h, w) -> (s (h - 1) + k, s (w - 1) + k): transposed convolution of one channel."""
    k = len(kernel)
    y = np.zeros((s * (x.shape[0] - 1) + k, s * (x.shape[1] - 1) + k))
    for row, col in np.ndindex(x.shape):
        y[s * row : s * row + k, s * col : s * col + k] += x[row, col] * kernel
    return y


tent = np.array([0.25, 0.75, 0.75, 0.25])
kernel = np.outer(tent, tent)
by_hand = np.outer(tent, [1, 3, 5, 7, 6, 2])  # a single row as input: the tent, downwards
assert np.array_equal(stamp(np.array([[4.0, 8.0]]), kernel, 2), by_hand)

x, w = rng.standard_normal((6, 8)), Tensor(kernel[None, None])
coarse = Tensor(x[None, None], requires_grad=True)
fine = F.conv_transpose2d(coarse, w, stride=2)
bilinear = F.interpolate(coarse, scale_factor=2, mode="bilinear").numpy()
assert np.allclose(fine.numpy()[0, 0], stamp(x, kernel, 2), rtol=0, atol=1e-14)  # 4 products
assert np.allclose(fine.numpy()[..., 2:-2, 2:-2], bilinear[..., 1:-1, 1:-1], rtol=0, atol=1e-14)

# Input i went to outputs s i + j with weight j, so its gradient gathers them: conv2d with stride s.
upstream = rng.standard_normal(fine.shape)
fine.backward(upstream)
gathered = F.conv2d(Tensor(upstream), w, stride=2)
assert np.allclose(coarse.grad.numpy(), gathered.numpy(), rtol=0, atol=1e-14)  # sums of 16 products

# %% [markdown]
# ## The network
#
# VGG halves the map five times; scores made after the last three have stride 8, 16 and 32. From
# coarse to fine: double, add the finer ones, double, add, eightfold. K classes, 64x64 pixels:
#
#     pool5 (32, 2, 2) -> fc6, fc7 -> scores (K, 2, 2)
#         doubled: 2 * (2 - 1) + 4 = 6, cropped to (K, 4, 4)    + scores of pool4 (32, 4, 4)
#         doubled: 2 * (4 - 1) + 4 = 10, cropped to (K, 8, 8)   + scores of pool3 (16, 8, 8)
#         eightfold: 8 * (8 - 1) + 16 = 72, cropped to (K, 64, 64)
#
# FCN-32s enlarges by 32 in one go, FCN-16s adds the scores of pool4 only. The library's network, a
# VGG of width 4 instead of 64, line by line:


# %%
def fcn8s_by_hand(net: FCN, image: Tensor) -> Tensor:
    _, _, pool3, pool4, pool5 = net.features(image)
    h = F.relu(F.conv2d(pool5, net.fc6.weight, net.fc6.bias, padding=3))
    h = F.relu(F.conv2d(h, net.fc7.weight, net.fc7.bias))
    scores = F.conv2d(h, net.score_fr.weight, net.score_fr.bias)  # (N, K, 2, 2)
    levels = [(net.upscore2, net.score_pool4, pool4), (net.upscore_pool4, net.score_pool3, pool3)]
    for up, head, skip in levels:
        doubled = F.conv_transpose2d(scores, up.weight, stride=2)[:, :, 1:-1, 1:-1]
        scores = doubled + F.conv2d(skip, head.weight, head.bias)
    return F.conv_transpose2d(scores, net.upscore8.weight, stride=8)[:, :, 4:-4, 4:-4]


def fcn(stride: int) -> FCN:
    return FCN(7, stride=stride, width=4, depth=11, norm="batch", padding="same", dropout=0.1)


net = fcn(8).eval()
for head in (net.score_fr, net.score_pool4, net.score_pool3):  # they start as zero, which hides all
    nn.init.normal_(head.weight)
picture = Tensor(rng.random((2, 3, 64, 64), dtype=np.float32))
assert np.array_equal(fcn8s_by_hand(net, picture).numpy(), net(picture).numpy())
print("FCN-8s by hand and the library's: equal, bit for bit")

# %% [markdown]
# ## How coarse is one answer in 32x32?
#
# Before any training: let the scores be the true share of each class in s x s pixels, upsample,
# take the argmax. (Training may do better: it can move the line where two scores are equal.)
#
# IoU counts all pixels, most of them far inside. *Boundary IoU* counts those near an outline,
# within 2 % of the image's diagonal, here 2 pixels: that is where coarse maps fail.


# %%
def dataset(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    samples = list(Street(count, (64, 64), seed=seed, light="day"))
    images = np.stack([sample.image.transpose(2, 0, 1) for sample in samples])
    return images - 0.5, np.stack([sample.mask for sample in samples])


def score(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean IoU and mean boundary IoU over the classes."""
    iou, boundary = ConfusionMatrix(Street.classes), BoundaryIoU(Street.classes)
    iou.update(predicted, truth)
    boundary.update(predicted, truth)
    return iou.mean_iou(), boundary.compute().mean


count, steps = (24, 4) if lesson.fast else (128, 90)
train_set, test_set = dataset(count, 2 * lesson.seed), dataset(40, 2 * lesson.seed + 1)
truth = Tensor(np.eye(7)[test_set[1]].transpose(0, 3, 1, 2))  # (N, 7, 64, 64), one-hot
strides, shares = (32, 16, 8), {}
for s in strides:
    coarse = F.avg_pool2d(truth, s)  # (N, 7, 64 / s, 64 / s)
    fine = F.interpolate(coarse, size=(64, 64), mode="bilinear")
    shares[s] = score(fine.numpy().argmax(axis=1), test_set[1])
    print(f"shares at stride {s:2}: IoU %.3f, boundary IoU %.3f" % shares[s])
assert shares[8][1] > 1.5 * shares[16][1] > 2 * shares[32][1]

# %% [markdown]
# ## The experiment
#
# And trained networks? Three of them, on the same images, batches and steps; from scratch, so with
# batch norm, as there is no VGG trained on ImageNet to start from.

# %%
trained, predictions, losses = {}, {}, {}
for s in strides:
    minseg.manual_seed(lesson.seed)
    model = fcn(s)
    losses[s] = lesson.fit(model, *train_set, steps)
    predictions[s] = lesson.predict(model, test_set[0])
    trained[s] = score(predictions[s], test_set[1])
    print(f"FCN-{s}s: IoU %.3f, boundary IoU %.3f" % trained[s])

# %% [markdown]
# That was one seed, on drawn streets. In the recorded study, five seeds on CamVid's photos, finer
# maps gain less, but each sharpens borders, in every seed: 0.125, 0.172, 0.203. To train all of
# these again: `minseg study fcn-strides`.

# %%
photos = lesson.study("fcn-strides")
assert [round(photos.mean(f"FCN-{s}s"), 3) for s in strides] == [0.125, 0.172, 0.203]
assert photos.verdict == "shown"
figure = lesson.figure(13, 7)
parts = figure.subfigures(2, 1, height_ratios=[1, 1])
axes = parts[0].subplots(1, 5)
axes[0].imshow(viz.rgb(test_set[0][0].transpose(1, 2, 0) + 0.5))
for axis, masks in zip(axes[1:], [test_set[1], *predictions.values()], strict=True):
    axis.imshow(viz.colourise(masks[0], viz.OKABE_ITO))
for axis, title in zip(axes, ["image", "truth", *(f"FCN-{s}s" for s in strides)], strict=True):
    axis.set(title=title, xticks=[], yticks=[])
for name, colour in zip(Street.classes, viz.OKABE_ITO / 255, strict=False):
    axes[1].plot([], [], "s", color=colour, label=name)
parts[0].legend(loc="outside lower center", ncols=7)
*charts, photographs = parts[1].subplots(1, 3)
lesson.dots(photographs, photos)
photographs.set(title="boundary IoU on photos, 5 seeds", ylim=(0, 0.28), yticks=(0, 0.1, 0.2))
for k, (axis, metric) in enumerate(zip(charts, ("IoU", "boundary IoU"), strict=True)):
    for x0, values, colour in ((-0.2, shares, SKY), (0.2, trained, BLUE)):
        bars = axis.bar(np.arange(3) + x0, [values[s][k] for s in strides], 0.38, color=colour)
        axis.bar_label(bars, fmt="%.2f")
        bars.set_label("trained" if values is trained else "shares of the truth")
    axis.set(title=f"mean {metric}", xticks=range(3), ylim=(0, 0.85), yticks=(0, 0.4, 0.8))
    axis.set_xticklabels([f"stride {s}" for s in strides])
    axis.legend(loc="upper left")
lesson.save(figure, "12_fcn")

# %% [markdown]
# ## What goes wrong
#
# **The crop forgotten.** Stamping moves a map by s / 2. Cut at 0 instead, and at stride 8 each
# pixel gets the answer for a place 4 pixels up and left. Nothing crashes; the loss still falls. **A
# kernel size that the stride does not divide**: with k = 3, s = 2, some pixels get one stamp,
# others two or four: a checkerboard.

# %%
stamped = stamp(np.ones((4, 4)), np.ones((3, 3)), 2)[2:-2, 2:-2]
print("k = 3, s = 2: of equal inputs, the first row of outputs is", stamped[0])
assert set(stamped.reshape(-1)) == {1, 2, 4}
moved = np.roll(fine.numpy().argmax(axis=1), (4, 4), axis=(1, 2))[:, 4:, 4:]
wrong = score(moved, test_set[1][:, 4:, 4:])
print(f"no crop at stride 8: boundary IoU {wrong[1]:.2f} instead of {shares[8][1]:.2f}")
assert wrong[1] < 0.6 * shares[8][1]
gain = trained[8][1] - trained[32][1]
print(f"the claim: boundary IoU {trained[8][1]:.2f} with skips, {trained[32][1]:.2f} without")
assert losses[8][-1] < losses[8][0]
assert lesson.fast or gain > 0.15, gain

# %% [markdown]
# ## Now change this
#
# 1. Train the 32s, then `minseg.models.fcn.copy_coarser(fcn(16), ...)`, and train on, as the paper.
# 2. Let the last upsampling learn: `requires_grad_(True)` on `upscore8`. What does it become?
#
# **The exercise:** `minseg exercise check fuse`: double, crop, add; then this lesson `--with` it.
#
# ## Check yourself
#
# 1. fc6 of the real VGG: 512 channels, 7x7, 4096 outputs. How many weights, as matrix or as kernel?
# 2. Why do the heads of the skips start at zero?
#
# ## Answers
#
# 1. 512 * 49 * 4096 = 102,760,448 both times: the same numbers, in another shape.
# 2. The finer net then starts from the coarser one's answers; a skip speaks when it has learnt to.
