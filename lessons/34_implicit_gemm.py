# %% [markdown]
# # 34 · Convolution by a matrix that never exists
#
# Lesson 02 laid out every patch of the image as a column: a convolution is one matrix product. But
# that matrix is nine times its image, 743 MB for the second layer of the paper's U-Net (64 channels
# at 568x568 places). **The question:** a product only reads elements of a matrix. Can an index
# computation replace the patch matrix, and how much memory traffic does that save?
#
# You need lesson 33, and a C++ compiler (else `pip install ziglang`).

# %%
from collections.abc import Callable

import numpy as np
from matplotlib.patches import Rectangle

import minseg
import minseg.functional as F
from minseg import Tensor
from minseg.emulator.profile import Profile, profile
from minseg.emulator.sanitize import sanitize
from minseg.kernels import kernels_folder, launch
from minseg.lesson import AMBER, BLUE, GREEN, ORANGE, SKY, start
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)
print("compiled by", *lesson.compiler())  # says what to install if there is none

# %% [markdown]
# ## The index, by hand
#
# Images (N, C, H, W), weights (O, C, 3, 3): row k of the patch matrix is one weight of a kernel,
# (c, i, j); column p is one output, (n, row, col). k and p are flat indices, as into an array, and
# division takes them apart. With C = 2 and images of 4x5, element k = 13, p = 27:
#
#     k = 13:  j = 13 % 3 = 1   i = 13 // 3 % 3 = 1   c = 13 // 9 = 1
#     p = 27:  col = 27 % 5 = 2   row = 27 // 5 % 4 = 1   n = 27 // 20 = 1
#
# With stride s and dilation d it is x[n, c, row s - pad + i d, col s - pad + j d], or 0 outside the
# image: at s = d = pad = 1, x[1, 1, 1, 2]. `np.unravel_index(k, (C, 3, 3))` divides the same way.


# %%
def conv2d_loops(x: np.ndarray, w: np.ndarray, s: int, pad: int, d: int) -> np.ndarray:
    (N, C, H, W), O = x.shape, len(w)
    h, v = ((size + 2 * pad - 2 * d - 1) // s + 1 for size in (H, W))
    y = np.zeros((N, O, h, v))
    for o, p, k in np.ndindex(O, N * h * v, 9 * C):
        n, row, col = p // (h * v), p // v % h * s - pad, p % v * s - pad
        r, q = row + k // 3 % 3 * d, col + k % 3 * d
        if 0 <= r < H and 0 <= q < W:
            y[n, o, p // v % h, p % v] += w[o, k // 9, k // 3 % 3, k % 3] * x[n, k // 9, r, q]
    return y


# %% [markdown]
# ## A matrix is a function of two indices
#
# `product` multiplies a(row, k) by b(k, col), whatever these functions do, in tiles of 16 x 16
# only. Stride and dilation are factors in an index: holes are never multiplied.


# %%
def product(a: Callable, b: Callable, rows: int, length: int, columns: int) -> np.ndarray:
    out, T = np.zeros((rows, columns)), 16
    for r0, c0, k0 in np.ndindex(-(-rows // T), -(-columns // T), -(-length // T)):
        row, k = np.arange(rows)[r0 * T :][:T], np.arange(length)[k0 * T :][:T]
        column = np.arange(columns)[c0 * T :][:T]
        out[np.ix_(row, column)] += a(row[:, None], k) @ b(k[:, None], column)
    return out


# %% [markdown]
# ## Both gradients are products of the same kind
#
# y[o, p] = sum over k of w[o, k] patch[k, p], so with g = dL/dy as a matrix (O, P)
#
#     dL/dw[o, k] = sum over p of g[o, p] patch[k, p]            the same matrix, transposed
#
# Tap (i, j) uses pixel q for the output (q + pad - d (i, j)) / s, if s divides this and that output
# exists: one more gather, from g instead of x, with k = (o, i, j).
#
#     dL/dx[c, q] = sum over k of w[o, c, i, j] seen[k, q]       seen: g at that output, else 0


# %%
def my_conv2d(X: Tensor, K: Tensor, s: int, pad: int, d: int) -> Tensor:
    (N, C, H, W), O, w = X.shape, len(K.data), K.data
    h, v = ((size + 2 * pad - 2 * d - 1) // s + 1 for size in (H, W))
    x = np.pad(X.data, ((0, 0), (0, 0), (pad, pad), (pad, pad)))

    def patch(k: np.ndarray, p: np.ndarray) -> np.ndarray:
        (c, i, j), (n, row, col) = np.unravel_index(k, (C, 3, 3)), np.unravel_index(p, (N, h, v))
        return x[n, c, row * s + i * d, col * s + j * d]

    def backward(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def seen(k: np.ndarray, q: np.ndarray) -> np.ndarray:
            (o, i, j), (n, r, c) = np.unravel_index(k, (O, 3, 3)), np.unravel_index(q, (N, H, W))
            r, c = r + pad - i * d, c + pad - j * d
            there = (r % s == 0) & (c % s == 0) & (r >= 0) & (r < h * s) & (c >= 0) & (c < v * s)
            return np.where(there, g[n, o, r // s % h, c // s % v], 0)

        of_o, of_c = g.swapaxes(0, 1).reshape(O, -1), w.swapaxes(0, 1).reshape(C, -1)
        dw = product(lambda o, p: of_o[o, p], lambda p, k: patch(k, p), O, N * h * v, 9 * C)
        dx = product(lambda c, k: of_c[c, k], seen, C, 9 * O, N * H * W)
        return dx.reshape(C, N, H, W).swapaxes(0, 1), dw.reshape(w.shape)

    y = product(lambda o, k: w.reshape(O, -1)[o, k], patch, O, 9 * C, N * h * v)
    return record("my_conv2d", y.reshape(O, N, h, v).swapaxes(0, 1), (X, K), backward)


x, w = rng.standard_normal((2, 2, 4, 5)), rng.standard_normal((3, 2, 3, 3))
for s, pad, d in ((1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 3, 2)):
    both = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    y = my_conv2d(*both, s, pad, d)
    with minseg.use_kernels("emulator"):  # minseg's own kernel
        library = F.conv2d(Tensor(x), Tensor(w), stride=s, padding=pad, dilation=d)
    for other in (conv2d_loops(x, w, s, pad, d), library.numpy()):
        assert np.allclose(y.numpy(), other, rtol=0, atol=1e-13)  # sums of 18 products
    assert minseg.gradcheck(lambda x, w, s=s, pad=pad, d=d: my_conv2d(x, w, s, pad, d), both)

# %% [markdown]
# ## The kernel, and its traffic by hand
#
# kernels/conv2d.cu is this lesson in CUDA, an **implicit GEMM** (general matrix multiply):
# `tile_product` multiplies tiles of 64 x 64 that two functors fetch; `Patches` is our `patch`. The
# explicit way: `im2col` of kernels/ladder/conv2d writes the matrix out, then `tile_product`
# multiplies real matrices (kernels/matmul.cu). Floats loaded and stored for O <= 64, P = N H W
# outputs, s = d = pad = 1, where E = N C (3 H - 2) (3 W - 2) of the 9 C P elements lie inside the
# image:
#
#     explicit    im2col: loads E, stores 9 C P       matmul: loads 9 C P, 9 C O P / 64, stores O P
#     implicit                                        conv2d: loads E,     9 C O P / 64, stores O P
#
# Patches overlap, so a cache may answer most of E. What *must* cross the memory, once, are C P + 9
# C O + O P floats, plus 18 C P if the matrix is written and read back.

# %%
N, C, O, H, W, P = (1, 4, 32, 8, 32, 256) if lesson.fast else (2, 16, 64, 16, 64, 2048)
x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((N, C, H, W), (O, C, 3, 3)))
columns, flat = (np.empty((rows, P), np.float32) for rows in (9 * C, O))


def conv(w: np.ndarray, d: int) -> tuple:
    y, k = np.empty((N, O, H, W), np.float32), w.shape[2]
    return (x, w, None, y, N, C, H, W, O, H, W, k, k, 1, 1, *2 * (k // 2 * d,), d, d, 1)


def floats(result: Profile) -> dict[str, int]:  # that threads load or store, by array
    return {a.array: a.accesses for a in result.accesses if not a.shared}


im2col = f"{kernels_folder()}/ladder/conv2d/v3_im2col.cu:im2col"
launches = ((im2col, x, columns, N, C, H, W), ("matmul", w, columns, flat, 1, O, 9 * C, P),
            ("conv2d_forward", *conv(w, 1)))  # fmt: skip
for one in launches:
    launch(*one)
y = launches[2][4]
assert np.array_equal(y, flat.reshape(O, N, H, W).swapaxes(0, 1))  # the same sums, bit for bit
*parts, implicit = (profile(*one) for one in launches)
E, matrix, result = N * C * (3 * H - 2) * (3 * W - 2), 9 * C * P, O * P
weights, least, tiles = matrix * O // 64, C * P + 9 * C * O + O * P, -(-O // 64)
assert floats(parts[0]) == {"x": E, "columns": matrix}
assert floats(parts[1]) == {"a": weights, "b": tiles * matrix, "c": result}
assert floats(implicit) == {"x": tiles * E, "w": weights, "y": result}
assert implicit.bytes_least == 4 * least == sum(p.bytes_least for p in parts) - 8 * matrix

# Dilation d, and the same as an ordinary kernel with zeros in its holes, (2d + 1)^2 taps, not 9.
rates, gathered, filled = ((1, 2) if lesson.fast else (1, 2, 4)), [], []
for d in rates:
    holes = np.zeros((O, C, 2 * d + 1, 2 * d + 1), np.float32)
    holes[:, :, ::d, ::d] = w
    for kernel, rate, loads in ((w, d, gathered), (holes, 1, filled)):
        loads.append(floats(profile("conv2d_forward", *conv(kernel, rate)))["x"])
    assert gathered[-1] == tiles * N * C * (3 * H - 2 * d) * (3 * W - 2 * d)  # by hand
    print(f"dilation {d}: {gathered[-1]:9,} floats gathered; zeros in the holes: {filled[-1]:9,}")

figure = lesson.figure(13, 8)
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.2])
image, matrix_of = top.subplots(1, 2, width_ratios=[1, 3.4])
tiny = np.arange(1.0, 21).reshape(4, 5)
shown = np.array([np.pad(tiny, 1)[i:][:4, j:][:, :5].ravel() for i, j in np.ndindex(3, 3)])
for axis, values in ((image, tiny), (matrix_of, shown)):
    axis.imshow(np.where(values > 0, values, np.nan), vmin=1, vmax=20)
    axis.set(xticks=[], yticks=[], facecolor="0.9")
image.add_patch(Rectangle((0.5, -0.5), 3, 3, fill=False, ec=ORANGE, lw=4))
matrix_of.add_patch(Rectangle((6.5, -0.5), 1, 9, fill=False, ec=ORANGE, lw=4))
matrix_of.add_patch(Rectangle((11.5, 2.5), 4, 4, fill=False, ec="black", lw=3, ls=(0, (2, 1))))
matrix_of.set(xlabel="p = (row, col)", ylabel="k = (i, j)")
matrix_of.set_title("an image and its patches; orange: p = 7; dashed: a tile, all that ever exists")
left, right = bottom.subplots(1, 2, width_ratios=[1.2, 1])
stack = {"image": (E, tiles * E, C * P, C * P), "columns, written": (matrix, 0, matrix, 0),
         "columns, read": (tiles * matrix, 0, matrix, 0),
         "weights": (weights, weights, *2 * (9 * C * O,)), "result": (result,) * 4}  # fmt: skip
height = np.zeros(4)
for colour, (name, values) in zip((BLUE, ORANGE, AMBER, SKY, GREEN), stack.items(), strict=True):
    bars = left.bar([0, 1, 2.4, 3.4], np.array(values) / 1e3, 0.8, height, color=colour, label=name)
    height += np.array(values) / 1e3
left.bar_label(bars, [f"{h:,.0f}" for h in height])
left.set(ylabel="thousand floats", ylim=(0, 1.5 * height[0]))
left.set_title("one layer: requested                        must move")
left.set_xticks([0, 1, 2.4, 3.4], 2 * ["with\nmatrix", "implicit"])
left.legend(loc="upper right", reverse=True, ncols=2)
for loads, colour, name in ((filled, ORANGE, "zeros in holes"), (gathered, BLUE, "dilated index")):
    right.plot(rates, np.array(loads) / 1e3, "o-", color=colour, label=name)
right.set(xlabel="dilation", ylabel="thousand pixels loaded", xticks=rates, ylim=0)
right.legend(loc="upper left")
lesson.save(figure, "34_implicit_gemm")

# %% [markdown]
# ## What goes wrong
#
# **A guard on the flat index** instead of on row and column: left of a row lies the end of the row
# above, a real pixel. No sanitizer can object; only the values show it.

# %%
v5 = (kernels_folder() / "ladder/conv2d/v5_register_tiles.cu").read_text("utf-8")
v5 = v5.replace("../../common.cuh", str(kernels_folder() / "common.cuh"))
v5 = v5.replace("!inside(r, q, H, W)", "r * W + q < 0 || r * W + q >= H * W")
(lesson.out / "34_flat_guard.cu").write_text(v5, encoding="utf-8")
wrong, bad = f"{lesson.out}/34_flat_guard.cu:conv2d_registers", np.empty_like(y)
launch(wrong, x, w, bad, N, C, O, H, W)
assert not sanitize(wrong, x, w, bad, N, C, O, H, W)
off = ~np.isclose(bad, y, rtol=0, atol=1e-4).all(axis=(0, 1))
print(f"flat guard: no finding, but {off.sum()} of {H * W} pixels are wrong, left and right")
assert off.sum() == 2 * H == off[:, [0, -1]].sum()

# %%
ratio, must = height[[0, 2]] / height[[1, 3]]
print(f"the claim: {ratio:.1f} times fewer floats requested, {must:.1f} times fewer that must move")
assert min(ratio / 1.7, must / 2.5, filled[-1] / gathered[-1] / 2) > 1

# %% [markdown]
# ## Now change this
#
# 1. O = 128: E is gathered twice. What would tiles of 128 channels by 32 outputs fetch instead?
# 2. Let `patch` alone count k as (i, j, c). Which tests would still pass: C = 1? All weights equal?
#
# **The exercise:** `minseg exercise check implicit_gemm`: the gather and its guard, by yourself.
#
# ## Check yourself
#
# 1. A 1x1 convolution at stride 1: what is its patch matrix, and what remains of the index?
# 2. In `seen` with stride 2, how many of the nine taps find an output, for an inner pixel?
#
# ## Answers
#
# 1. The image itself, with k = c: nothing to gain, and im2col would only copy it.
# 2. By row (and column) 1 or 2 of 3 in turn, so 1, 2, 2 or 4 of 9: 9 for 4 pixels, 9 / s^2 each.
