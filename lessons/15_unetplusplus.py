# %% [markdown]
# # 15 · U-Net++ and Attention U-Net: what should a skip bring?
#
# A U-Net's skip joins features that know little of the whole to features that went all the way
# down. U-Net++ (Zhou et al. 2018) develops them on the way; Attention U-Net (Oktay et al. 2018)
# lets only some pass. **The question:** U-Net++ contains a U-Net of every depth: what does cutting
# it off cost, in IoU, and save? And where does an attention gate look?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, cat, nn, no_grad
from minseg.lesson import BLUE, ORANGE, SKY, start
from minseg.metrics import ConfusionMatrix
from minseg.models import AttentionUNet, UNetPlusPlus
from minseg.models.attention_unet import Gate
from minseg.studies.scenes import Specks, Wires
from minseg.summary import summary
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Nested skips: shapes, by hand
#
# Node X[i, j] stands at level i, of an image halved i times. It joins all nodes to its left and, by
# an up-convolution, one from below: X[i, j] = H(X[i, 0] | ... | X[i, j - 1] | Up(X[i + 1, j - 1])),
# H being two 3x3 convolutions. With 8 channels first, and 48x64 pixels:
#
#     X00  X01  X02  X03   ( 8, 48, 64)   into X01: 8 | 8, into X02: 8 | 8 | 8, into X03: 4 times 8
#     X10  X11  X12        (16, 24, 32)   into X11: 16 | 16, into X12: 16 | 16 | 16
#     X20  X21             (32, 12, 16)   into X21: 32 | 32
#     X30                  (64,  6,  8)   the first column is U-Net's way down
#
# X[0, j] needs only the nodes with i + k <= j: a U-Net of depth j, with nested skips. *Deep
# supervision* gives each of X01, X02, X03 a head and a loss. Afterwards the network can be cut off
# (*pruned*) at any of them: it does not need what is beyond. The rule, in two loops:


# %%
def grid(net: UNetPlusPlus, image: Tensor) -> dict[tuple[int, int], Tensor]:
    X = {(0, 0): net.contract[0](image)}
    for i in range(1, net.depth + 1):
        X[i, 0] = net.contract[i](F.max_pool2d(X[i - 1, 0], 2))
    for j in range(1, net.depth + 1):
        for i in range(net.depth + 1 - j):
            node = net.nodes[f"x_{i}_{j}"]
            up = F.conv_transpose2d(X[i + 1, j - 1], node.up.weight, node.up.bias, stride=2)
            X[i, j] = node.convs(cat([*(X[i, k] for k in range(j)), up], dim=1))
    return X


def small(heads: bool) -> UNetPlusPlus:
    return UNetPlusPlus(3, 1, width=8, depth=3, norm="batch", deep_supervision=heads)


net, image = small(heads=True).eval(), Tensor(rng.random((2, 1, 48, 64), dtype=np.float32))
X, out = grid(net, image), net(image)
for j in (1, 2, 3):
    scores = net.heads[f"head_{j}"](X[0, j])
    assert np.array_equal(scores.numpy(), out[f"head_{j}"].numpy())
    assert np.array_equal(scores.numpy(), net.pruned(j)(image).numpy())
out["head_1"].mean().backward()  # a head teaches the nodes that it is made of, and no others
assert net.contract[1][0].weight.grad is not None
assert net.contract[2][0].weight.grad is None

# %% [markdown]
# ## What does cutting cost?
#
# Wires one or two pixels wide before dark spots of 8 to 16. One network has three heads, and the
# mean of their losses; another has the last head alone.


# %%
def scenes(dataset: type, count: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(4 * s.image - 2, s.mask) for s in dataset(count, 2 * lesson.seed + part)]
    images, masks = map(np.stack, zip(*pairs, strict=True))
    return images.transpose(0, 3, 1, 2), masks


def score(labels: np.ndarray, masks: np.ndarray) -> np.ndarray:
    confusion = ConfusionMatrix(int(masks.max()) + 1)
    confusion.update(labels, masks)
    return confusion.iou().values


def every_head(out: dict[str, Tensor], masks: Tensor) -> Tensor:
    return sum(F.cross_entropy(out[f"head_{j}"], masks) for j in (1, 2, 3)) / 3


count, steps = (16, 4) if lesson.fast else (160, 100)
train_set, (images, masks) = scenes(Wires, count, 0), scenes(Wires, 40, 1)
supervised, single = small(heads=True), small(heads=False)
lesson.fit(supervised, *train_set, steps, loss=every_head)
lesson.fit(single, *train_set, steps)
models = {f"cut at {j}": supervised.pruned(j) for j in (1, 2, 3)} | {"one head": single}
iou, cost = {}, {}
for name, model in models.items():
    iou[name] = score(lesson.predict(model, images), masks)
    cost[name] = summary(model, (1, 48, 64)).total_multiply_adds / 1e6
    print(f"{name:9}: {cost[name]:5.1f} million multiply-adds, IoU", iou[name].round(3))
nuclei = lesson.study("deep-supervision")
assert [round(nuclei.mean(arm), 3) for arm in nuclei.scores] == [0.811, 0.813, 0.81, 0.812, 0.806]
assert [c.verdict for c in nuclei.comparisons] == 3 * ["not shown at this size"] + ["shown"]

# %% [markdown]
# On microscope images (`minseg study deep-supervision`, five seeds) nuclei have IoU 0.813 with all
# heads, 0.812 cut at 2, 0.806 cut at 1: only the last cut is *shown* to cost, far less than here
# (why was not tested). That more heads help, 0.813 against 0.811 for one, is *not shown* either.
#
# ## A gate on the skip
#
# A gate weights each place of a skip x by what the coarse features g from below ask for:
#
#     h = ReLU(theta x + phi g)    alpha = sigmoid(psi h)    x' = alpha x
#
# alpha is one number for all channels of a place. Back from u = dL/dx', by the product rule:
#
#     dL/dalpha = u . x            dL/dq = dL/dalpha alpha (1 - alpha),     q = psi h
#     dL/dh = psi dL/dq, where h > 0          dL/dx = alpha u + theta^T dL/dh    dL/dg = phi^T dL/dh
#
# So a closed gate (alpha = 0) stops the gradient, too: what does not pass is not taught.


# %%
def gate_loops(x: np.ndarray, g: np.ndarray, theta, phi, psi) -> np.ndarray:
    y = np.zeros(x.shape)
    for p in range(x.shape[1]):
        q = sum(psi[f] * max(theta[f] @ x[:, p] + phi[f] @ g[:, p], 0) for f in range(len(psi)))
        y[:, p] = x[:, p] / (1 + np.exp(-q))
    return y


def my_gate(x: Tensor, g: Tensor, theta: Tensor, phi: Tensor, psi: Tensor) -> Tensor:
    """x (C, P), g (D, P), theta (F, C), phi (F, D), psi (F,) -> (C, P), for P places."""
    h = np.maximum(theta.data @ x.data + phi.data @ g.data, 0)  # (F, P)
    alpha = 1 / (1 + np.exp(-psi.data @ h))  # (P,)

    def backward(u: np.ndarray) -> tuple[np.ndarray, ...]:
        dq = (u * x.data).sum(axis=0) * alpha * (1 - alpha)
        dh = psi.data[:, None] * dq * (h > 0)
        dx, dg = alpha * u + theta.data.T @ dh, phi.data.T @ dh
        return dx, dg, dh @ x.data.T, dh @ g.data.T, h @ dq

    return record("my_gate", alpha * x.data, (x, g, theta, phi, psi), backward)


shapes = [(3, 7), (2, 7), (4, 3), (4, 2), (4,)]
parts = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
assert np.allclose(my_gate(*parts).numpy(), gate_loops(*(part.data for part in parts)))
assert minseg.gradcheck(my_gate, parts)
# The library's theta is a 2x2 convolution of stride 2: each 2x2 of x is one place of 4 C channels.
gate = Gate(channels=3, below=6).eval()
x, g = (Tensor(rng.standard_normal(s).astype(np.float32)) for s in ((1, 3, 8, 10), (1, 6, 4, 5)))
patches = F.pixel_unshuffle(x, 2).reshape(12, 20)
weights = [part.weight.reshape(part.weight.shape[0], -1) for part in (gate.theta, gate.phi)]
with no_grad():
    nn.init.zeros_(gate.psi.bias)
    passed = my_gate(patches, g.reshape(6, 20), *weights, gate.psi.weight.reshape(3))
    alpha = F.interpolate((passed / patches)[:1].reshape(1, 1, 4, 5), (8, 10), mode="bilinear")
    gate(x, g)
assert np.allclose(alpha.numpy(), gate.coefficients.numpy(), rtol=0, atol=1e-5)

# %% [markdown]
# ## Where does it look?
#
# Specks, about one pixel in a hundred, among blurs that are as bright but do not count; Dice as the
# loss. Then surgery on the trained net: set alpha to 1 everywhere (a U-Net's skip), or to its mean.

# %%
train_set, (specks, truth) = scenes(Specks, count, 0), scenes(Specks, 40, 1)
net = AttentionUNet(2, 1, width=8, depth=2)
lesson.fit(net, *train_set, steps, loss=F.dice_loss)
found = lesson.predict(net, specks[:16])
alpha = net.gates[0].coefficients.numpy()[:, 0]  # (16, 32, 32): of level 1, its only gate
middle = truth[:16, 1::2, 1::2]
bright = F.avg_pool2d(Tensor(specks[:16]), 2).numpy()[:, 0]
blurs = (middle == 0) & (bright > np.median(bright[middle == 1]))
on = {"specks": alpha[middle == 1].mean(), "as bright": alpha[blurs].mean()}
on["all else"] = alpha[(middle == 0) & ~blurs].mean()
trained = {"learnt": score(lesson.predict(net, specks), truth)[1]}
net.gates[0].psi.weight.data[...] = 0
for how, q in {"all 1": 50, "its mean": np.log(alpha.mean() / (1 - alpha.mean()))}.items():
    net.gates[0].psi.bias.data[...] = q
    trained[how] = score(lesson.predict(net, specks), truth)[1]
print("mean alpha:", {k: round(float(v), 2) for k, v in on.items()}, end="; IoU of specks, alpha ")
print({k: round(float(v), 2) for k, v in trained.items()})

# %%
figure = lesson.figure(12, 7)
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.1])
axes = top.subplots(1, 3)
for k, (name, colour) in enumerate({"spots": SKY, "wires": ORANGE}.items(), start=1):
    *cuts, one = (scores[k] for scores in iou.values())
    axes[0].plot([*cost.values()][:3], cuts, "o-", color=colour, label=name)
    axes[0].plot(cost["one head"], one, "D", color=colour, fillstyle="none")
axes[0].set(xlabel="million multiply-adds", title="IoU, cut at depth 1, 2, 3", ylim=(0, 1))
axes[0].legend(title="(diamonds: one head alone)", loc="lower right")
for axis, values, title in ((axes[1], on, "mean alpha on"), (axes[2], trained, "IoU, if alpha is")):
    axis.bar_label(axis.barh([*values], [*values.values()], color=BLUE), fmt=" %.2f")
    axis.set(title=title, xlim=(0, 1.15), ylim=(2.5, -0.5))
n = truth[:16].sum(axis=(1, 2)).argmax()
pictures = {"image": specks[n, 0], "truth": truth[n], "found": found[n], "alpha": alpha[n]}
for axis, (name, picture) in zip(bottom.subplots(1, 4), pictures.items(), strict=True):
    axis.imshow(picture, cmap="gray" if name == "image" else "cividis")
    axis.set(title=name, xticks=[], yticks=[])
lesson.save(figure, "15_unetplusplus")

# %% [markdown]
# ## What goes wrong
#
# **Cutting where nothing was taught**: without deep supervision, X01 never had a loss of its own.
# **A gate taken for an explanation**: the 1x1 behind it can undo any factor; only compare places.

# %%
with no_grad():
    X, head = grid(single.eval(), Tensor(images).to(lesson.device)), single.heads["head_3"]
    untaught = score(head(X[0, 1]).numpy().argmax(axis=1), masks)[1:].mean()
taught = iou["cut at 1"][1:].mean()
print(f"the last head put at depth 1: IoU {untaught:.2f}; one trained there: {taught:.2f}")
saved = 1 - cost["cut at 2"] / cost["cut at 3"]
lost = (iou["cut at 3"] - iou["cut at 2"])[1:]
print(f"the claim: cut at 2, {saved:.0%} are saved, IoU of spots and wires falls by", lost.round(3))
if not lesson.fast:  # seeds 0 to 2: up to .002; .09 to .11; .70 to .72; .52 to .71; .44 to .69
    assert max(lost) < 0.06, iou
    assert iou["cut at 2"][1] - iou["cut at 1"][1] > 0.05, iou
    assert untaught < taught - 0.2, untaught
    assert on["specks"] > on["as bright"] + 0.2, on
    assert trained["learnt"] > trained["its mean"] + 0.2, trained

# %% [markdown]
# ## Now change this
#
# 1. `steps` 20 and 400: when, if ever, do heads at every depth help the last one?
# 2. Train AttentionUNet on `Wires`. Is alpha large on wires, for every seed?
#
# **The exercise:** `minseg exercise check attention_gate`: coefficients on the grid of g.
#
# ## Check yourself
#
# 1. How many up-convolutions does a U-Net++ of depth 4 have, and how many a U-Net?
# 2. A gate is exactly 0 at a place. What does the skip's convolution learn there?
#
# ## Answers
#
# 1. One for each node that is not in the first column: 4 + 3 + 2 + 1 = 10, against 4.
# 2. Nothing through x' (u is multiplied by alpha), and nothing through q: alpha (1 - alpha) is 0.
