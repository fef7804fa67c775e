# %% [markdown]
# # 38 · The roofline: what bounds a U-Net step
#
# By its data sheet, an H100 does 67 * 10^12 operations per second. A network seldom comes near,
# however good its kernels are: before a number can be used, it has to arrive. **The question:**
# which layers of a U-Net wait for arithmetic and which for memory, and what would change that?
#
# You need lessons 31 and 33, and a C++ compiler (else `pip install ziglang`).

# %%
from typing import NamedTuple

import numpy as np

from minseg import Tensor, models, nn, no_grad
from minseg.compare.floors import best, measure, on_cpu
from minseg.emulator.profile import profile
from minseg.lesson import AMBER, BLUE, GREEN, ORANGE, SKY, start

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## Operations and bytes, by hand
#
# A layer does F operations and moves B bytes; its **arithmetic intensity** is I = F / B. A machine
# with P operations and M bytes per second needs at least max(F / P, B / M), so it does at most
# min(P, I M) operations per second. Plotted over I, that is a slope and a flat roof, which meet at
# the **ridge**, I = P / M (Williams, Waterman, Patterson 2009). Left of the ridge, a layer is
# **memory-bound**. By data sheets:
#
#     GPU          GB/s    float32 TFLOP/s, ridge    bfloat16 TFLOP/s (dense), ridge
#     T4            320      8.1,   25
#     A100 SXM     2039     19.5,   10                312,  153
#     H100 SXM     3350     67,     20                989,  295
#
# For L pixels, with each number moved once, in float32:
#
#     3x3, C -> O    F = 18 C O L    B = 4 (C L + O L + 9 C O)    I = 2.25 C for O = C, many pixels
#     ReLU, C        F = C L         B = 4 (C L + C L)            I = 1/8, in any network
#
# The 3x3 passes the H100's float32 ridge at C = 9; its bfloat16 ridge, with half the bytes, at
# C = 66. A ReLU never does. Loops that count both:


# %%
def conv_loops(C: int, O: int, H: int, W: int) -> tuple[int, int]:
    """Of a 3x3 on padded x: how many operations, how many different numbers touched."""
    operations, touched = 0, set()
    for o, r, q, c, i, j in np.ndindex(O, H, W, C, 3, 3):
        operations += 2  # y[o, r, q] += w[o, c, i, j] * x[c, r + i, q + j]
        touched |= {("y", o, r, q), ("w", o, c, i, j), ("x", c, r + i, q + j)}
    return operations, len(touched)


assert conv_loops(3, 5, 4, 6) == (18 * 3 * 5 * 24, 3 * (4 + 2) * (6 + 2) + 5 * 24 + 9 * 3 * 5)

# %% [markdown]
# ## A whole network, a whole step
#
# One small image shows the shapes: maps grow with the pixels, weights do not. In a training step
#
#     convolution    y, dx and dw are three such products: 3 F, 3 B
#     batch norm     maps: x, x, y forward; x, g, x, g, dx backward: 8, where one pass has 2
#     ReLU           x, y forward; y, g, dx backward: 5, where one pass has 2 (dropout, too)
#     max-pool       x, y, places; g, places, dx: with x = 4 y, 12 y, where one pass has 5 y
#     AdamW          weight, m, v read and written, gradient read: 7 numbers per weight
#
# (Concatenating a skip is taken to be free: both parts can be written into place.)


# %%
class Layer(NamedTuple):
    kind: str
    operations: float  # forward
    maps: int  # numbers moved that grow with the image
    weights: int  # and that do not
    call: tuple = ()  # the module and what it was called on


STEP = {"Conv2d": (3, 3), "ConvTranspose2d": (3, 3), "BatchNorm2d": (5, 4), "ReLU": (2, 2.5),
        "Dropout": (2, 2.5), "MaxPool2d": (4 / 3, 2.4), "AdamW": (1, 1)}  # fmt: skip


def layers(width: int, image: np.ndarray) -> list[Layer]:
    """Those of minseg's U-Net on this image, and the optimizer."""
    model, rows = models.build("unet", num_classes=7, width=width, norm="batch").eval(), []

    def note(module: nn.Module, inputs: tuple[Tensor], y: Tensor) -> None:
        kind, w, x = type(module).__name__, getattr(module, "weight", None), inputs[0]
        operations = {"BatchNorm2d": 2, "MaxPool2d": 3}.get(kind, 1) * y.numel()
        if kind.startswith("Conv"):
            meets = x if kind == "ConvTranspose2d" else y  # each element w.numel() / w.shape[0]
            operations = 2 * meets.numel() * w.numel() / w.shape[0]
        weights = 0 if w is None else w.numel()
        rows.append(Layer(kind, operations, x.numel() + y.numel(), weights, (module, x)))

    hooks = [m.register_forward_hook(note) for m in model.modules() if not m._modules]
    with no_grad():
        model(Tensor(image))
    for hook in hooks:
        hook.remove()
    return [*rows, Layer("AdamW", 0, 0, 7 * sum(p.numel() for p in model.parameters()))]


def floor(network: list[Layer], pixels: float, ridge: float, size: int = 4) -> np.ndarray:
    """Each layer's least time in a step, by arithmetic, F / P, and by memory, B / M; times M."""
    scale, step = pixels / 16**2, [STEP[layer.kind] for layer in network]
    return np.array([(of * a.operations * scale / ridge, size * maps * (a.maps * scale + a.weights))
                     for a, (of, maps) in zip(network, step, strict=True)])  # fmt: skip


def waiting(parts: np.ndarray) -> float:  # the share of a step's least time, for memory
    return parts[parts[:, 1] > parts[:, 0], 1].sum() / parts.max(axis=1).sum()


small = np.zeros((1, 3, 16, 16), np.float32)
unet, pixels = layers(64, small), 8 * 512**2
gpus = {"T4": (8.1 / 0.32, 4), "A100": (19.5 / 2.039, 4), "H100": (67 / 3.35, 4),
        "H100, bfloat16": (989 / 3.35, 2)}  # fmt: skip
shares = {name: waiting(floor(unet, pixels, *gpu)) for name, gpu in gpus.items()}

# %% [markdown]
# ## What a larger batch, more channels, fusion would change
#
# On the H100's tensor cores, two bytes per number. *Fused*: the pass that normalises applies the
# ReLU as well, so no map is moved for it. With few pixels, most of what is moved are weights.

# %%
fused = [layer for layer in unet if layer.kind != "ReLU"]
changes = {"the same, fused": (fused, pixels), "a quarter as wide": (layers(16, small), pixels),
           "8 images of 64x64": (unet, 8 * 64**2), "1 image of 64x64": (unet, 64**2)}  # fmt: skip
cores = gpus["H100, bfloat16"]
shares.update({name: waiting(floor(*what, *cores)) for name, what in changes.items()})
for name, share in shares.items():
    print(f"{name:23} {share:4.0%} of the least time of a step waits for memory")

# %% [markdown]
# ## The kernels, counted
#
# kernels/conv2d.cu touches just the bytes of the formula. kernels/bias_activation.cu adds a bias
# and applies the ReLU in one pass; two passes would each read and write the map.

# %%
C, O, H, W = 16, 32, 16, 32
x, y = rng.random((1, C, H, W), np.float32), np.empty((1, O, H, W), np.float32)
w, b = rng.random((O, C, 3, 3), np.float32), rng.random(C, np.float32)
sizes = (1, C, H, W, O, H, W, 3, 3, 1, 1, 1, 1, 1, 1, 1)  # 3x3, stride, padding, dilation, groups 1
conv = profile("conv2d_forward", x, w, None, y, *sizes)
assert conv.bytes_least == 4 * (C * H * W + O * H * W + 9 * C * O)
for activation in (0, 1):  # none, ReLU: the second operation costs no byte
    one = profile("bias_activation_forward", x, b, np.empty_like(x), 1, C, H * W, activation, 1)
    assert one.bytes_least == 4 * (2 * C * H * W + C)

# %% [markdown]
# ## This machine, measured
#
# A CPU has a roofline, too: first its bandwidth and its peak, then each layer of a small U-Net by
# itself, forward. (Times vary from run to run. A point above the slope found its map in the cache;
# if one is above the roof, the machine was busy while the roof was measured.)

# %%
machine = measure("cpu")
bandwidth, peak = machine.bandwidth, machine.operations["float32"]
image = rng.random((2, 3, 48, 64) if lesson.fast else (4, 3, 96, 128), np.float32)
timed = []
with no_grad():
    for layer in layers(16, image):
        if layer.kind not in ("Dropout", "AdamW"):  # dropout does nothing here
            seconds = best(on_cpu, lambda layer=layer: layer.call[0](layer.call[1]), 0.03)
            timed.append((layer.kind, layer.operations, 4 * (layer.maps + layer.weights), seconds))
table = np.array([row[1:] for row in timed])
convolutions = [row[0].startswith("Conv") for row in timed]
of_operations, _, of_time = 1 - table[convolutions].sum(axis=0) / table.sum(axis=0)
print(f"here: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s; all but the convolutions are "
      f"{of_operations:.1%} of the operations and {of_time:.0%} of the time")  # fmt: skip

colours = {"Conv2d": BLUE, "ConvTranspose2d": SKY, "BatchNorm2d": ORANGE, "ReLU": AMBER,
           "MaxPool2d": GREEN}  # fmt: skip
figure = lesson.figure(14, 8.2)
sheet, here, bars = figure.subplot_mosaic("AB;CC", height_ratios=[1.5, 1]).values()
intensity = np.logspace(-1.2, 3.5, 200)
for name, flops in (("bfloat16", 989), ("float32", 67)):
    sheet.loglog(intensity, np.minimum(3.35 * intensity, flops), color="0.4")
    sheet.text(3500, 1.3 * flops, name, ha="right", va="bottom", fontsize=12)
here.loglog(intensity, np.minimum(bandwidth * intensity, peak) / 1e9, color="0.4")
for kind, colour in colours.items():
    style = {"ls": "", "marker": "o", "ms": 8, "color": colour, "alpha": 0.8}
    for size, flops in ((4, 67), (2, 989)):
        f, b = floor([layer for layer in unet if layer.kind == kind], pixels, 1, size).T
        sheet.plot(f / b, np.minimum(3.35 * f / b, flops), **style)
    f, b, t = table[[row[0] == kind for row in timed]].T
    here.plot(f / b, f / t / 1e9, label=kind, **style)
sheet.set(xlabel="operations per byte", ylabel="TFLOP/s", ylim=(0.1, 4000))
sheet.set_title("a U-Net's step on an H100: upper bounds")
here.set(xlabel="operations per byte", ylabel="GFLOP/s", title="a U-Net, forward, measured here")
here.legend(loc="lower right", fontsize=11)
percent = [100 * share for share in shares.values()]
bars.bar_label(bars.barh([*shares], percent, color=4 * [SKY] + 4 * [BLUE]), fmt=" %.0f %%")
bars.set(xlim=(0, 105), xlabel="% of a step's least time that waits for memory")
bars.invert_yaxis()
lesson.save(figure, "38_roofline")

# %% [markdown]
# ## What goes wrong
#
# **Operations taken for time**: a depthwise 3x3 and a 1x1 need an eighth of a 3x3's operations, but
# move more maps. **A peak with sparsity**, twice the dense one, which no ordinary network reaches.
# **A bound taken for a time**: no kernel is faster, many are slower.

# %%
C = 256
full = [Layer("Conv2d", 18 * C * C * 256, 2 * C * 256, 9 * C * C)]  # on the 256 pixels of `small`
apart = [Layer("Conv2d", 18 * C * 256, 2 * C * 256, 9 * C),
         Layer("Conv2d", 2 * C * C * 256, 2 * C * 256, C * C)]  # fmt: skip
fewer = full[0].operations / sum(layer.operations for layer in apart)
sooner = np.divide(*(floor(way, pixels, *cores).max(axis=1).sum() for way in (full, apart)))
print(f"depthwise and 1x1: {fewer:.1f} times fewer operations, {sooner:.1f} times less time")
assert fewer > 8
assert 1.5 < sooner < 2.5

# %%
print(f"the claim: on an H100 {shares['H100']:.0%} of a step waits for memory in float32, but "
      f"{shares['H100, bfloat16']:.0%} on its tensor cores")  # fmt: skip
assert shares["H100"] < 0.2 < 0.5 < shares["H100, bfloat16"] < shares["8 images of 64x64"]
assert shares["the same, fused"] < shares["H100, bfloat16"] < shares["a quarter as wide"]
assert shares["1 image of 64x64"] > 0.9
if not lesson.fast:
    assert of_time > 5 * of_operations, (of_time, of_operations)

# %% [markdown]
# ## Now change this
#
# 1. `layers(128, small)`, twice the width: which layers are still left of the ridge in bfloat16?
# 2. Leave batch norm out as well, as the paper does. What would that gain, at the least?
#
# **The exercise:** `minseg exercise check max_pool2d_kernel`, a memory-bound kernel. Read x once.
#
# ## Check yourself
#
# 1. A new GPU does twice the operations with the same memory. Which layers gain, and how much?
# 2. Why does a batch of 8 help at 64x64, but hardly at 512x512?
#
# ## Answers
#
# 1. Beyond twice the old ridge, a factor of 2; between one and two ridges, less; left of it, none.
# 2. At 64x64 the bottom has 4x4 pixels for 9 * 1024^2 weights, moved anyway; 8 images share them.
