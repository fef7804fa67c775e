# %% [markdown]
# # 19 · PSPNet and FPN: the scene for every pixel, large things on fine maps
#
# A pixel's class may depend on the scene around it, and objects may be small or large. PSPNet (Zhao
# et al. 2017) gives every pixel averages over regions; FPN (Lin et al. 2017) passes what the coarse
# maps know down to the fine ones. **The question:** what do averages over regions tell that one of
# the whole image cannot, and how does one fine map learn about both small and large things?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, cat, nn, viz
from minseg.lesson import start
from minseg.metrics import ConfusionMatrix
from minseg.models.deeplabv3 import ConvBNReLU
from minseg.models.fpn import FeaturePyramid
from minseg.models.pspnet import BINS, PyramidPooling, region_pooling
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Regions, by hand
#
# n pixels form b regions. Region i begins at floor(i n / b) and ends before ceil((i + 1) n / b):
#
#     n = 16, b = 3:   0-6, 5-11, 10-16            where b does not divide n, neighbours overlap
#     n = 16, b = 6:   0-3, 2-6, 5-8, 8-11, 10-14, 13-16
#
# Averaging is linear, along rows and along columns: y = A x B^T, where row i of A is 1 / length in
# region i, else 0. So the gradient is A^T g B: each region spreads its g evenly over its pixels.
#
# PSPNet: b = 1, 2, 3, 6. In a map of (16, 16, 24), each average (16, b, b) passes a 1x1 to
# (4, b, b), batch norm, ReLU, and is upsampled to (4, 16, 24). With the map: 16 + 4 * 4 channels.


# %%
def regions(n: int, b: int) -> list[slice]:
    return [slice(i * n // b, -(-(i + 1) * n // b)) for i in range(b)]  # -(-p // q) rounds up


def pool_loops(x: np.ndarray, b: int) -> np.ndarray:
    y = np.zeros((*x.shape[:2], b, b))
    for i, rows in enumerate(regions(x.shape[2], b)):
        for j, cols in enumerate(regions(x.shape[3], b)):
            y[:, :, i, j] = x[:, :, rows, cols].mean(axis=(2, 3))
    return y


def averages(n: int, b: int) -> np.ndarray:
    A = np.zeros((b, n))
    for i, region in enumerate(regions(n, b)):
        A[i, region] = 1 / (region.stop - region.start)
    return A


def pool(x: Tensor, b: int) -> Tensor:
    A, B = averages(x.shape[2], b), averages(x.shape[3], b)
    return record("pool", A @ x.data @ B.T, (x,), lambda g: (A.T @ g @ B,))


assert regions(16, 3) == [slice(0, 6), slice(5, 11), slice(10, 16)]
x = Tensor(rng.standard_normal((2, 3, 7, 16)), requires_grad=True)
for b in BINS:
    library = F.adaptive_avg_pool2d(x, b).numpy()
    for mine in (pool(x, b).numpy(), pool_loops(x.numpy(), b)):
        assert np.allclose(mine, library, rtol=0, atol=1e-14)  # means of at most 112 values
assert minseg.gradcheck(lambda x: pool(x, 6), (x,))

module = PyramidPooling(16).eval()
features = Tensor(rng.standard_normal((2, 16, 16, 24)).astype(np.float32))
parts = [features]
for b, (_, conv, norm, _) in zip(BINS, module.pools, strict=True):
    y = F.relu(norm(F.conv2d(F.adaptive_avg_pool2d(features, b), conv.weight)))
    parts.append(F.interpolate(y, size=(16, 24), mode="bilinear"))
# Not in no_grad(), where the library folds norms into convolutions, and the last bits differ.
assert np.array_equal(cat(parts, dim=1).numpy(), module(features).numpy())

# %% [markdown]
# ## Down again: FPN
#
# A backbone has four maps, of strides 2, 4, 8, 16; 1x1 convolutions bring all to 16 channels. From
# the coarsest down, each is upsampled by 2 ("nearest") and added to the next finer one:
#
#     C1 ( 8, 32, 48)  -> (16, 32, 48) + doubled P2 -> P1    small receptive field, exact places
#     C2 (16, 16, 24)  -> (16, 16, 24) + doubled P3 -> P2
#     C3 (24,  8, 12)  -> (16,  8, 12) + doubled P4 -> P3
#     C4 (32,  4,  6)  -> (16,  4,  6)               = P4    large receptive field, coarse places
#
# Finally a 3x3 smooths each sum. This is a U-Net's decoder, as light as it can be.


# %%
def top_down(maps: list[Tensor], fpn: FeaturePyramid) -> list[Tensor]:
    pyramid = [F.conv2d(c, w.weight, w.bias) for c, w in zip(maps, fpn.lateral, strict=True)]
    for k in (2, 1, 0):
        pyramid[k] = pyramid[k] + F.interpolate(pyramid[k + 1], size=maps[k].shape[2:])  # nearest
    return [smooth(p) for smooth, p in zip(fpn.smooth, pyramid, strict=True)]


CHANNELS = (8, 16, 24, 32)
fpn = FeaturePyramid(CHANNELS, 16).eval()
sizes = [(8, 31, 48), (16, 16, 24), (24, 8, 12), (32, 4, 6)]  # 31 rows: not twice 16
maps = [Tensor(rng.random((1, *size), dtype=np.float32)) for size in sizes]
for mine, library in zip(top_down(maps, fpn), fpn(maps), strict=True):
    assert np.array_equal(mine.numpy(), library.numpy())

# %% [markdown]
# ## First experiment: which scene?
#
# Each quarter has a lamp and, at its other end, a spot whose class is the lamp's colour; two lamps
# are red, two blue. All spots look alike. Three networks of equal size: their four branches all
# pool over the whole image; or over 1, 2, 3, 6 regions per side; or do not pool.


# %%
def lamps(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, 64, 96) and (n, 64, 96): 0 ground, 1 spots of red lamps, 2 of blue ones."""
    y, x = np.mgrid[:64, :96]
    images, masks = rng.normal(0, 0.1, (n, 3, 64, 96)), np.zeros((n, 64, 96), np.int64)
    for image, mask in zip(images, masks, strict=True):
        for quarter, colour in enumerate(rng.permutation([0, 0, 1, 1])):
            top, left = 32 * (quarter // 2), 48 * (quarter % 2)
            sx, lx = left + rng.permutation([9, 39]) + rng.uniform(-2, 2, 2)
            sy, ly = top + rng.uniform(9, 23, 2)
            spot = np.hypot(y - sy, x - sx) <= rng.uniform(4, 5.5)
            image[:, spot] += 0.7
            mask[spot] = 1 + colour
            lamp = np.maximum(abs(y - ly), abs(x - lx)) <= 6
            image[0, lamp], image[2, lamp] = 0.8 - 1.6 * colour, 1.6 * colour - 0.8
    return images.astype(np.float32), masks


def stage(c: int, d: int) -> nn.Sequential:
    down = nn.Conv2d(c, d, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(down, nn.BatchNorm2d(d), nn.ReLU(), ConvBNReLU(d, d, 3))


def psp(bins: tuple[int, ...]) -> nn.Sequential:
    pooling = PyramidPooling(16)
    for k, b in enumerate(bins):
        pooling.pools[k] = region_pooling(16, 4, b) if b else ConvBNReLU(16, 4)
    head = [ConvBNReLU(32, 16, 3), nn.Conv2d(16, 3, 1), nn.Upsample(None, 4.0, "bilinear")]
    return nn.Sequential(stage(3, 8), stage(8, 16), pooling, *head)


# %% [markdown]
# ## Second experiment: small and large on one map
#
# Spots of two or three pixels, and large rings, whose inside looks like the ground. Scores are from
# P1 alone; the FPN gets only the finest of C1 to C4, only the coarsest, or all (0 for the others).


# %%
def rings(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, 64, 96) and (n, 64, 96): 0 ground, 1 spots, 2 rings and what is in them."""
    y, x = np.mgrid[:64, :96]
    images, masks = rng.normal(0, 0.15, (n, 1, 64, 96)), np.zeros((n, 64, 96), np.int64)
    for image, mask in zip(images, masks, strict=True):
        for cy, cx in rng.uniform([8, 8], [56, 88], (2, 2)):
            distance, r = np.hypot(y - cy, x - cx), rng.uniform(13, 19)
            image[0, abs(distance - r) < 1] += 1
            mask[distance < r + 1] = 2
        for cy, cx in rng.uniform([3, 3], [61, 93], (10, 2)):
            spot = np.hypot(y - cy, x - cx) < rng.uniform(1.3, 2.2)
            image[0, spot] += 1
            mask[spot] = 1
    return images.astype(np.float32), masks


class Pyramid(nn.Module):
    def __init__(self, used: tuple[int, ...]) -> None:
        super().__init__()
        self.used, self.fpn = used, FeaturePyramid(CHANNELS, 16)
        self.stages = nn.ModuleList(map(stage, (1, *CHANNELS), CHANNELS))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(16, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        maps = [c if k in self.used else 0 * c for k, c in enumerate(maps[1:])]
        return F.interpolate(self.head(self.fpn(maps)[0]), size=x.shape[2:], mode="bilinear")


count, steps = (16, 4) if lesson.fast else (160, 200)
pooling = {"1, 2, 3, 6": psp(BINS), "whole image": psp((1,) * 4), "no regions": psp((0,) * 4)}
levels = {"finest": (0,), "coarsest": (3,), "all, top-down": (0, 1, 2, 3)}
pyramids = {name: Pyramid(used) for name, used in levels.items()}
figure = lesson.figure(12, 4.8)
halves, iou = figure.subfigures(2, 1), {}
for part, scenes, nets in zip(halves, (lamps, rings), (pooling, pyramids), strict=True):
    train_set, (images, masks) = scenes(count), scenes(40)
    pictures = {"image": viz.rgb(images[0].transpose(1, 2, 0) * 0.6 + 0.3), "truth": masks[0]}
    for name, net in nets.items():
        lesson.fit(net, *train_set, steps, lr=0.02)
        labels, confusion = lesson.predict(net, images), ConfusionMatrix(3)
        confusion.update(labels, masks)
        iou[name] = confusion.iou().values[1:]
        print(f"{name:13}: IoU", iou[name].round(3))
        pictures[f"{name}\nIoU {iou[name][0]:.2f}, {iou[name][1]:.2f}"] = labels[0]
    for axis, (title, picture) in zip(part.subplots(1, 5), pictures.items(), strict=True):
        drawn = picture if picture.ndim == 3 else viz.colourise(picture, viz.OKABE_ITO[[0, 6, 2]])
        axis.imshow(drawn)
        axis.set(title=title, xticks=[], yticks=[])
lesson.save(figure, "19_pspnet_fpn")

# %% [markdown]
# Without regions, or with one for all four lamps, the class is a coin toss; a quarter's own region
# knows. (Where *one* sign holds for all, one region does, in five seeds of five: lesson 18.) The
# finest map cannot tell a ring's inside from the ground, the coarsest not where a spot is.
#
# ## What goes wrong
#
# **A fixed kernel**: 16 / 6 is rounded to 2, which gives 8 regions, not 6. **Training on one
# image**: a single region leaves one value per channel, and batch norm nothing to compare it with.

# %%
assert F.avg_pool2d(features, 16 // 6).shape[2] == 8
try:
    PyramidPooling(16)(features[:1])
except ValueError as error:
    print(f"refused: {error}")

context = iou["1, 2, 3, 6"].mean() - max(iou["whole image"].mean(), iou["no regions"].mean())
print(f"the claim: regions add {context:.2f} to the IoU of the spots under four lamps")
both = iou["all, top-down"] - [iou["coarsest"][0], iou["finest"][1]]  # seeds 0 to 2: .46 up
print(f"top-down: {both[0]:.2f} more for spots than coarsest, {both[1]:.2f} for rings than finest")
assert lesson.fast or (context > 0.3 and min(both) > 0.3 and min(iou["no regions"]) > 0.1), iou

# %% [markdown]
# ## Now change this
#
# 1. Let each lamp decide the class of the spot in the quarter *beside* it. Can this be learned?
# 2. Take the scores from P3 in place of P1: what happens to spots, what to rings?
#
# **The exercise:** `minseg exercise check top_down`: FPN's way down, for maps of odd sizes.
#
# ## Check yourself
#
# 1. PSPNet's map is (2048, 60, 60). How many channels enter the 3x3 after the pooling?
# 2. How many additions does the gradient pass from P1 back to C4, and what do they do to it?
#
# ## Answers
#
# 1. 2048 + 4 * 512 = 4096.
# 2. Three; an addition passes the gradient unchanged to both of its inputs.
