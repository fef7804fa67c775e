# %% [markdown]
# # 35 · Reductions: many numbers into one, and a loss in one kernel
#
# A loss is a sum: over the classes of a pixel, then over all pixels. In a loop, each addition waits
# for the one before. **The question:** how do thousands of threads add, is it still the same sum,
# and what is saved if softmax, logarithm and gradient are one kernel?
#
# You need lessons 30 to 32, and a C++ compiler (else `pip install ziglang`).

# %%
from math import fsum

import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor
from minseg.emulator.profile import profile
from minseg.emulator.sanitize import sanitize
from minseg.kernels import launch
from minseg.lesson import BLUE, GREEN, ORANGE, SKY, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## A tree, by hand
#
#     a  b  c  d  e  f  g  h   ->   a+e  b+f  c+g  d+h   ->   a+c+e+g  b+d+f+h   ->   all
#
# A loop and a tree take n - 1 additions, the tree in log2 n rounds. Each addition errs by up to
# 6e-8 of its result (float32). A loop's first number goes through n - 1 of them, a tree's log2 n.


# %%
def chain(x: np.ndarray) -> np.float32:
    return np.add.accumulate(x)[-1]  # one after the other


def tree(x: np.ndarray) -> np.float32:
    n = len(x) // 2
    return tree(x[:n] + x[n:]) if n else x[0]


sizes, errors = 2 ** np.arange(8, 19 if lesson.fast else 23, 2), {chain: [], tree: []}
for n in sizes:
    losses = rng.random(n, dtype=np.float32)
    for way, found in errors.items():
        found.append(abs(float(way(losses)) / fsum(losses) - 1) + 1e-9)
    assert errors[tree][-1] < np.log2(n) * 6e-8 + 1e-9
print(f"{n} numbers: a chain errs by {errors[chain][-1]:.0e}, a tree by {errors[tree][-1]:.0e}")

# %% [markdown]
# ## Softmax and cross-entropy, and their gradient
#
# With scores x_c of one pixel, p_c = e^x_c / sum of e^x, and the loss is -log p_label. e^89 exceeds
# float32, so subtract the top score first, which leaves p as it was. And write the loss without p,
# (top - x_label) + log(sum of e^(x - top)): no quotient that may become 0. Its derivative:
#
#     dL/dx_c = e^x_c / sum - [c = label] = p_c - [c = label]


# %%
def my_cross_entropy(x: Tensor, labels: np.ndarray) -> Tensor:
    below, pixels = x.data - x.data.max(axis=0), np.arange(len(labels))
    total = np.exp(below).sum(axis=0)

    def backward(grad: np.ndarray) -> tuple[np.ndarray]:
        dx = np.exp(below) / total
        dx[labels, pixels] -= 1
        return (dx * grad / len(labels),)

    mean = (np.log(total) - below[labels, pixels]).mean()
    return record("my_cross_entropy", np.asarray(mean), (x,), backward)


x, labels = Tensor(rng.normal(0, 3, (5, 12)), requires_grad=True), rng.integers(5, size=12)
mine = my_cross_entropy(x, labels)
right = F.cross_entropy(x.transpose(0, 1), Tensor(labels))
assert np.isclose(mine.item(), right.item(), rtol=1e-14)
assert minseg.gradcheck(lambda x: my_cross_entropy(x, labels), (x,))

# %% [markdown]
# ## The kernels
#
# A block of 256 adds its numbers in shared memory, in four ways (Harris, "Optimizing parallel
# reduction in CUDA", 2007): `neighbours` first, every other thread idle; `packed`, the same with
# the busy threads side by side; `halves`, the tree from above; and `shuffles`, where a warp's lanes
# exchange registers directly. Then the loss: `softmax` and the `rest` apart, or both `fused`. Each
# thread takes a pixel, whose C scores stay in its registers.

# %%
ADD = """
// launch: grid=(ceil_div(n, B)) block=(B)  in: x  out: sums
__global__ void {name}(const float* x, float* sums, int n) {{
    __shared__ float s[B];
    int t = threadIdx.x, i = blockIdx.x * B + t;
    float v = i < n ? x[i] : 0;
    s[t] = v;
    __syncthreads();
    {loop}
    if (t == 0) sums[blockIdx.x] = s[0];
}}
"""
LOOPS = {
    "neighbours": "for (int d = 1; d < B; d *= 2) { if (t % (2 * d) == 0) s[t] += s[t + d]; WAIT }",
    "packed": "for (int j = 0, d = 1; d < B; d *= 2) { if ((j = 2*d*t) < B) s[j] += s[j+d]; WAIT }",
    "halves": "for (int d = B / 2; d > 0; d /= 2) { if (t < d) s[t] += s[t + d]; WAIT }",
    "shuffles": """for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(~0u, v, d);
    if (t % 32 == 0) s[t / 32] = v;  // a warp's sum
    WAIT
    if (t < 32) v = t < B / 32 ? s[t] : 0;
    for (int d = 4; t < 32 && d > 0; d /= 2) v += __shfl_down_sync(~0u, v, d);
    if (t == 0) s[0] = v;""",
}
LOSS = """
#define PIXEL int i = blockIdx.x * B + threadIdx.x; if (i >= P) return;
#define EACH for (int c = 0; c < C; c++)
// launch: grid=(ceil_div(P, B)) block=(B)  in: x  out: p
__global__ void softmax(const float* x, float* p, int P) {
    PIXEL float score[C], top = -INFINITY, sum = 0;
    EACH top = fmaxf(top, score[c] = x[c * P + i]);
    EACH sum += score[c] = expf(score[c] - top);
    EACH p[c * P + i] = score[c] / sum;
}
// launch: grid=(ceil_div(P, B)) block=(B)  in: p label  out: loss dx
__global__ void rest(const float* p, const long long* label, float* loss, float* dx, int P) {
    PIXEL long long own = label[i];
    loss[i] = -logf(p[own * P + i]);
    EACH dx[c * P + i] = (p[c * P + i] - (c == own)) / P;
}
// launch: grid=(ceil_div(P, B)) block=(B)  in: x label  out: loss dx
__global__ void fused(const float* x, const long long* label, float* loss, float* dx, int P) {
    PIXEL long long own = label[i];
    float score[C], top = -INFINITY, sum = 0;
    EACH top = fmaxf(top, score[c] = x[c * P + i]);
    float below = top - x[own * P + i];
    EACH sum += score[c] = expf(score[c] - top);
    loss[i] = below + logf(sum);
    EACH dx[c * P + i] = (score[c] / sum - (c == own)) / P;
}
"""
SOURCE = "#define B 256\n#define C 11\n"
for name, loop in LOOPS.items():
    SOURCE += ADD.format(name=name, loop=loop.replace("WAIT", "__syncthreads();"))
SOURCE += ADD.format(name="no_barrier", loop=LOOPS["halves"].replace("WAIT", "")) + LOSS
lesson.out.mkdir(parents=True, exist_ok=True)
(file := lesson.out / "35_reductions.cu").write_text(SOURCE, encoding="utf-8")

# %% [markdown]
# ## The experiment
#
# First the four ways to add, on the losses of one image, counted by the profiler. Then the loss.
# Bytes per pixel by hand, each array read or written once per kernel; scores of 4 bytes, labels 8:
#
#     softmax 4C in, 4C out   rest 4C + 8 in, 4C + 4 out   16C + 12    fused (4C + 8) + (4C + 4)

# %%
C, P = 11, 48 * 64 if lesson.fast else 120 * 160
x, labels = rng.normal(0, 3, (C, P)).astype(np.float32), rng.integers(C, size=P)
on_device = [Tensor(a).to(lesson.device).data for a in (x, labels, x[0] * 0, x * 0)]
launch(f"{file}:fused", *on_device, P)
loss, dx = (Tensor(a).numpy() for a in on_device[2:])
scores = Tensor(x.T.astype(float), requires_grad=True)
F.cross_entropy(scores, Tensor(labels)).backward()  # the library, in float64
assert np.abs(dx - scores.grad.numpy().T).max() < 8 * 6e-8 / P  # a few roundings of p <= 1
with minseg.use_kernels("emulator"):  # kernels/cross_entropy.cu
    official = F.cross_entropy(Tensor(x.T.copy()), Tensor(labels), reduction="none").numpy()
assert np.abs(loss - official).max() < 16 * 6e-8 * np.abs(x).max()

passes = {}  # over the banks of shared memory, a block
for way in LOOPS:
    sums = np.zeros(-(-P // 256), np.float32)
    launch(f"{file}:{way}", loss, sums, P)
    assert abs(fsum(sums) / fsum(loss) - 1) < 8 * 6e-8  # 8 levels: 256 numbers
    found = profile(f"{file}:{way}", loss, sums, P)
    passes[way] = sum(a.passes for a in found.accesses if a.shared) / found.blocks
    print(
        f"{way:10} {found.barriers} barriers; a block takes {passes[way]:3.0f} shared-memory passes"
    )
orders = [np.add.accumulate(rng.permutation(sums))[-1] for _ in range(1000)]
print(f"{len(sums)} blocks' sums, added in 1000 random orders: {len(set(orders))} results")

p, one = x * 0, x[0] * 0
kernels = {"softmax": (x, p), "rest": (p, labels, one, dx), "fused": (x, labels, one, dx)}
softmax, rest, fused = (profile(f"{file}:{name}", *arrays, P).bytes_least / P
                        for name, arrays in kernels.items())  # fmt: skip
print(f"bytes per pixel: softmax {softmax:.0f} and rest {rest:.0f}, fused {fused:.0f}")

# %%
figure = lesson.figure(15, 4.5)
axes = figure.subplots(1, 3)
for way, colour in ((chain, ORANGE), (tree, BLUE)):
    axes[0].loglog(sizes, errors[way], "o-", color=colour, label=way.__name__, base=10)
axes[0].set(title="relative error of a sum", xlabel="numbers", ylim=(5e-10, 1e-2))
axes[0].legend(loc="upper left")
axes[1].bar_label(axes[1].bar([*passes], [*passes.values()], 0.6, color=BLUE), fmt="%.0f")
axes[1].set(title="256 numbers: passes over shared memory", ylim=(0, 1.15 * max(passes.values())))
bars = axes[2].barh([1, 1, 0], [softmax, rest, fused], left=[0, softmax, 0],
                    color=[SKY, GREEN, ORANGE])  # fmt: skip
words = [f"softmax\n{softmax:.0f}", f"rest\n{rest:.0f}", f"fused\n{fused:.0f}"]
axes[2].bar_label(bars, words, label_type="center", fontsize=13)
axes[2].set(title="loss and gradient: bytes per pixel", yticks=[0, 1], yticklabels=["one", "two"])
axes[2].set_ylabel("kernels")
lesson.save(figure, "35_reductions")

# %% [markdown]
# ## What goes wrong
#
# **A level without its barrier**: a thread adds what its partner has not finished. **First come,
# first added** (atomicAdd): another last bit each run; minseg's kernels add in a fixed order. **exp
# of a raw score** overflows. **Counting in float32**: past 2^24 = 16777216, adding 1 does nothing.

# %%
race = next(f for f in sanitize(f"{file}:no_barrier", loss, sums, P) if f.kind == "racecheck")
print(f"no barrier: {race}\n")
with np.errstate(over="ignore", invalid="ignore"):
    raw = np.exp(np.float32([100, 0]))
    assert np.isnan((raw / raw.sum())[0])  # infinity over infinity
assert np.float32(2**24) + np.float32(1) == np.float32(2**24)

print(f"the claim: fusion cuts {softmax + rest:.0f} bytes per pixel to {fused:.0f}; a block adds "
      f"in {passes['shuffles']:.0f} passes instead of {passes['packed']:.0f}")  # fmt: skip
assert [softmax + rest, fused] == [16 * C + 12, 8 * C + 12]
assert passes["neighbours"] == passes["packed"] > 3 * passes["halves"] > 6 * passes["shuffles"]
assert errors[chain][-1] > 20 * errors[tree][-1]
assert 1 < len(set(orders)) < 100

# %% [markdown]
# ## Now change this
#
# 1. `__shfl_xor_sync` instead of `down`: which lanes have the sum in the end?
# 2. Let each thread first add four numbers of x: what happens to the passes per number?
# 3. C = 150 classes, as in ADE20K: what does a GPU do with 150 registers of scores per thread?
#
# **The exercises:** `cross_entropy` on arrays, and `block_reduction`, the tree as a kernel.
#
# ## Check yourself
#
# 1. `packed` keeps fewer warps busy than `neighbours`. Why does it not need fewer passes?
# 2. Why can the loss of `rest` become infinite, while that of `fused` stays finite?
#
# ## Answers
#
# 1. At level d, `neighbours` spreads its busy threads over 8 warps: 8 requests of one pass each.
#    `packed` makes fewer requests, but their words share banks: 8 passes again, 150 in all.
# 2. p of an improbable label is rounded to 0, whose logarithm is -inf. top - x is just a number.
