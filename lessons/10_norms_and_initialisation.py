# %% [markdown]
# # 10 · Norms and initialisation, and what dies without them
#
# Twenty layers multiply a signal twenty times. If each makes it a little smaller, it *vanishes*; a
# little larger, and it *explodes*; and on the way back, so does the gradient. **The question:**
# what keeps a deep net alive, its first weights or a norm in each layer?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, nn
from minseg.lesson import BLUE, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## By hand
#
# A 3x3 over C channels adds n = 9 C products, z = sum of w x. If the weights are independent, with
# mean 0, then z is as often positive as negative, and a ReLU keeps half of its square:
#
#     Var z = n Var w E[x^2]        E[relu(z)^2] = Var z / 2        so a layer: times n Var w / 2
#
# On the way back, dL/dx adds up 9 C gradients, and the ReLU lets half of them through: the same
# factor. Between the first layer's z and the twentieth's it applies 19 times:
#
#     start                Var w       a layer   19 times
#     He / 4               1 / (8 n)     1/16      1e-23     a quarter of He's deviation
#     PyTorch's default    1 / (3 n)     1/6       2e-15     uniform, up to 1 / sqrt(n)
#     Xavier               1 / n         1/2       2e-06     for nets without ReLU
#     He                   2 / n         1         1
#     He * 2               8 / n         4         3e+11


# %%
STARTS = {"He / 4": 1 / 16, "default": 1 / 6, "Xavier": 1 / 2, "He": 1, "He * 2": 4}
fills = {"default": Tensor.detach, "Xavier": nn.init.xavier_normal_, "He": nn.init.kaiming_normal_}
for name, fill in fills.items():
    factor = 9 * 256 * fill(nn.Conv2d(256, 256, 3).weight).numpy().var() / 2
    assert abs(factor / STARTS[name] - 1) < 0.02  # 10 times its spread: 590,000 weights

# %% [markdown]
# ## A norm, by hand and by loops
#
# Or let each layer measure its z and correct it. *Batch norm* takes the mean and variance of each
# channel, over the m values in all images and places; then y = weight * xhat + bias, both learnt:
#
#     z = 1 3 5 7    mean 4    var 5    xhat = (z - mean) / sqrt(var + eps) = -1.34 -0.45 0.45 1.34


# %%
def batch_norm_loops(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    (N, C, H, W), y = x.shape, np.empty(x.shape)
    for c in range(C):
        mean = sum(x[n, c, i, j] for n, i, j in np.ndindex(N, H, W)) / (N * H * W)
        var = sum((x[n, c, i, j] - mean) ** 2 for n, i, j in np.ndindex(N, H, W)) / (N * H * W)
        for n, i, j in np.ndindex(N, H, W):
            y[n, c, i, j] = weight[c] * (x[n, c, i, j] - mean) / (var + 1e-5) ** 0.5 + bias[c]
    return y


# %% [markdown]
# ## Vectorised, and the gradient
#
# With r = 1 / sqrt(var + eps) and g = dL/dy * weight: x acts directly; through the mean, dmean/dx =
# 1 / m; through the variance, dvar/dx = 2 (x - mean) / m, dr/dvar = -r^3 / 2. Together
#
#     dL/dx = r (g - mean(g) - xhat mean(g xhat))
#
# So dL/dx has mean 0 and no part along xhat: it never asks for another mean or scale of x, as both
# are removed anyway. *Group norm* is the same over other numbers: some channels of one image. With
# x as (N, groups, C / groups, H, W), batch norm has C groups and a mean over axis 0, too.


# %%
def my_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, axes: tuple) -> Tensor:
    view = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    w, b = (p.data.reshape(1, groups, -1, 1, 1) for p in (weight, bias))
    z = x.data.reshape(view)
    r = 1 / np.sqrt(z.var(axes, keepdims=True) + 1e-5)
    xhat = r * (z - z.mean(axes, keepdims=True))

    def backward(grad: np.ndarray) -> tuple[np.ndarray, ...]:
        grad = grad.reshape(view)
        dw, db = (part.sum(axis=(0, 3, 4)).ravel() for part in (grad * xhat, grad))
        g = grad * w
        g = g - g.mean(axes, keepdims=True) - xhat * (g * xhat).mean(axes, keepdims=True)
        return (r * g).reshape(x.shape), dw, db

    return record("my_norm", (w * xhat + b).reshape(x.shape), (x, weight, bias), backward)


BATCH, GROUP = (0, 2, 3, 4), (2, 3, 4)  # axes
numbers = rng.normal(3, 2, (3, 4, 5, 6)), rng.normal(1, 0.3, 4), rng.normal(0, 1, 4)
x, weight, bias = (Tensor(a, requires_grad=True) for a in numbers)
theirs = F.batch_norm(x, None, None, weight, bias, True)
for mine in (batch_norm_loops(*numbers), my_norm(x, weight, bias, 4, BATCH).numpy()):
    assert np.allclose(mine, theirs.numpy(), rtol=0, atol=1e-13)  # means of 90 numbers
theirs.backward(rng.standard_normal(x.shape))
assert abs(x.grad.numpy().sum(axis=(0, 2, 3))).max() < 1e-13  # no part along the mean
mine, theirs = my_norm(x, weight, bias, 2, GROUP), F.group_norm(x, 2, weight, bias)
assert np.allclose(mine.numpy(), theirs.numpy(), rtol=0, atol=1e-13)
for how in ((4, BATCH), (2, GROUP)):
    assert minseg.gradcheck(lambda *args, how=how: my_norm(*args, *how), (x, weight, bias))
try:  # kernels/norm.cu: sums over parts of a channel, added in order; then a thread a number
    with minseg.use_kernels("emulator"):
        assert np.allclose(F.group_norm(x, 2, weight, bias).numpy(), mine.numpy(), atol=1e-13)
except RuntimeError as error:
    print(f"CUDA kernel not run: {error}")

# %% [markdown]
# ## Layer by layer
#
# Noise goes in, noise comes back as the gradient. Zeros, added to each z, record its gradient.


# %%
def net(factor: float, norm: type[nn.Module], C: int) -> nn.Sequential:
    layers = []
    for k in [1] + 19 * [C]:
        conv = nn.Conv2d(k, C, 3, padding=1)
        nn.init.normal_(conv.weight, 0, (2 * factor / (9 * k)) ** 0.5)
        nn.init.zeros_(conv.bias)
        layers += [conv, norm(C), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(C, 2, 1))


def deviations(factor: float, norm: type[nn.Module]) -> np.ndarray:
    """(2, 20): the standard deviation of each layer's z, and of dL/dz."""
    minseg.manual_seed(lesson.seed)  # the same weights each time, but for their scale
    x, signal, zeros = noise, [], []
    for layer in net(factor, norm, 32):
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            signal.append(x.numpy().std(dtype=float))
            zeros.append(Tensor(np.zeros(x.shape, np.float32), requires_grad=True))
            x = x + zeros[-1]
    x.backward(rng.standard_normal(x.shape).astype(np.float32))
    return np.array([signal, [zero.grad.numpy().std(dtype=float) for zero in zeros]])[:, :20]


noise = Tensor(rng.standard_normal((2, 1, 24, 32)).astype(np.float32))
plain, normed = (np.array([deviations(factor, norm) for factor in STARTS.values()])  # (5, 2, 20)
                 for norm in (nn.Identity, nn.BatchNorm2d))  # fmt: skip
measured = (plain[:, :, -1] / plain[:, :, 0]) ** (2 / 19)
for (name, factor), (there, back) in zip(STARTS.items(), measured, strict=True):
    print(f"{name:8} a layer: {factor:.3f} by hand, {there:.3f} forward, {1 / back:.3f} back")
    assert max(abs(there / factor - 1), abs(1 / back / factor - 1)) < 0.25  # padding takes 0.06
assert abs((normed[:, 1, 1] / normed[:, 1, -1]) ** (1 / 18) - 1.21).max() < 0.05  # "a fifth"
assert np.ptp(np.log10(normed[:, 0, 1:])) < 1.5 < 15 < np.ptp(np.log10(plain[:, 0, 1:]))

# %% [markdown]
# ## The experiment
#
# Discs, brighter than what is around them; each image has its own contrast and black level. Twenty
# layers; and batches of one, to which large images force us: batch norm then uses *this* image's
# mean and variance in training, and an average of many in `eval()`.


# %%
def scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 20, 28), masks (N, 20, 28)."""
    y, x = np.mgrid[:20, :28]
    images, masks = rng.normal(0, 0.3, (count, 20, 28)), np.zeros((count, 20, 28), np.int64)
    for mask in masks:
        for _ in range(rng.integers(1, 5)):
            cy, cx, r = rng.uniform([0, 0, 2], [20, 28, 5])
            mask[np.hypot(y - cy, x - cx) < r] = 1
    contrast, black = rng.uniform([[0.6], [-0.5]], [[1.6], [0.5]], (2, count))[..., None, None]
    return (contrast * (images + masks) + black)[:, None].astype(np.float32), masks


count, steps = (16, 3) if lesson.fast else (160, 120)
train_set, (images, truth) = scenes(count), scenes(48)
norms = {"no": nn.Identity, "batch": nn.BatchNorm2d, "group": lambda C: nn.GroupNorm(2, C)}
runs = [("no", "He / 4", 8), ("no", "He", 8), ("batch", "He / 4", 8), ("batch", "He", 8),
        ("group", "He", 8), ("batch", "He", 1), ("group", "He", 1)]  # fmt: skip
answers = {}
for kind, weights, size in runs:
    minseg.manual_seed(lesson.seed)
    model = net(STARTS[weights], norms[kind], 8)
    lesson.fit(model, *train_set, steps if size > 1 else 2 * steps, size, lr=0.003)
    answers[f"{kind} norm, {weights if size > 1 else 'batch of 1'}"] = lesson.predict(model, images)
    if (kind, size) == ("batch", 1):  # as in training: each image by its own mean
        model.train()
        scores = [model(Tensor(image[None]).to(lesson.device)).numpy() for image in images]
        answers["... but in train()"] = np.concatenate(scores).argmax(axis=1)
found = {name: (a & truth).sum() / (a | truth).sum() for name, a in answers.items()}
print(*(f"{name:22} IoU {value:.2f}" for name, value in found.items()), sep="\n")

# %%
figure = lesson.figure(14, 5)
axes = figure.subplots(1, 3)
for row, name in enumerate(STARTS):
    for axis, values, with_norm in zip(axes, plain[row], normed[row], strict=False):
        axis.semilogy(range(1, 21), values, label=name)
        axis.semilogy(range(1, 21), with_norm, ":", color="0.4", label="batch norm" * (row == 4))
axes[0].legend(fontsize=12, loc="lower left")
for axis, title in zip(axes, ("deviation of the signal z", "deviation of dL/dz"), strict=False):
    axis.set(title=title, xlabel="layer", xticks=(1, 5, 10, 15, 20))
axes[2].bar_label(axes[2].barh([*found], [*found.values()], color=BLUE), fmt=" %.2f")
axes[2].set(title="IoU", xlim=(0, 1.1), ylim=(len(found) - 0.5, -0.5))
lesson.save(figure, "10_norms_and_initialisation")

# %% [markdown]
# Too small a start lets nothing through, and nothing is learnt. He's weights carry the signal until
# training moves them; learning is slow and takes luck. Batch norm keeps it up from any start, but
# on its way back the gradient grows by a fifth a layer. With batches of one, the net in `eval()` is
# not the one trained; with group norm it is. (2 groups learn nothing at seeds 6 and 7; 8 do.)
#
# ## What goes wrong
#
# **`eval()` forgotten**: an answer depends on its batch. **`eval()` too early**: the running mean
# starts at 0, and after five batches that 0 still has 0.9^5 = 59 % of the weight. **One number**:
# an image pooled to 1x1 is its own mean. **A bias before a norm**: subtracted, never learnt.

# %%
alone, together = (F.batch_norm(part, training=True)[0].numpy() for part in (x[:1], x))
print(f"one image, alone or among three: values differ by {abs(alone - together).max():.2f}")
try:
    nn.BatchNorm2d(1)(F.adaptive_avg_pool2d(noise[:1], 1))
except ValueError as error:
    print(f"one image, pooled to a pixel: {error}")
dead, alive = found["no norm, He / 4"], found["batch norm, He / 4"]
print(f"the claim: from a dead start IoU {dead:.2f} without a norm, {alive:.2f} with batch norm")
# --seed 0 to 2, 6, 7: 0.00, 0.80 to 0.86; batches of 1: eval() 0.51 to 0.61, train() 0.67 to 0.73.
assert lesson.fast or dead + 0.4 < alive, found
assert lesson.fast or found["batch norm, batch of 1"] + 0.03 < found["... but in train()"], found

# %% [markdown]
# ## Now change this
#
# 1. `lr=0.001` and twice the steps: which starts now learn without a norm, and which do not?
# 2. Forty layers: which runs fail now? And with `x + layer(x)` around each layer, as in a ResNet?
#
# **The exercise:** `minseg exercise check batch_norm`, then `batch_norm_grad` and `group_norm`.
#
# ## Check yourself
#
# 1. Double the weights before a norm: what happens to y, and to dL/dw?
# 2. With momentum 0.1, after how many batches does the start weigh under 1 % in the running mean?
#
# ## Answers
#
# 1. y stays (except for eps); dL/dw halves. So weights that grow learn ever more slowly.
# 2. 0.9^n < 0.01: 44.
