# %% [markdown]
# # 37 · Tensor cores: sixteen times the arithmetic, on rounded numbers
#
# Since 2017 GPUs have **tensor cores**, which multiply small matrices in one step. By its data
# sheet, an A100 SXM does 19.5 TFLOP/s on float32, but 312 on these; an H100 SXM 67 and 989. The
# price: operands are rounded to 11 significant bits, or 8. **The question:** how large is the error
# of rounded operands, where does it not matter, and where does it stop a network from learning?
#
# You need lesson 33, and a C++ compiler (else `pip install ziglang`).

# %%
import numpy as np

import minseg
import minseg.functional as F
from minseg import Tensor, models
from minseg.data import Street
from minseg.kernels import kernels_folder, launch
from minseg.lesson import BLUE, GREEN, ORANGE, PINK, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## Four formats, by hand
#
# A float is sign, exponent, fraction: 1.fraction * 2^exponent. With f bits of fraction, numbers
# near 1 lie 2^-f apart, so rounding to the nearest has a relative error of at most u = 2^-(f+1).
#
#                 exponent  fraction     u     largest       least normal   least number
#     float32         8        23      2^-24   3.4e38           2^-126         2^-149
#     TF32            8        10      2^-11   3.4e38           2^-126
#     bfloat16        8         7      2^-8    3.4e38           2^-126         2^-133
#     half            5        10      2^-11   65504            2^-14          2^-24
#
# TF32 is a float32 of which a tensor core reads 19 bits. NumPy has half; for the others, add half
# of the last bit that is kept, and cut off the rest.


# %%
def shorten(x: np.ndarray, f: int) -> np.ndarray:  # to f bits of fraction
    bits, last = x.astype(np.float32).view(np.uint32), 1 << (23 - f)
    return ((bits + np.uint32(last // 2)) & ~np.uint32(last - 1)).view(np.float32).astype(x.dtype)


FORMATS = {"TF32": (lambda x: shorten(x, 10), 2**-11),
           "half": (lambda x: x.astype(np.float16).astype(x.dtype), 2**-11),
           "bfloat16": (lambda x: shorten(x, 7), 2**-8)}  # fmt: skip
x = rng.uniform(1, 100, 100_000).astype(np.float32)
for rounded, u in FORMATS.values():
    assert 0.9 * u < (np.abs(rounded(x) - x) / x).max() <= u

# %% [markdown]
# ## A warp multiplies: who holds what
#
# The matrices lie in the registers of a warp. For `mma.m16n8k8`, A is 16 x 8: 128 elements, 4 for
# each of 32 lanes; B (8 x 8) has 2 each, C (16 x 8) 4 each. The manual of PTX, NVIDIA's assembly
# language, says which ones; with g = lane / 4, t = lane % 4:
#
#     A[g][t]  A[g+8][t]  A[g][t+4]  A[g+8][t+4]       B[t][g]  B[t+4][g]
#     C[g][2t]  C[g][2t+1]  C[g+8][2t]  C[g+8][2t+1]
#
# That instruction does 1024 FMAs. WMMA is a library on top, here 16 x 16 x 16 on half: a lane has 8
# elements of C and 16 each of A and B (each is held twice), in an order that is not specified.
# (With Hopper's wgmma, 128 threads cooperate.)

# %%
SOURCE = """\
#include "COMMON"
#include <mma.h>
using namespace nvcuda;

// launch: grid=(1) block=(32)  in: A B  out: C holder
__global__ void one_mma(const float* A, const float* B, float* C, int* holder) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned a[4], b[2];
    float c[4] = {};
    for (int i = 0; i < 4; i++) a[i] = to_tf32(A[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) b[i] = to_tf32(B[(t + 4 * i) * 8 + g]);
    mma_m16n8k8_tf32(c, a, b);
    for (int i = 0; i < 4; i++) C[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
    for (int i = 0; i < 4; i++) holder[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = threadIdx.x;
}

// launch: grid=(1) block=(32)  in: A B  out: C
template <typename SUM>
__global__ void warp_product(const half* A, const half* B, SUM* C, int K) {
    wmma::fragment<wmma::accumulator, 16, 16, 16, SUM> sum;
    wmma::fill_fragment(sum, SUM(0.0f));
    for (int k = 0; k < K; k += 16) {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> b;
        wmma::load_matrix_sync(a, A + k, K);
        wmma::load_matrix_sync(b, B + k * 16, 16);
        wmma::mma_sync(sum, a, b, sum);
    }
    wmma::store_matrix_sync(C, sum, 16, wmma::mem_row_major);
}
"""


def product_loops(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    C, A, B = np.zeros((len(A), B.shape[1]), np.float32), shorten(A, 10), shorten(B, 10)
    for m, n, k in np.ndindex(*C.shape, len(B)):
        C[m, n] += A[m, k] * B[k, n]
    return C


lesson.out.mkdir(parents=True, exist_ok=True)
file = lesson.out / "37_tensor_cores.cu"
file.write_text(SOURCE.replace("COMMON", str(kernels_folder() / "common.cuh")), encoding="utf-8")
A, B = rng.standard_normal((16, 8), np.float32), rng.standard_normal((8, 8), np.float32)
C, holder = np.empty((16, 8), np.float32), np.empty((16, 8), np.int32)
launch(f"{file}:one_mma", A, B, C, holder)
assert np.allclose(C, product_loops(A, B), rtol=0, atol=1e-5)  # sums of 8, in another order

# %% [markdown]
# ## The error, derived and measured
#
# Each operand is multiplied by 1 + e, |e| <= u, so a product errs by at most (2 u + u^2) |a b|. The
# sum of K products in float32 errs by at most K 2^-24 of the sum of magnitudes S = sum |a b|:
#
#     |error| <= (2 u + u^2 + K 2^-24) S             summed in half instead: K 2^-11 S
#
# At K = 1024 the last terms are 2^-14 and 1/2. So only *operands* are rounded; sums are float32.

# %%
lengths = [64, 256, 1024] if lesson.fast else [64, 256, 1024, 4096]
measured, bounds = {}, {}
for K in lengths:
    A, B = rng.random((16, K), np.float32), rng.random((K, 16), np.float32)
    exact = A.astype(np.float64) @ B  # nothing is negative: S is the product itself
    products = {name: rounded(A) @ rounded(B) for name, (rounded, _) in FORMATS.items()}
    halves = A.astype(np.float16), B.astype(np.float16)
    for name, kind in (("half", "float"), ("half, summed in half", "half")):
        products[name] = np.empty((16, 16), np.float32 if kind == "float" else np.float16)
        launch(f"{file}:warp_product<{kind}>", *halves, products[name], K)
    for name, C in products.items():
        u = FORMATS[name.split(",")[0]][1]
        measured[name, K] = (np.abs(C - exact) / exact).max()
        bounds[name, K] = 2 * u + u**2 + K * (2**-11 if "in half" in name else 2**-24)
        assert measured[name, K] <= bounds[name, K]

# %% [markdown]
# ## The gradient through a staircase
#
# Rounding is a staircase, flat almost everywhere: derivative 0. From afar it is the line y = x, so
# its gradient is taken to be 1 (*straight-through*): with c = r(a) r(b), dL/da = g r(b)^T, dL/db =
# r(a)^T g. The check looks from afar: central differences, steps of 1/2, far wider than a stair.


# %%
def to_tf32(x: Tensor) -> Tensor:
    return record("to_tf32", shorten(x.data, 10), (x,), lambda g: (g,))


both = [Tensor(rng.uniform(-2, 2, s), requires_grad=True) for s in ((3, 4), (4, 5))]
bound = 5 * 10 * 4 * 2**-11  # at most 5 terms, each below 10, of at most 4 rounded numbers
assert minseg.gradcheck(lambda a, b: to_tf32(a) @ to_tf32(b), both, eps=0.5, atol=bound, rtol=0)

# %% [markdown]
# ## The experiment: gradients that are too small for half
#
# The loss is a mean over all pixels, so each pixel's gradient is divided by their number, 2 million
# for 8 images of 512x512: below half's normal numbers from the start, and what is under 2^-25 is 0.
# But the gradient is linear in the loss. **Loss scaling** multiplies the *loss* by S, so all
# gradients grow by S, and divides those of the weights by S again, in float32. In a U-Net, trained
# for some steps on street scenes, a hook at each layer records the gradients on their way back.

# %%
size, steps, n = ((32, 48), 8, 8) if lesson.fast else ((96, 128), 40, 32)
street = Street(n, size, seed=lesson.seed)
images = np.stack([s.image.transpose(2, 0, 1) for s in street]).astype(np.float32)
masks = np.stack([s.mask for s in street])
model = models.build("unet", num_classes=7, width=8, norm="batch")
lesson.fit(model, images, masks, steps)
passing: list[np.ndarray] = []


def note(g: np.ndarray) -> tuple[np.ndarray]:
    passing.append(Tensor(g).numpy().ravel())
    return (g,)


for module in model.modules():
    if not module._modules:
        module.register_forward_hook(lambda _, x, y: record("note", y.data, (y,), note))
x, target = (Tensor(part[:8]).to(lesson.device) for part in (images, masks))
F.cross_entropy(model(x), target).backward()
gradients = np.abs(np.concatenate(passing)[::8])  # every eighth is enough to count
gradients = gradients[gradients > 0]
scales = 2.0 ** np.arange(0, 33, 2)
with np.errstate(over="ignore"):
    scaled = [(gradients * np.float32(s)).astype(np.float16) for s in scales]
lost, infinite = ([100 * f(g).mean() for g in scaled] for f in (np.logical_not, np.isinf))
in_bfloat16 = 100 * (shorten(gradients, 7) == 0).mean()

figure = lesson.figure(13.5, 5.4)
left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.5, 1.5])
left.imshow(holder, vmax=40, aspect="auto")
for (row, column), lane in np.ndenumerate(holder):
    left.text(column, row, lane, ha="center", va="center", color="w" if lane < 22 else "k", size=9)
left.set(xticks=[], yticks=[], title="C: lane of each element")
for name, colour in zip(products, (GREEN, BLUE, PINK, ORANGE), strict=True):
    errors = [measured[name, K] for K in lengths]
    middle.loglog(lengths, errors, "o--" if name == "half" else "o-", color=colour, label=name)
    middle.loglog(lengths, [bounds[name, K] for K in lengths], color=colour, lw=1, ls=":")
middle.set(xlabel="K, products added (dotted: bound)", ylabel="relative error", ylim=(5e-6, 90))
middle.legend(loc="upper left", fontsize=11)
for shares, colour, name in ((lost, BLUE, "0"), (infinite, ORANGE, "infinite")):
    right.semilogx(scales, shares, "o-", base=2, color=colour, label=f"become {name} in half")
right.plot(scales, [in_bfloat16] * len(scales), "--", color=PINK, label="become 0 in bfloat16")
right.set(xlabel="loss scale S", ylabel="% of a U-Net's gradients", ylim=(-0.5, 1.5 * lost[0]))
right.legend(loc="upper center", fontsize=11)
lesson.save(figure, "37_tensor_cores")

# %% [markdown]
# ## What goes wrong
#
# **Weights in half**: an update smaller than u of a weight is lost, so keep weights in float32, and
# round a copy for use. **A scale too large**: one infinity, and all weights are NaN. So skip a step
# with an infinity and halve S; after many good ones, double it (Micikevicius et al. 2018).

# %%
assert np.float16(0.5) + np.float16(1e-4) == 0.5  # a step, and nothing has moved
print(f"the claim: half loses {lost[0]:.1f} % of {gradients.size:,} gradients; with the loss times "
      f"2^16 {lost[8]:.3f} %; bfloat16 {in_bfloat16:.1f} %")  # fmt: skip
assert lost[0] > (0.3 if lesson.fast else 8)
assert max(lost[8], infinite[8], in_bfloat16) < lost[0] / 100
assert measured["half, summed in half", lengths[-1]] > 20 * measured["half", lengths[-1]]

# %% [markdown]
# ## Now change this
#
# 1. Signed operands (`standard_normal`), errors divided by S: closer to the bound, or farther away?
# 2. Train for 300 steps, then count again. Why does half lose more gradients of a good network?
#
# **The exercise:** `minseg exercise check tiled_matmul`, then write its inner loop like `one_mma`.
#
# ## Check yourself
#
# 1. bfloat16 and half both have 16 bits. Which needs no loss scaling, and at what price?
# 2. 65536 ones are summed in half, 16 at a time. Where does the sum stop? (`warp_product<half>`)
#
# ## Answers
#
# 1. bfloat16: it has float32's exponent, but 8 significant bits, two to three decimal digits.
# 2. At 32768: from there on halves lie 32 apart; 32768 + 16 is a tie and is rounded to even, 32768.
