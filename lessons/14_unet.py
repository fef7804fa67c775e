# %% [markdown]
# # 14 · U-Net: what the skips carry
#
# Pooling three times shows a network its surroundings, but 8x8 pixels have become one place. A wire
# one pixel wide crosses that place; where exactly? **The question:** can the way back up (the
# *decoder*) restore what pooling lost, or do *skip connections* have to bring it? And does it
# matter that U-Net *concatenates* them with the upsampled features, where the FCN adds?

# %%
import numpy as np

import minseg.functional as F
from minseg import Tensor, cat, manual_seed, nn, no_grad, viz
from minseg.lesson import BLUE, ORANGE, start
from minseg.metrics import ConfusionMatrix
from minseg.models import UNet, unet
from minseg.studies.scenes import Wires

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Shapes, by hand
#
# Ours has 8 channels at first and pools three times. The encoder is on the left, the decoder on the
# right, as (channels, height, width); `|` concatenates channels:
#
#     image (1, 48, 64)                                      1x1 convolution: scores (3, 48, 64)
#     two 3x3: (8, 48, 64)   --- skip -->  (8 | 8, 48, 64)    two 3x3: (8, 48, 64)
#     pool, (16, 24, 32)     --- skip -->  (16 | 16, 24, 32)  two 3x3: (16, 24, 32)
#     pool, (32, 12, 16)     --- skip -->  (32 | 32, 12, 16)  two 3x3: (32, 12, 16)
#     pool, (64, 6, 8), from where each 2x2 up-convolution halves channels and doubles sizes
#
# The paper uses no padding: each 3x3 convolution costs 2 pixels, two of them 4. Down: 572 -> 568,
# 284 -> 280, 140 -> 136, 68 -> 64, 32 -> 28. Up: 56 -> 52, 104 -> 100, 200 -> 196, 392 -> 388.

# %%
size = 572
for _ in range(4):
    size = (size - 4) // 2
size -= 4
for _ in range(4):
    size = 2 * size - 4
assert (size, size) == UNet(2, 1, width=2, padding="valid").output_size(572, 572) == (388, 388)

# %% [markdown]
# ## The network, line by line
#
# The networks of this lesson differ only in `join`: "concat" (U-Net), "add" (as in the FCN, but of
# features), "none" (zeros in place of the skip, so that everything else stays equal).


# %%
def double_conv(c_in: int, c_out: int) -> nn.Sequential:
    layers = []
    for c in (c_in, c_out):
        conv = nn.Conv2d(c, c_out, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers)


class SmallUNet(nn.Module):
    def __init__(self, num_classes: int, join: str = "concat", width: int = 8, depth: int = 3):
        super().__init__()
        self.join = join
        channels = [width * 2**level for level in range(depth + 1)]  # 8, 16, 32, 64
        pairs = zip([1, *channels], channels, strict=False)
        self.contract = nn.ModuleList(double_conv(c_in, c_out) for c_in, c_out in pairs)
        upward = channels[-2::-1]  # 32, 16, 8
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in upward)
        joined = 1 if join == "add" else 2
        self.expand = nn.ModuleList(double_conv(joined * c, c) for c in upward)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, convs in enumerate(self.contract):
            x = convs(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = skips.pop()
        for up, convs in zip(self.up, self.expand, strict=True):
            x, skip = up(x), skips.pop()
            if self.join == "add":
                x = skip + x
            else:
                skip = skip if self.join == "concat" else 0 * skip.detach()
                x = unet.join(x, skip)  # here, of one size: cat([skip, x], dim=1)
            x = convs(x)
        return self.head(x)


mine = SmallUNet(3).eval()
library = UNet(3, in_channels=1, width=8, depth=3, norm="batch").eval()
library.load_state_dict(mine.state_dict())  # same names, same shapes
image = Tensor(rng.random((2, 1, 48, 64), dtype=np.float32))
with no_grad():
    assert np.array_equal(mine(image).numpy(), library(image).numpy())
print("our U-Net and the library's give the same scores, bit for bit")

# %% [markdown]
# ## Concatenate or add?
#
# A convolution sums over channels, so over a concatenation it is a sum of two convolutions, each
# with its own weights: conv(cat(a, b), [A, B]) = conv(a, A) + conv(b, B). Adding first is the
# special case A = B, with half the weights: conv(a + b, A). So whatever addition can compute,
# concatenation can, too. The gradient of cat is cut into the two parts, so the skip is a short way
# back to the early layers; addition gives both the same gradient.

# %%
a, b = (Tensor(rng.standard_normal((2, 3, 5, 7)), requires_grad=True) for _ in range(2))
A, B = (Tensor(rng.standard_normal((4, 3, 3, 3))) for _ in range(2))
beside = F.conv2d(cat([a, b], dim=1), cat([A, B], dim=1))
apart = F.conv2d(a, A) + F.conv2d(b, B)
tied = F.conv2d(cat([a, b], dim=1), cat([A, A], dim=1))
for left, right in ((beside, apart), (tied, F.conv2d(a + b, A))):
    assert np.allclose(left.numpy(), right.numpy(), rtol=0, atol=1e-13)  # sums of 54 products
upstream = rng.standard_normal(beside.shape)
beside.backward(upstream)
from_beside, a.grad = a.grad.numpy(), None
F.conv2d(a, A).backward(upstream)
assert np.allclose(from_beside, a.grad.numpy(), rtol=0, atol=1e-13)

# %% [markdown]
# ## The experiment
#
# Bright wires, one or two pixels wide, cross dark spots on uneven ground.


# %%
def batch_of(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 48, 64) and masks (N, 48, 64): 0 ground, 1 spot, 2 wire."""
    images, masks = zip(*[(4 * s.image - 2, s.mask) for s in Wires(count, seed)], strict=True)
    return np.stack(images).transpose(0, 3, 1, 2), np.stack(masks)


count, steps = (24, 12) if lesson.fast else (160, 200)
train_set, test_set = batch_of(count, 2 * lesson.seed), batch_of(count // 4, 2 * lesson.seed + 1)
names = Wires.classes

losses, predictions, iou = {}, {}, {}
for join in ("concat", "none"):
    manual_seed(lesson.seed)
    model = SmallUNet(3, join)
    losses[join] = lesson.fit(model, *train_set, steps, batch_size=4)
    predictions[join] = lesson.predict(model, test_set[0])
    confusion = ConfusionMatrix(names)
    confusion.update(predictions[join], test_set[1])
    iou[join] = confusion.iou()
    weights = sum(p.numel() for p in model.parameters())
    scores = ", ".join(f"{name} {iou[join][name]:.3f}" for name in names)
    print(f"{join:6} ({weights:,} weights): IoU of {scores}")

# %% [markdown]
# Without skips the network finds the spots roughly and misses the wires: the 64 channels at the
# bottom have room for 8x8 pixels, but the network would have to *learn* to encode them there. The
# skip needs no code: the first level still has every pixel.
#
# ## What five seeds say
#
# Two recorded studies, on the same kind of scenes. `minseg study skips`: IoU of wires 0.736 with
# skips, 0.002 without, *shown*. `minseg study concat-or-add`, with equal numbers of weights (the
# sums are a little wider): 0.769 concatenated and 0.776 added; which is ahead depends on the seed.
# That concatenation is better is *not shown*. It is more general (see above); whether larger
# networks make use of that, these small ones cannot say.

# %%
skips, joins = lesson.study("skips"), lesson.study("concat-or-add")
assert [round(skips.mean(arm), 3) for arm in skips.scores] == [0.736, 0.002]
assert [round(joins.mean(arm), 3) for arm in joins.scores] == [0.769, 0.776]
assert [skips.verdict, joins.verdict] == ["shown", "not shown at this size"]

figure = lesson.figure(14, 6)
parts = figure.subfigures(2, 1, height_ratios=[1, 1.35])
titles = {"concat": "skips concatenated", "none": "no skips"}
axes = parts[0].subplots(1, 4)
axes[0].imshow(test_set[0][0, 0], cmap="gray")
shown = [test_set[1], *(predictions[join] for join in titles)]
for axis, masks in zip(axes[1:], shown, strict=True):
    axis.imshow(viz.colourise(masks[0], viz.OKABE_ITO[[0, 5, 4]]))
for axis, title in zip(axes, ["image", "truth", *titles.values()], strict=True):
    axis.set(title=title, xticks=[], yticks=[])
axis, *charts = parts[1].subplots(1, 3, width_ratios=[2, 1, 1])
for chart, result in zip(charts, (skips, joins), strict=True):
    lesson.dots(chart, result)
    chart.set(title="IoU of wires, 5 seeds", ylim=(-0.05, 1))
for offset, join, colour in zip((-0.2, 0.2), titles, (BLUE, ORANGE), strict=True):
    values = iou[join].values
    bars = axis.bar(np.arange(3) + offset, values, width=0.38, color=colour, label=titles[join])
    axis.bar_label(bars, fmt="%.2f")
axis.set(xticks=range(3), ylabel="IoU", ylim=(0, 1.1), yticks=(0, 0.5, 1))
axis.set_xticklabels(["ground", "spots (blue)", "wires (yellow)"])
axis.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1))
lesson.save(figure, "14_unet")

# %% [markdown]
# ## What goes wrong
#
# **A side that does not halve.** 42 rows are pooled to 21 and 10; going up, these become 20, but
# the skip has 21. The library lets pooling round up, and cuts the last row off. **A corner crop.**
# Without padding, skip and mask must be cropped in the *middle*: a shift by one pixel does little
# to a spot's IoU, and ruins a wire's. (Nothing is trained here: the truth against itself, moved.)

# %%
odd = Tensor(np.zeros((1, 1, 42, 57), np.float32))
try:
    mine(odd)
except ValueError as error:
    print(f"odd size: {error}")
assert library(odd).shape == (1, 3, 42, 57)
aside = ConfusionMatrix(names)
aside.update(test_set[1][:, 1:, 1:], test_set[1][:, :-1, :-1])
print(
    f"one pixel aside: IoU of spots {aside.iou()['spot']:.2f}, of wires {aside.iou()['wire']:.2f}"
)
assert aside.iou()["wire"] < 0.5 < aside.iou()["spot"]

# %%
gain = iou["concat"]["wire"] - iou["none"]["wire"]
# Over three seeds: 0.77 to 0.82 with skips, at most 0.01 without.
print(f"the claim: with skips, the IoU of wires is {gain:.2f} higher")
assert np.mean(losses["concat"][-4:]) < losses["concat"][0]
assert lesson.fast or gain > 0.6, gain

# %% [markdown]
# ## Now change this
#
# 1. `steps = 600`: how much of the code for wires does the network without skips learn in the end?
# 2. Train "add", too, which has a tenth fewer weights. Is it worse?
# 3. Keep only the skip of the first level, or only that of the last. Which one carries the wires?
#
# **The exercise:** `minseg exercise check join`: crop the middle, concatenate; and run it in here.
#
# ## Check yourself
#
# 1. Without padding, at depth 4: why does 572 work, and 570 only with rounding?
# 2. `add` has fewer weights. Which ones are missing?
#
# ## Answers
#
# 1. Before each pooling the side has to be even: 568, 280, 136, 64; from 570 it is 566, then 279.
# 2. In the first convolution of each decoder level: half of its input channels, as A = B.
