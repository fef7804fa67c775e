# %% [markdown]
# # 20 · SegFormer: every place asks every other
#
# A convolution sees its neighbours; what lies far away arrives layer by layer, or never. In a
# transformer each place asks all places at once. That costs a number for each *pair* of them, and
# ignores where things are; SegFormer (2021) mends both. **The question:** what is attention worth
# when the cue lies outside a CNN's receptive field, and what does it cost?

# %%
import numpy as np

import minseg.functional as F
from minseg import Tensor, gradcheck, manual_seed, nn, no_grad
from minseg.backbones.mit import Attention, Block, Stage, as_map, as_tokens
from minseg.lesson import BLUE, ORANGE, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Attention, by hand
#
# Each place is a *token*, a vector. Three matrices turn it into a query (what do I look for?), a
# key (what am I?), both of length E, and a value (what do I tell?). The answer to a query is the
# mean of all values, with weights softmax(query . key / sqrt(E)). For scores 0, log 2, log 5 and
# values 8, 16, 24:
#
#     weights  1 : 2 : 5, so 1/8, 2/8, 5/8          answer  8/8 + 2 * 16/8 + 5 * 24/8 = 20
#
# The formula knows no distance. With scores S, weights P, answers Y = P V, and g = dL/dY:
#
#     dV = P^T g    dS_ij = P_ij g_i . (v_j - y_i)    dQ = dS K / sqrt(E)    dK = dS^T Q / sqrt(E)
#
# The gradient of a score S_ij is how much better, along g, its value v_j is than the answer y_i.


# %%
def attention_loops(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Queries (L, E), keys (S, E), values (S, D) -> (L, D)"""
    y = np.zeros((len(q), v.shape[1]))
    for i in range(len(q)):
        weights = [np.exp(q[i] @ k[j] / np.sqrt(len(q[i]))) for j in range(len(k))]
        for j in range(len(k)):
            y[i] += weights[j] / sum(weights) * v[j]
    return y


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def my_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q.data @ k.data.swapaxes(-1, -2))  # (..., L, S)
    y = p @ v.data

    def backward(g: np.ndarray) -> tuple[np.ndarray, ...]:
        ds = p * (g @ v.data.swapaxes(-1, -2) - (g * y).sum(axis=-1, keepdims=True))
        dk = scale * ds.swapaxes(-1, -2) @ q.data
        return scale * ds @ k.data, dk, p.swapaxes(-1, -2) @ g

    return record("my_attention", y, (q, k, v), backward)


keys, values = np.log([[1.0], [2.0], [5.0]]), np.array([[8.0], [16.0], [24.0]])
assert np.isclose(attention_loops(np.ones((1, 1)), keys, values)[0, 0], 20)
shapes = (2, 5, 4), (2, 7, 4), (2, 7, 3)
q, k, v = (Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes)
assert gradcheck(my_attention, (q, k, v))
y = my_attention(q, k, v).numpy()
loops = attention_loops(*(t.numpy()[0] for t in (q, k, v)))
for mine, other in ((y[0], loops), (y, F.scaled_dot_product_attention(q, k, v).numpy())):
    assert np.allclose(mine, other, rtol=0, atol=1e-14)  # means of 7 numbers

# %% [markdown]
# ## What it costs, and sequence reduction
#
# L queries times L keys. SegFormer's first stage has stride 4: 512x512 pixels give L = 128 * 128.
# So keys and values come from a map that a convolution of kernel size and stride R has shrunk R
# times per side, with R = 8, 4, 2, 1: 16 x 16 keys in every stage.
#
#     stage   map        L       scores, L^2    R    with L / R^2 keys
#     1       128x128    16,384  268,435,456    8    4,194,304
#     2       64x64      4,096   16,777,216     4    1,048,576
#     3       32x32      1,024   1,048,576      2    262,144
#     4       16x16      256     65,536         1    65,536
#
# (Tokens come from overlapping patches, 7x7 pixels every 4, so that patch borders cut nothing.)

# %%
sides, reductions = np.array([128, 64, 32, 16]), np.array([8, 4, 2, 1])
full, reduced = sides**4, sides**2 * (sides // reductions) ** 2
assert [*full[:1], *reduced] == [268_435_456, 4_194_304, 1_048_576, 262_144, 65_536]
print(f"reduction: {full.sum() / reduced.sum():.0f} times fewer scores at 512x512")


def attention_by_hand(layer: Attention, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (N, L, C) of a map of this size -> (N, L, C)"""
    R, heads, (N, L, C) = layer.reduction, layer.heads, x.shape
    conv, norm = layer.sequence_reduction.proj, layer.sequence_reduction.layer_norm
    small = norm(as_tokens(F.conv2d(as_map(x, size), conv.weight, conv.bias, stride=R)))
    tokens = layer.q_proj(x), layer.k_proj(small), layer.v_proj(small)
    q, k, v = (t.reshape(N, -1, heads, C // heads).transpose(1, 2) for t in tokens)
    return layer.o_proj(my_attention(q, k, v).transpose(1, 2).reshape(N, L, C))


layer = Attention(16, heads=2, reduction=4)
x = Tensor(rng.standard_normal((2, 96, 16)).astype(np.float32))  # of a map of 8x12
library = layer(x, (8, 12)).numpy()
by_hand = attention_by_hand(layer, x, (8, 12)).numpy()
assert np.abs(by_hand - library).max() < 1e-5 * np.abs(library).max()  # float32

# %% [markdown]
# ## Where am I? The 3x3 of Mix-FFN
#
# Shuffle the tokens, and attention gives the same answers, shuffled: it knows *what* others are,
# not where. Others add a *positional encoding*, made for one image size. SegFormer has a depthwise
# 3x3 in each block: it tells left from right, and its zero padding tells where the border is.

# %%
block, order = Block(16, heads=2, reduction=1, drop_path=0.0).eval(), rng.permutation(96)
for taps in ("kept", "cut to its middle tap"):
    with no_grad():
        before, after = block(x, (8, 12)).numpy()[:, order], block(x[:, order], (8, 12)).numpy()
    moved = np.abs(before - after).max()
    print(f"tokens shuffled, 3x3 {taps}: answers differ by {moved:.0e}")
    assert (moved > 1e-2) == (taps == "kept")
    block.mlp.dwconv.weight.data *= np.arange(9).reshape(3, 3) == 4

# %% [markdown]
# ## The experiment: a far cue
#
# Discs look alike; a square on the other side of the image, light or dark, tells their kind. We
# train one stage of SegFormer, one block, R = 2. Its rival has a 3x3 convolution for attention, and
# more weights. The rival's receptive field, in pixels, is
#
#     7 (patch) + 4 * 2 (3x3) + 4 * 2 (3x3 of Mix-FFN) = 23: 11 to each side; the cue is 25 away


# %%
class Local(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return as_tokens(self.conv(as_map(x, size)))


def small(sight: str) -> nn.Module:  # (N, 1, 48, 64), map 12x16, scores (N, 2, 48, 64)
    stage = Stage(1, 16, (7, 4), heads=1, reduction=2, drop_paths=[0.0])
    if sight == "3x3":
        stage.blocks[0].attention = Local(16)
    return nn.Sequential(stage, nn.Conv2d(16, 2, 1), nn.Upsample(scale_factor=4, mode="bilinear"))


def scenes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 48, 64); kinds (N, 48, 64), 0 or 1 on discs, -100 (ignored) elsewhere."""
    y, x = np.mgrid[:48, :64]
    images, kinds = rng.normal(0, 0.15, (number, 1, 48, 64)), np.full((number, 48, 64), -100)
    for n in range(number):
        kind, top, left = rng.integers(2), rng.integers(1, 39), rng.integers(1, 6)
        images[n, 0, top : top + 8, left : left + 8] += 1.6 * kind - 0.8
        for _ in range(2):
            disc = np.hypot(y - rng.uniform(5, 43), x - rng.uniform(40, 59)) < 4
            images[n, 0, disc] = 1.6 + rng.normal(0, 0.15, disc.sum())
            kinds[n, disc] = kind
        if rng.integers(2):
            images[n], kinds[n] = images[n, :, :, ::-1].copy(), kinds[n, :, ::-1].copy()
    return images.astype(np.float32), kinds


count, steps = (32, 4) if lesson.fast else (800, 400)
train_set, test_set = scenes(count), scenes(count // 4)
asked, right, models = test_set[1] >= 0, {}, {}
for sight in ("3x3", "attention"):
    manual_seed(lesson.seed)
    net = models[sight] = small(sight)
    lesson.fit(net, *train_set, steps)
    right[sight] = (lesson.predict(net, test_set[0]) == test_set[1])[asked].mean()
    print(f"{sight} ({sum(p.numel() for p in net.parameters())} weights): right {right[sight]:.3f}")
# By how much does the score of one place of a disc change with each pixel of the image?
(row, column), pull = np.argwhere(test_set[1][0] >= 0)[3], {}
for sight, model in models.items():
    image = Tensor(test_set[0][:1], requires_grad=True)
    model.to("cpu")(image)[0, :, row, column].backward(np.array([-1, 1], np.float32))
    pull[sight] = np.abs(image.grad.numpy()[0, 0])
far = abs(np.arange(64) - column) > 3 + 8 * len(net[0].blocks) + 5  # 5: upsampling mixes places
assert pull["3x3"][:, far].max(initial=0) == 0 < pull["attention"][:, far].min(initial=1)
figure = lesson.figure(12, 7)
top, bottom = figure.subfigures(2, 1, height_ratios=[1.1, 1])
picture, *maps = top.subplots(1, 3)
bars, dots = bottom.subplots(1, 2, width_ratios=[1, 1.3])
whole = lesson.study("far-cue")
assert [round(whole.mean(arm), 3) for arm in whole.scores] == [0.297, 0.336, 0.663]
assert whole.verdict == "shown"
lesson.dots(dots, whole)
dots.set(title="whole networks, 5 seeds", ylabel="IoU of discs", ylim=(0, 1))
picture.imshow(test_set[0][0, 0], cmap="gray", vmin=-1.5, vmax=2)
for axis, sight in zip(maps, pull, strict=True):
    axis.imshow(np.sqrt(pull[sight]))
titles = "which kind is the disc?", *(f"pixels that matter: {sight}" for sight in pull)
for axis, title in zip((picture, *maps), titles, strict=True):
    axis.plot(column, row, "o", color=ORANGE, markeredgecolor="white", markersize=10)
    axis.set(title=title, xticks=[], yticks=[])
bars.bar_label(bars.bar([*right], [*right.values()], color=[ORANGE, BLUE]), fmt="%.2f")
bars.set(title="accuracy on discs", ylim=(0, 1.15), yticks=(0, 0.5, 1))
lesson.save(figure, "20_segformer")

# %% [markdown]
# ## What goes wrong
#
# **No 1/sqrt(E)**: scores of random vectors have standard deviation sqrt(E); softmax then picks one
# key, and its gradient, P (1 - P), vanishes. **reshape instead of transpose**: tokens (N, L, C)
# have as many numbers as a map (N, C, h, w), so nothing crashes, but places are mixed up.

# %%
q, k = rng.standard_normal((2, 200, 64))
loudest = [softmax(q @ k.T * scale).max(axis=1).mean() for scale in (1 / 8, 1)]
print(f"E = 64: the largest of 200 weights is {loudest[0]:.2f}, unscaled {loudest[1]:.2f}")
assert loudest[0] < 0.2 < 0.7 < loudest[1]
assert not np.allclose(x.reshape(2, 16, 8, 12).numpy(), as_map(x, (8, 12)).numpy())
print(f"the claim: accuracy {right['attention']:.2f} with attention, {right['3x3']:.2f} with a 3x3")
# Over three seeds: 0.48 to 0.52 with a 3x3, 0.97 to 1.00 with attention.
assert lesson.fast or right["3x3"] < 0.65 < 0.85 < right["attention"], right

# %% [markdown]
# And whole networks? In `minseg study far-cue`, on such scenes, SegFormer has an IoU of discs of
# 0.663 (five seeds); a U-Net with two poolings, too few to see the cue, 0.297, little better than a
# guess. One with four could see it, yet has 0.336: one seed of five found it (0.53), four did not.
# *Shown*; but the study does not tell why seeing the cue is not enough to find it.
#
# ## Now change this
#
# 1. `reduction=4`: 12 keys instead of 48. How accurate is that? And with 1?
# 2. `drop_paths=[0.0] * 6`, a `Local` in each block: now the rival sees 103 pixels. Does it learn?
#
# **The exercise:** `minseg exercise check mix_ffn`.
#
# ## Check yourself
#
# 1. For an image twice as high and wide: how many times the scores, with and without reduction?
# 2. What does attention answer if all keys are equal?
#
# ## Answers
#
# 1. 16 times in both cases: 4 times the queries, 4 times the keys. Reduction divides by R^2.
# 2. The mean of all values, at every place: image pooling (lesson 18).
