# %% [markdown]
# # 07 · Atrous convolution: field of view for free, and gridding
#
# What a pixel is may be decided ten pixels away. A 3x3 kernel sees one pixel to each side; three of
# them see three. Leave holes (French: *trous*) between the taps, and the same nine weights reach as
# far as you like. **The question:** what do we gain by the holes, and what falls through them?

# %%
import numpy as np
from numpy.lib.stride_tricks import as_strided

import minseg
import minseg.functional as F
from minseg import Tensor, nn, no_grad, viz
from minseg.backbones import ResNet
from minseg.lesson import BLUE, SKY, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Shapes, by hand
#
# With rate d (or *dilation*), taps lie d pixels apart: y[r] = sum over i of w[i] x[r + d i]. It is
# an ordinary convolution by a longer kernel, most of it 0:
#
#     w = 1 2 3    rate 2: 1 . 2 . 3      x = 0 1 2 3 4 5 6  ->  y[0] = 1*0 + 2*2 + 3*4 = 16
#                  rate 3: 1 . . 2 . . 3                         y[0] = 1*0 + 2*3 + 3*6 = 24
#
# k taps span d (k - 1) + 1 pixels: of H rows, H - d (k - 1) remain; d (k - 1) / 2 zeros on each
# side keep all. Reaches add up over layers: at stride 1, the receptive field (field of view) is
#
#     R = 1 + sum over the layers of d (k - 1)      1, 1, 1: 7    2, 2, 2: 13    1, 2, 5: 17
#
# pixels wide, with 27 weights each time. Eight layers at rate 1 also see 17, with 72 weights.


# %%
def atrous_loops(x: np.ndarray, w: np.ndarray, d: int) -> np.ndarray:
    (N, C, H, W), (O, _, kh, kw) = x.shape, w.shape
    y = np.zeros((N, O, H - d * (kh - 1), W - d * (kw - 1)))
    for n, o, r, c in np.ndindex(y.shape):
        for k, i, j in np.ndindex(C, kh, kw):
            y[n, o, r, c] += w[o, k, i, j] * x[n, k, r + d * i, c + d * j]
    return y


line, w = np.arange(7.0).reshape(1, 1, 1, 7), np.array([[[[1.0, 2.0, 3.0]]]])
assert [atrous_loops(line, w, d)[0, 0, 0, 0] for d in (2, 3)] == [16, 24]

# %% [markdown]
# ## A stride in the gather
#
# Lesson 02 gathered patches: element (i, j) of patch (r, c) was x[r + i, c + j]. In memory, each
# index has a *stride*, the distance to the next element. Now it is x[r + d i, c + d j]: the rate
# multiplies the strides of i and j. (A convolution's own stride multiplies those of r and c.)


# %%
def patches(x: np.ndarray, kh: int, kw: int, d: int) -> np.ndarray:
    """(N, C, H, W) -> (N, C, kh, kw, H', W'), a view: nothing is copied, no hole multiplied."""
    (N, C, H, W), (n, k, r, c) = x.shape, x.strides
    size = H - d * (kh - 1), W - d * (kw - 1)
    return as_strided(x, (N, C, kh, kw, *size), (n, k, d * r, d * c, r, c))


def atrous(x: np.ndarray, w: np.ndarray, d: int) -> np.ndarray:
    return np.einsum("okij,nkijrc->norc", w, patches(x, *w.shape[2:], d), optimize=True)


x, w = rng.standard_normal((2, 3, 11, 14)), rng.standard_normal((4, 3, 3, 2))
y = F.conv2d(Tensor(x), Tensor(w), dilation=3).numpy()
holes = np.zeros((4, 3, 7, 4))
holes[:, :, ::3, ::3] = w
for mine in (atrous_loops(x, w, 3), atrous_loops(x, holes, 1), atrous(x, w, 3)):
    assert np.allclose(mine, y, rtol=0, atol=1e-13)  # sums of 18 products

# %% [markdown]
# ## The gradient
#
# With g = dL/dy: a weight meets one pixel of every patch, and pixel q was read by outputs q - d i:
#
#     dL/dw[i] = sum over r of g[r] x[r + d i]          dL/dx[q] = sum over i of w[i] g[q - d i]
#
# The first uses the same patches; the second adds back to the places that they were read from.


# %%
def my_conv2d(x: Tensor, w: Tensor, d: int) -> Tensor:
    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size, dx = w.shape[2:], np.zeros(x.shape)
        dw = np.einsum("norc,nkijrc->okij", g, patches(x.data, *size, d), optimize=True)
        places = patches(dx, *size, d)
        for i, j in np.ndindex(size):  # tap by tap: patches overlap, places of one tap do not
            places[:, :, i, j] += np.einsum("ok,norc->nkrc", w.data[:, :, i, j], g)
        return dx, dw

    return record("my_conv2d", atrous(x.data, w.data, d), (x, w), backward)


both = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
assert minseg.gradcheck(lambda x, w: my_conv2d(x, w, 3), both)

# %% [markdown]
# ## Output stride: the same answers, and those between
#
# A ResNet's *output stride* is 32: one value for 32x32 pixels. Take a stride out and double all
# later rates: the convolutions meet the same pixels as before, and no weight changes. Two strides
# out, rates 2, 4 in: (1, 128, 2, 3) becomes (1, 128, 8, 12), and every fourth value is an old one.

# %%
coarse, dense = (ResNet(50, width=4, output_stride=stride).eval() for stride in (32, 8))
dense.load_state_dict(coarse.state_dict())
image = Tensor(rng.random((1, 3, 64, 96), dtype=np.float32))
with no_grad():
    old, new = coarse(image)[-1].numpy(), dense(image)[-1].numpy()
assert np.abs(new[:, :, ::4, ::4] - old).max() < 1e-5 * np.abs(old).max()  # float32, 50 layers

# %% [markdown]
# ## Gridding
#
# Which input pixels does the middle output depend on? Those where dy/dx is not 0 (equal weights:
# nothing cancels). At rates 2, 2, 2 all are an even number of pixels away: 49 of 13x13. The output
# beside it depends on 49 others; on noise, the correlation between such neighbours is 0.


# %%
def stack(x: Tensor, rates: tuple) -> Tensor:
    for d in rates:
        x = F.conv2d(x, Tensor(np.ones((1, 1, 3, 3)) / 9), padding=d, dilation=d)
    return x


noise, field, share, together = Tensor(rng.standard_normal((1, 1, 160, 160))), {}, {}, {}
for rates in [(1, 1, 1), (2, 2, 2), (1, 2, 5), (1, 2, 9)]:
    image = Tensor(np.zeros((1, 1, 33, 33)), requires_grad=True)
    stack(image, rates)[0, 0, 16, 16].backward()
    field[rates] = image.grad.numpy()[0, 0] > 0
    R = 1 + 2 * sum(rates)
    assert np.ptp(np.nonzero(field[rates])[0]) + 1 == R
    smooth = stack(noise, rates).numpy()[0, 0, 16:-16, 16:-16]
    share[rates] = field[rates].sum() / R**2
    together[rates] = np.corrcoef(smooth[:, 1:].ravel(), smooth[:, :-1].ravel())[0, 1]
    print(f"rates {rates}: {R}x{R}, sees {share[rates]:.0%}, neighbours {together[rates]:+.2f}")
assert share[2, 2, 2] == 49 / 169 < share[1, 2, 5] == 1
assert abs(together[2, 2, 2]) < 0.16 < 0.6 < together[1, 2, 5]  # 0.16: 4 times its spread

# %% [markdown]
# Rates 1, 2 see 7 pixels in a row; a 5 joins three such rows: 17. A 9 leaves gaps. No rate may
# outgrow what those before it fill (Wang et al. 2018). Whether holes beat pooling: see lesson 18.
#
# ## The experiment: context decides
#
# Squares of 3x3, all alike. Four to six pixels away from each of their pixels lies one dot, light
# or dark, which alone decides the class. Three layers; the nets differ in their rates only. The
# drawing predicts the result: who sees the dot is right, who does not is right half of the time.


# %%
def scenes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 40, 60), masks (N, 40, 60): 0 or 1 on the squares, -100 (ignored) elsewhere."""
    images, masks = rng.normal(0, 0.1, (number, 1, 40, 60)), np.full((number, 40, 60), -100)
    for n, i, j in np.ndindex(number, 2, 3):
        r, c, label = 20 * i + rng.integers(8, 13), 20 * j + rng.integers(8, 13), rng.integers(2)
        a, b = ring[rng.integers(40)]
        images[n, 0, r - 1 : r + 2, c - 1 : c + 2] += 1
        images[n, 0, r + a, c + b] = 2 * label - 1
        masks[n, r - 1 : r + 2, c - 1 : c + 2] = label
    return images.astype(np.float32), masks


# where dots may lie, and from which pixels of the square they do
ring = [(a - 5, b - 5) for a, b in np.ndindex(11, 11) if max(abs(a - 5), abs(b - 5)) == 5]
a, b = np.array([(17 + a - i, 17 + b - j) for a, b in ring for i, j in np.ndindex(3, 3)]).T
predicted = {rates: 0.5 + 0.5 * seen[a, b].mean() for rates, seen in field.items()}
count, steps = (16, 4) if lesson.fast else (160, 300)
train_set, test_set = scenes(count), scenes(40)
asked, accuracy, drawn = test_set[1] >= 0, {}, {}
for rates in [(1, 1, 1), (2, 2, 2), (1, 2, 5)]:
    minseg.manual_seed(lesson.seed)
    layers = []
    for c, d in zip((1, 8, 8), rates, strict=True):
        layers += [nn.Conv2d(c, 8, 3, padding=d, dilation=d), nn.BatchNorm2d(8), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(8, 2, 1))
    lesson.fit(model, *train_set, steps, lr=0.02)
    drawn[rates] = lesson.predict(model, test_set[0])
    accuracy[rates] = (drawn[rates] == test_set[1])[asked].mean()
    print(f"rates {rates}: predicted {predicted[rates]:.3f}, trained {accuracy[rates]:.3f}")

figure = lesson.figure(12, 7)
parts = figure.subfigures(2, 1, height_ratios=[1.1, 1])
for axis, (rates, seen) in zip(parts[0].subplots(1, len(field)), field.items(), strict=True):
    axis.imshow(seen[3:-3, 3:-3], cmap="Blues", vmax=1.3)
    axis.set(title=f"{rates} sees {share[rates]:.0%}", xticks=[], yticks=[])
    axis.set_xlabel(f"neighbours correlate: {together[rates]:.2f}", fontsize=12)
votes = (drawn[2, 2, 2] * asked)[:, :20, :20].sum(axis=(1, 2))
shown, n = np.argmin(abs(votes - 4.5)), len(drawn)  # where 2, 2, 2 is most at odds with itself
*axes, chart = parts[1].subplots(1, n + 2, width_ratios=[1] * (n + 1) + [n - 1])
pictures = {"image": np.clip(test_set[0][shown, 0] * 100 + 128, 0, 255)[..., None].repeat(3, 2)}
for rates, labels in drawn.items():
    pictures[rates] = np.where(asked[shown, ..., None], viz.OKABE_ITO[5 + labels[shown]], 230)
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture[:20, :20].astype(np.uint8))
    axis.set(title=title, xticks=[], yticks=[])
columns = {"predicted": [predicted[r] for r in drawn], "trained": [accuracy[r] for r in drawn]}
for x0, colour, (label, heights) in zip((-0.2, 0.2), (SKY, BLUE), columns.items(), strict=True):
    bars = chart.bar(np.arange(n) + x0, heights, 0.38, color=colour, label=label)
    chart.bar_label(bars, fmt="%.2f", fontsize=11)
chart.set(title="right pixels", ylim=(0, 1.4), xticks=range(n), xticklabels=map(str, drawn))
chart.legend(loc="upper left", ncols=2)
lesson.save(figure, "07_atrous_convolution")

# %% [markdown]
# ## What goes wrong
#
# **Padding left at 1**: rate d needs padding d. **A rate as large as the map**: every tap but the
# middle one reads padding, and the 3x3 is a 1x1. (And the same rate again and again: see above.)

# %%
features, w = Tensor(rng.standard_normal((1, 3, 6, 6))), Tensor(rng.standard_normal((3, 3, 3, 3)))
try:
    features + F.conv2d(features, w, padding=1, dilation=2)
except ValueError as error:
    print(f"rate 2, padding 1: {error}")
lost = F.conv2d(features, w, padding=6, dilation=6).numpy()
assert np.allclose(lost, F.conv2d(features, w[:, :, 1:2, 1:2]).numpy(), rtol=0, atol=1e-13)
# Over three seeds: 1, 1, 1 0.44 to 0.51; 2, 2, 2 0.63 to 0.66; 1, 2, 5 more than 0.99.
print("the claim: right pixels", {rates: f"{value:.2f}" for rates, value in accuracy.items()})
assert predicted[1, 1, 1] == 0.5 < predicted[2, 2, 2] < 0.7 < predicted[1, 2, 5] == 1
if not lesson.fast:
    assert accuracy[1, 1, 1] < 0.58 < accuracy[2, 2, 2] < 0.76 < 0.95 < accuracy[1, 2, 5], accuracy

# %% [markdown]
# ## Now change this
#
# 1. Train 1, 2, 9, too: look at `predicted` first. And 5, 2, 1, in both lists: does order matter?
# 2. Two layers at rate 1 before 2, 2, 2: what does `stack` draw, and what happens to gridding?
#
# **The exercise:** `minseg exercise check conv2d`; then run lesson 18 `--with` it.
#
# ## Check yourself
#
# 1. Which offsets do rates 1, 3, 9 reach in a row, and why can no three rates do better?
# 2. A ResNet's last two stages lose their strides. What are their rates, and what does it cost?
#
# ## Answers
#
# 1. All from -13 to 13, each by one path: three times a choice of three taps, at most 27 places.
# 2. 2 and 4. No weight; but stage 3 has 4 times the pixels to work on, stage 4 has 16 times.
