# %% [markdown]
# # 13 · SegNet: what two bits remember
#
# U-Net hands whole feature maps to its way back up. SegNet (Badrinarayanan, Kendall, Cipolla 2017),
# made for cars with little memory, hands over only where in its 2x2 window each maximum stood
# (lesson 04). **The question:** what do remembered places carry that bilinear upsampling cannot,
# and what do they cost compared with U-Net's concatenated features?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, cat, nn, no_grad, viz
from minseg.lesson import ORANGE, SKY, start
from minseg.metrics import ConfusionMatrix
from minseg.models import SegNet
from minseg.models.deeplabv3 import ConvBNReLU
from minseg.studies.scenes import Wires
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Shapes and bytes, by hand
#
# The paper's network is VGG16 without its classifier (the *encoder*), and its mirror image (the
# *decoder*). Sizes for 360x480; poolings round up, so each unpooling is told the size before:
#
#     down, convolutions and a pooling            kept: places         U-Net keeps: features
#     2x (64, 360, 480)  -> (64, 180, 240)        64 * 180 * 240       64 * 360 * 480
#     2x (128, 180, 240) -> (128, 90, 120)        128 * 90 * 120       128 * 180 * 240
#     3x (256, 90, 120)  -> (256, 45, 60)         256 * 45 * 60        256 * 90 * 120
#     3x (512, 45, 60)   -> (512, 23, 30)         512 * 23 * 30        512 * 45 * 60
#     3x (512, 23, 30)   -> (512, 12, 15)         512 * 12 * 15        512 * 23 * 30
#                                                 5,283,840 * 2 bits   21,089,280 * 32 bits
#
# 1.3 MB against 84. But places are usually 8-byte integers, as in PyTorch and this library: 42 MB,
# unless they are packed. (In *training* all maps are kept anyway, for the weights' gradients.)
#
# ## Two bits, packed
#
# A place is row * width + column. Only the last bits of row and column are new: the others follow
# from where the pooled value stands. Each v goes to one place, so its gradient is g at that place.


# %%
def unpool_loops(v: np.ndarray, places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    y = np.zeros((*v.shape[:2], *size))
    for n, c, row, col in np.ndindex(v.shape):
        i, j = divmod(places[n, c, row, col], size[1])
        y[n, c, i, j] = v[n, c, row, col]
    return y


def pack(places: np.ndarray, width: int) -> np.ndarray:
    bits = np.stack([places // width % 2, places % width % 2], axis=-1)
    return np.packbits(bits.astype(bool))  # bytes, of four places each


def unpool(v: Tensor, packed: np.ndarray, size: tuple[int, ...]) -> Tensor:
    bits = np.unpackbits(packed, count=2 * v.numel()).reshape(*v.shape, 2)
    rows, cols = np.indices(v.shape)[2:]
    flat = (*v.shape[:2], -1)
    places = ((2 * rows + bits[..., 0]) * size[1] + 2 * cols + bits[..., 1]).reshape(flat)
    y = np.zeros((*v.shape[:2], size[0] * size[1]), v.dtype)
    np.put_along_axis(y, places, v.data.reshape(flat), axis=2)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        return (np.take_along_axis(g.reshape(flat), places, axis=2).reshape(v.shape),)

    return record("unpool", y.reshape(*v.shape[:2], *size), (v,), backward)


x = Tensor(rng.standard_normal((2, 3, 5, 7)))  # odd sizes
v, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
packed = pack(places.numpy(), width=7)
mine = unpool(v, packed, (5, 7)).numpy()
assert np.array_equal(mine, unpool_loops(v.numpy(), places.numpy(), (5, 7)))
assert np.array_equal(mine, F.max_unpool2d(v, places, 2, output_size=(5, 7)).numpy())
assert minseg.gradcheck(lambda v: unpool(v, packed, (5, 7)), (v.detach().requires_grad_(),))
assert places.numpy().nbytes == 32 * packed.nbytes

# %% [markdown]
# ## The network
#
# The library's SegNet (conv3_2_D mirrors conv3_2), with our unpool: it is given bytes and sizes.


# %%
def segnet_by_hand(net: SegNet, x: Tensor) -> Tensor:
    notes = []
    for names in net.stages:  # VGG11: ["1_1"], ["2_1"], ["3_1", "3_2"], ...
        for name in names:
            x = F.relu(getattr(net, f"bn{name}")(getattr(net, f"conv{name}")(x)))
        size = x.shape[2:]
        x, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        notes.append((pack(places.numpy(), size[1]), size))
    for names in reversed(net.stages):
        x = unpool(x, *notes.pop())  # the last one first
        for name in reversed(names):
            x = getattr(net, f"conv{name}_D")(x)
            if name != "1_1":  # the last convolution gives the scores
                x = F.relu(getattr(net, f"bn{name}_D")(x))
    return x


library = SegNet(7, width=4, depth=11).eval()
image = Tensor(rng.random((2, 3, 45, 60), dtype=np.float32))  # 23x30, 12x15, 6x8, 3x4, 2x2
# Not in no_grad(), where the library folds norms into convolutions, and the last bits differ.
assert np.array_equal(segnet_by_hand(library, image).numpy(), library(image).numpy())

# %% [markdown]
# ## The experiment
#
# Wires one or two pixels wide before dark spots. On the way up, values return to their places; or
# are upsampled bilinearly; or that, with the features concatenated (18,707 weights, not 12,371).


# %%
class Small(nn.Module):
    def __init__(self, way: str):
        super().__init__()
        self.way = way
        down, up = [(1, 8), (8, 16), (16, 32)], [(32, 16), (16, 8), (8, 8)]
        joined = 2 if way == "features" else 1
        self.down = nn.ModuleList(ConvBNReLU(c, out, 3) for c, out in down)
        self.up = nn.ModuleList(ConvBNReLU(joined * c, out, 3) for c, out in up)
        self.head = nn.Conv2d(8, 3, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        notes = []  # of each level: the features, the places
        for convs in self.down:
            features = convs(x)
            x, places = F.max_pool2d(features, 2, return_indices=True)
            notes.append((features, places))
        return x, notes

    def decode(self, x: Tensor, notes: list[tuple[Tensor, Tensor]]) -> Tensor:
        for convs, (features, places) in zip(self.up, reversed(notes), strict=True):
            if self.way == "places":
                x = F.max_unpool2d(x, places, 2)
            else:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = convs(cat([features, x], dim=1) if self.way == "features" else x)
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(*self.encode(x))


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    images, masks = zip(*[(4 * s.image - 2, s.mask) for s in Wires(count, seed)], strict=True)
    return np.stack(images).transpose(0, 3, 1, 2), np.stack(masks)  # (N, 1, 48, 64), (N, 48, 64)


def score(labels: np.ndarray) -> np.ndarray:
    confusion = ConfusionMatrix(Wires.classes)
    confusion.update(labels, test_masks)
    return confusion.iou().values  # ground, spots, wires


count, steps = (16, 4) if lesson.fast else (160, 200)
train_set = scenes(count, 2 * lesson.seed)
test_images, test_masks = scenes(40, 2 * lesson.seed + 1)
pooled = 8 * 24 * 32 + 16 * 12 * 16 + 32 * 6 * 8  # values of an image
kept = {"features": 4 * 4 * pooled, "places": pooled // 4, "bilinear": 0}
models, labels = {}, {}
for way, size in kept.items():
    minseg.manual_seed(lesson.seed)
    models[way] = Small(way)
    lesson.fit(models[way], *train_set, steps, lr=0.02)
    labels[way] = lesson.predict(models[way], test_images)
    print(f"{way:8}: {size:7,} bytes an image, IoU", score(labels[way]).round(3))
# What was in the places? Surgery: give each image the places of the next one, or its values.
net, roll = models["places"], np.roll(np.arange(40), 1)
with no_grad():
    x, notes = net.encode(Tensor(test_images).to(lesson.device))
    others = net.decode(x, [(f, places[roll]) for f, places in notes])
    labels["places of another"] = others.numpy().argmax(axis=1)
    labels["values of another"] = net.decode(x[roll], notes).numpy().argmax(axis=1)
iou = {way: score(found) for way, found in labels.items()}
print("places of another, values of another: IoU", *(iou[way].round(3) for way in [*iou][3:]))

# %% [markdown]
# With the places of another image the wires are lost; with the values of another, the spots are,
# and some wires survive. Places say *where* something is; *what* it is, the values must say, after
# a bottleneck of 6x8. Features say both, and win, at 64 times the bytes.
#
# On photographs *the opposite* shows. In the recorded study, whole SegNets on CamVid, the boundary
# IoU is 0.097 with places and 0.155 with bilinear upsampling, which wins in all five seeds. Data
# (eleven classes, most of them large), network (five poolings, not three) and metric (all outlines,
# not one thin class) differ; which of these reverses the result is untested.

# %%
photos = lesson.study("unpooling")  # `minseg study unpooling` trains them again
assert [round(photos.mean(way), 3) for way in ("indices", "bilinear")] == [0.097, 0.155]
assert photos.verdict == "the opposite shows"
figure = lesson.figure(14, 5.8)
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.4])
pictures = {"truth": test_masks, **labels}
for axis, (name, found) in zip(top.subplots(1, 6), pictures.items(), strict=True):
    axis.imshow(viz.colourise(found[0], viz.OKABE_ITO[[0, 2, 6]]))
    axis.set(title=name.replace(" of ", "\nof "), xticks=[], yticks=[])
axis, dots = bottom.subplots(1, 2, width_ratios=[2.6, 1])
lesson.dots(dots, photos)
dots.set(title="SegNets on photos, 5 seeds", ylim=(0, 0.2), xticklabels=["places", "bilinear"])
for k, (name, colour) in enumerate({"spots": SKY, "wires": ORANGE}.items()):
    heights = [scores[k + 1] for scores in iou.values()]
    bars = axis.bar(np.arange(5) + 0.4 * k - 0.2, heights, 0.38, color=colour, label=name)
    axis.bar_label(bars, fmt="%.2f")
axis.set(ylabel="IoU", ylim=(0, 1.05), yticks=(0, 0.5, 1), xticks=range(5))
below = [f"{size:,} bytes" for size in kept.values()] + 2 * ["(surgery)"]
axis.set_xticklabels([f"{way}\n{line}" for way, line in zip(iou, below, strict=True)])
axis.legend(loc="upper right")
lesson.save(figure, "13_segnet")

# %% [markdown]
# ## What goes wrong
#
# **The size is not told.** 7 columns pool to 4, and 4 unpool to 8. The places were counted in rows
# of 7: nothing crashes, but the picture is sheared.

# %%
wrong = F.max_unpool2d(v, places, 2).numpy()[:, :, :5, :7]
assert (wrong != mine).mean() > 0.2  # more than a fifth of the pixels differ
features, places, bilinear, other_places, other_values = (scores[2] for scores in iou.values())
print(f"the claim: IoU of wires {places:.2f} with places, {bilinear:.2f} without")
if not lesson.fast:  # 4 seeds: .81 to .83, .66 to .70, 0 to .19; .08 to .10, .24 to .31
    assert features - 0.05 > places > bilinear + 0.3, iou
    assert places - 0.2 > other_values > other_places + 0.05, iou

# %% [markdown]
# ## Now change this
#
# 1. Exchange the places of one level only, `notes[0]` or `notes[2]`. Which level holds the wires?
# 2. 1,000 steps for "bilinear": 32 channels at 6x8 could *encode* the places. Do they learn to?
#
# **The exercise:** `minseg exercise check max_unpool2d`; then `minseg lesson run 13 --with ...`.
#
# ## Check yourself
#
# 1. 3x3 windows, stride 3: how many bits does a place take? By what factor do features take more?
# 2. Why does a stage's last decoder convolution change the channels, and not the first one?
#
# ## Answers
#
# 1. log2 9 = 3.2, so 4 bits; against 9 * 32 = 288: 72 times (91, if no bit were wasted).
# 2. Unpooling needs the channels that were pooled: 512 channels of places, 512 of values.
