# %% [markdown]
# # 36 · Gather or scatter: one sum, two kernels
#
# You need lessons 05, 31 and 35, and a C++ compiler (else `pip install ziglang`). In the backward
# pass of an upsampling, many outputs contribute a share to one input. Each output's thread adds its
# shares to the inputs (*scatter*: many add to one place, hence `atomicAdd`), or each input's thread
# fetches its shares (*gather*). **The question:** both compute the same sum: why do two runs of the
# scatter differ, how far does a last bit spread, and what does the gather cost?

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, kernels, nn
from minseg.data import Shapes
from minseg.emulator import instrumented
from minseg.emulator.profile import profile
from minseg.emulator.sanitize import sanitize
from minseg.lesson import BLUE, ORANGE, start
from minseg.tensor import record

lesson = start()
rng, chance = np.random.default_rng(lesson.seed), np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## Rows and columns, by hand
#
# Bilinear upsampling by s is y = R x, along one axis and then along the other (lesson 05). So its
# gradient is dx = R^T dy, for each axis. With n inputs, R is (s n, n); for s = 2, n = 3:
#
#     R =  1                 scatter: a thread has a *row*. Output 1 adds 3/4 g to input 0,
#         3/4 1/4                     1/4 g to input 1.
#         1/4 3/4            gather: a thread has a *column*. Input 1 fetches the g of outputs
#             3/4 1/4                 1, 2, 3, 4, and adds up 1/4, 3/4, 3/4, 1/4 of them.
#             1/4 3/4
#                  1         2 shares per output, 2 s per input: 2 s n products either way.
#
# Output o lies at p = (o + 1/2) / s - 1/2, clamped to the inputs, and took 1 - |p - i| of input i.


# %%
def share(o: int, i: int, n: int, s: int) -> float:
    return max(1 - abs(min(max((o + 0.5) / s - 0.5, 0), n - 1) - i), 0)


def gather_loops(g: np.ndarray, s: int) -> np.ndarray:
    dx = np.zeros(len(g) // s)
    for i in range(len(dx)):
        for o in range(max(s * i - s // 2, 0), min(s * i + s + s // 2, len(g))):
            dx[i] += share(o, i, len(dx), s) * g[o]
    return dx


# %% [markdown]
# ## Vectorised, and on the tape
#
# With g (A, s n, B), any axis is the middle one. The gather is a matrix product. The scatter takes
# the shares one by one, here in an order drawn at random; on a GPU nobody chooses the order.


# %%
def matrix(n: int, s: int) -> np.ndarray:
    return np.array([[share(o, i, n, s) for i in range(n)] for o in range(s * n)], np.float32)


def gather(g: np.ndarray, R: np.ndarray) -> np.ndarray:
    return R.T @ g


def scatter(g: np.ndarray, R: np.ndarray) -> np.ndarray:
    dx = np.zeros((len(g), R.shape[1], g.shape[2]), g.dtype)
    for o, i in chance.permutation(np.argwhere(R)):
        dx[:, i] += R[o, i] * g[:, o]
    return dx


def my_upsample(x: Tensor, s: int, back=gather) -> Tensor:
    (N, C, H, W), rows, columns = x.shape, matrix(x.shape[2], s), matrix(x.shape[3], s)

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        half = back(g.reshape(N * C, H * s, W * s), rows)
        return (back(half.reshape(N * C * H, W * s, 1), columns).reshape(x.shape),)

    return record("my_upsample", rows @ x.data @ columns.T, (x,), backward)


x, g = Tensor(rng.standard_normal((2, 3, 4, 5)), True), rng.standard_normal((2, 3, 16, 20))
right = Tensor(x.data, requires_grad=True)
F.interpolate(right, scale_factor=4, mode="bilinear").backward(g)
for back in (gather, scatter):
    assert minseg.gradcheck(lambda x, back=back: my_upsample(x, 4, back), (x,))
    x.grad = None
    my_upsample(x, 4, back).backward(g)  # its shares are eighths: exact
    assert np.allclose(x.grad.numpy(), right.grad.numpy(), rtol=0, atol=1e-13)
assert np.allclose(gather_loops(g[0, 0, :, 0], 4), matrix(4, 4).T @ g[0, 0, :, 0], atol=1e-14)

# %% [markdown]
# ## The kernels
#
# `atomicAdd` reads, adds and writes as one step, so no share is lost; the order of the steps is up
# to chance. Float sums depend on it: (1 + 2^-24) + 2^-24 = 1, 1 + (2^-24 + 2^-24) > 1.

# %%
SOURCE = """\
#define SHARE(o, i) fmaxf(1 - fabsf(fminf(fmaxf((o + 0.5f) / s - 0.5f, 0), n - 1) - i), 0)
#define THREAD(m) int e = blockIdx.x * 256 + threadIdx.x; \\
    int b = e % B, k = e / B % (m), a = e / B / (m); if (a >= A) return;
// launch: grid=(ceil_div(A * n * s * B, 256)) block=(256)  in: g  inout: dx
__global__ void scatter(const float* g, float* dx, int A, int n, int B, int s) {
    THREAD(n * s) float mine = g[e];  // of output k
    int first = max(2 * k + 1 - s, 0) / (2 * s);
    for (int i = first; i < min(first + 2, n); i++)
        atomicAdd(&dx[(a * n + i) * B + b], SHARE(k, i) * mine);
}
// launch: grid=(ceil_div(A * n * B, 256)) block=(256)  in: g  out: dx
__global__ void gather(const float* g, float* dx, int A, int n, int B, int s) {
    THREAD(n) float sum = 0;  // of input k
    for (int o = max(s * k - s / 2, 0); o < min(s * k + s + s / 2, n * s); o++)
        sum += SHARE(o, k) * g[(a * n * s + o) * B + b];
    dx[e] = sum;
}
// launch: grid=(ceil_div(n, 256)) block=(256)  in: x places  inout: y
__global__ void unpool(const float* x, const long long* places, float* y, int n) {
    if (int e = blockIdx.x * 256 + threadIdx.x; e < n) y[places[e]] = x[e];
}
"""
lesson.out.mkdir(parents=True, exist_ok=True)
(file := lesson.out / "36_gather_or_scatter.cu").write_text(SOURCE, encoding="utf-8")

# %% [markdown]
# ## Experiment 1: bits and bytes
#
# Threads run in order, reversed, shuffled; a GPU has no fixed order. Then the profiler counts
# bytes: along columns, where neighbouring lanes have neighbouring places (B = 64), and rows, B = 1.


# %%
def in_all_orders(kernel: str, *arguments) -> list[np.ndarray]:
    launch = kernels.check(f"{file}:{kernel}", *arguments)
    runs = (instrumented.run(launch, order, seconds=60) for order in instrumented.ORDERS)
    return [next(iter(run.arrays.values())).ravel() for run in runs]


side, scales, differ, asked = 64, (2, 8) if lesson.fast else (2, 4, 8, 16), {}, {}
for s in scales:
    for along, A, B in (("columns", 1, side), ("rows", side, 1)):
        g = rng.standard_normal((A, side * s, B), np.float32)
        launch, R = (g, np.zeros((A, side, B), np.float32), A, side, B, s), matrix(side, s)
        bound = 4 * s * 2**-24 * (R.T @ abs(g)).ravel()  # 2 s products, 2 s sums
        for kernel in ("scatter", "gather"):
            runs, name = in_all_orders(kernel, *launch), f"{kernel}, {along}"
            assert (abs(runs - (R.T.astype(float) @ g).ravel()) <= bound).all()
            others = min((found != runs[0]).mean() for found in runs[1:])
            moved = profile(f"{file}:{kernel}", *launch).bytes_moved / g.size
            differ.setdefault(name, []).append(others)
            asked.setdefault(name, []).append(moved)
            print(f"x{s} {name:16}: order changes {others:4.0%}, {moved:4.1f} bytes per output")

# %% [markdown]
# Along columns the gather is cheaper: it reads each g twice, where the scatter reads it once and
# makes two atomic additions. Along rows its lanes read s places apart, each from its own sector,
# and a GPU's cache has to help: the next reads need the same sectors again.
#
# ## Experiment 2: how far does a last bit spread?
#
# A small network with an upsampling by 4 is trained twice from the same seed: with the gather, then
# with scatters whose shares arrive in random order. How far apart are the weights of the two runs?


# %%
class Up(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        past.append(np.concatenate([p.numpy().ravel() for p in model.parameters()]))
        return my_upsample(x.to("cpu"), 4, back).to(x.device)


scenes, steps = list(Shapes(40, (32, 32), seed=lesson.seed)), 8 if lesson.fast else 150
images = np.stack([scene.image.transpose(2, 0, 1) for scene in scenes])
masks, apart = np.stack([scene.mask > 0 for scene in scenes]).astype(np.int64), {}
for back in (gather, scatter):
    answers, pasts = [], []
    for _ in range(2):
        minseg.manual_seed(lesson.seed)
        layers, past = [], []
        for c, step in ((3, 2), (8, 2), (8, 1), (8, 1)):
            layers += [nn.Conv2d(c, 8, 3, step, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        model = nn.Sequential(*layers[:9], Up(), *layers[9:], nn.Conv2d(8, 2, 1))
        lesson.fit(model, images, masks, steps, lr=0.02)
        answers.append(lesson.predict(model, images))
        pasts.append(past[: steps + 1])
    apart[back] = np.linalg.norm(np.subtract(*pasts), axis=1) / np.linalg.norm(pasts[0], axis=1)
    print(f"{back.__name__}: {(answers[0] != answers[1]).mean():.1%} of the predictions differ")

figure = lesson.figure(15, 4.8)
axes, ticks = figure.subplots(1, 3), [f"x{s}" for s in scales]
for axis, drawn in zip(axes, (differ, asked), strict=False):
    for (name, values), style in zip(drawn.items(), ("o-", "D-", "s--", "^--"), strict=True):
        axis.plot(ticks, values, style, color=BLUE if "gather" in name else ORANGE, label=name)
axes[0].set(title="share of sums that the order changes", ylim=(-0.05, 1.7), yticks=(0, 0.5, 1))
axes[1].set(title="bytes requested per output", ylim=(0, 95))
axes[2].semilogy(np.maximum(apart[scatter], 1e-11), color=ORANGE, label="scatter")
axes[2].semilogy(np.maximum(apart[gather], 1e-11), "--", color=BLUE, label="gather: exactly 0")
axes[2].set(title="relative distance of two runs' weights", xlabel="step", ylim=(5e-12, 40))
for axis in axes:
    axis.legend(fontsize=12, loc="upper left")
lesson.save(figure, "36_gather_or_scatter")

# %% [markdown]
# The library gathers where it knows which outputs contribute (interpolate.cu, pool.cu). Where the
# data decide, it first fixes an order: the shares that grid_sample.cu lists are sorted;
# unpool.cu finds the last by `atomicMax`.
#
# ## What goes wrong
#
# **A plain store where two meet**: windows of 3 at stride 2 overlap, unpooling writes two values to
# one place, and which one stays is chance. **Additions that are not atomic** lose shares.

# %%
_, places = F.max_pool2d(Tensor(rng.standard_normal((1, 1, 33, 33))), 3, 2, return_indices=True)
v, y = rng.standard_normal(places.shape).astype(np.float32), np.zeros((33, 33), np.float32)
print(sanitize(f"{file}:unpool", v, places.numpy(), y, v.size)[0])
stored = in_all_orders("unpool", v, places.numpy(), y, v.size)
with minseg.use_kernels("emulator"):
    last = F.max_unpool2d(Tensor(v), places, 3, 2).numpy().ravel()
assert [(last == found).all() for found in stored[:2]] == [True, False]  # in order: the last wins
least = min(differ["scatter, columns"] + differ["scatter, rows"])
print(f"the claim: {least:.0%} of sums differ, and finally the weights by {apart[scatter][-1]:.0%}")
assert least > 0.2 > max([*differ["gather, columns"], *differ["gather, rows"], *apart[gather]]) == 0
assert apart[scatter][-1] > (0 if lesson.fast else 0.02)  # three seeds: 0.11 to 0.3
assert asked["gather, columns"] < asked["scatter, columns"]

# %% [markdown]
# ## Now change this
#
# 1. Sum integers, in units of 2^-32: the same bits? And what happens to gradients of 1e-11?
# 2. Upsampling by "nearest": one share per output, s per input. Which kernel is simpler?
#
# **The exercise:** `minseg exercise check bilinear_grad`, then `max_unpool2d`: scatter or gather?
#
# ## Check yourself
#
# 1. The gradient of max_pool2d is a sum, too. When does its scatter need no atomics?
# 2. `atomicMax` on floats: does the order matter?
#
# ## Answers
#
# 1. If kernel <= stride: no two windows share a pixel, nothing is added, and plain stores do.
# 2. No: the larger of two is one of them, nothing is rounded.
