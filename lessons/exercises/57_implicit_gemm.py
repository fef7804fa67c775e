"""Convolution as a matrix product of a matrix that never exists

    y[n][o][row][col] = sum over c, i, j of
        w[o][c][i][j] * x[n][c][row * stride - padding + i][col * stride - padding + j]

is a product y[o][p] = sum over k of w[o][k] * patch[k][p]: row k of `patch` is one weight of a
kernel, (c, i, j), and column p one output, (n, row, col). Both k and p count as arrays do, the last
index fastest.

The matrix `patch` would be size * size times as large as x. So it is never written down: take your
tiled product (exercise tiled_matmul), and where it loads a number of b, split k and p into their
indices and load *that pixel*; 0 outside of x, and 0 beyond the last k or p. w in memory is an O x K
matrix already. Split p once more to find where the sum goes: y is (N, O, H_out, W_out). Lesson 34
goes through this slowly.
"""

import numpy as np

from minseg.array import array_module
from minseg.exercises.task import Case, Goal, Mutant, Slip, Task, Use
from minseg.ops.op import get_op

SOLUTION = """
#define TILE 16

// launch: grid=(ceil_div(N * H_out * W_out, TILE), ceil_div(O, TILE)) block=(TILE, TILE)
//         in: x w  out: y
extern "C" __global__ void implicit_gemm(const float* __restrict__ x, const float* __restrict__ w,
                                         float* __restrict__ y, int N, int C, int H, int W, int O,
                                         int H_out, int W_out, int size, int stride, int padding) {
    __shared__ float tile_w[TILE][TILE];
    __shared__ float tile_x[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y;
    int K = C * size * size, P = N * H_out * W_out;
    int o = blockIdx.y * TILE + ty, p = blockIdx.x * TILE + tx;
    int n = p / (H_out * W_out), row = p / W_out % H_out, col = p % W_out;
    float sum = 0;
    for (int first = 0; first < K; first += TILE) {
        tile_w[ty][tx] = o < O && first + tx < K ? w[o * K + first + tx] : 0;
        int k = first + ty, c = k / (size * size), i = k / size % size, j = k % size;
        int r = row * stride - padding + i, q = col * stride - padding + j;
        bool inside = k < K && p < P && r >= 0 && r < H && q >= 0 && q < W;
        tile_x[ty][tx] = inside ? x[((n * C + c) * H + r) * W + q] : 0;
        __syncthreads();  // both tiles are full
        for (int s = 0; s < TILE; s++) sum += tile_w[ty][s] * tile_x[s][tx];
        __syncthreads();  // both tiles are read
    }
    if (o < O && p < P) y[((n * O + o) * H_out + row) * W_out + col] = sum;
}
"""


def right(x, w, stride, padding, **given):
    pairs = [(n, n) for n in (stride, padding, 1)]
    return get_op("conv2d").definition(x.astype(float), w.astype(float), None, *pairs, 1)


def padded(x, before, after, **how):
    return np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), **how)


def of_k(keep):
    """Only some of the K products of each sum."""

    def answer(x, w, **given):
        flat = w.reshape(len(w), -1).copy()
        flat[:, ~keep(np.arange(flat.shape[1]), flat.shape[1])] = 0
        return right(x, flat.reshape(w.shape), **given)

    return answer


def counted_otherwise(order):
    """k taken apart as if it counted c, i, j in another order."""

    def answer(x, w, **given):
        O, C, size, _ = w.shape
        sizes = [(C, size, size)[axis] for axis in order]
        back = [order.index(axis) + 1 for axis in range(3)]
        return right(x, w.reshape(O, *sizes).transpose(0, *back), **given)

    return answer


def in_op(implicit_gemm, x, w, b, stride, padding, dilation, groups):
    """Pairs become numbers; the bias is added here."""
    squares = all(rows == cols for rows, cols in (w.shape[2:], stride, padding))
    if not squares or dilation != (1, 1) or groups > 1 or x.dtype != np.float32:
        return NotImplemented
    xp, (N, C, H, W), (O, _, size, _) = array_module(x), x.shape, w.shape
    H_out, W_out = ((n + 2 * padding[0] - size) // stride[0] + 1 for n in (H, W))
    y = xp.empty((N, O, H_out, W_out), x.dtype)
    implicit_gemm(xp.ascontiguousarray(x), xp.ascontiguousarray(w), y, N, C, H, W, O, H_out, W_out,
                  size, stride[0], padding[0])  # fmt: skip
    return y if b is None else y + b[:, None, None]


rng = np.random.default_rng(57)


def case(name, N, C, H, W, O, size, stride=1, padding=0):
    H_out, W_out = ((n + 2 * padding - size) // stride + 1 for n in (H, W))
    x = rng.integers(-9, 10, (N, C, H, W)).astype(np.float32) / 2
    w = rng.integers(1, 10, (O, C, size, size)).astype(np.float32)
    return Case(name, {"x": x, "w": w, "y": np.zeros((N, O, H_out, W_out), np.float32), "N": N,
                       "C": C, "H": H, "W": W, "O": O, "H_out": H_out, "W_out": W_out,
                       "size": size, "stride": stride, "padding": padding})  # fmt: skip


TASK = Task(
    outputs=("y",),
    reference=right,
    use=Use("conv2d", "forward", in_op, lesson="14"),
    terms=80,
    cases=(
        case("one channel, 2x2", 1, 1, 3, 4, 1, 2),
        case("two channels, 3x3, padding 1", 1, 2, 4, 5, 2, 3, padding=1),
        case("three images", 3, 2, 3, 4, 3, 2),
        case("three steps of k, the last one partial", 1, 5, 4, 6, 2, 3),
        case("stride 2, padding 1, tiles that hang over", 2, 4, 9, 7, 18, 3, stride=2, padding=1),
        case("full tiles, three steps", 1, 3, 9, 19, 32, 4),
    ),
    goals=(
        Goal("read again and again",
             "x and w are loaded more often than needed. In a block, a "
             "number of a tile should come from global memory once, for all 16 threads that use "
             "it.",
             lambda counts: counts.loads_of("x") + counts.loads_of("w") <= 2 * 3 * counts.threads),
        Goal("neighbours apart",
             "the lanes of a warp access numbers far apart in global memory. threadIdx.x should "
             "run along k for w, and along the outputs p for x and y.",
             lambda counts: counts.sectors_a_request <= 6),
        Goal("bank conflicts", "lanes of a warp want different words of the same memory bank: let "
             "threadIdx.x be the second index of the tiles, and their rows 16 long. (A warp fills "
             "two rows at once; with 17, some of their words share a bank. In a transpose, which "
             "reads columns, 17 helps.)",
             lambda counts: counts.conflicts == 0),
    ),
    hints=(
        "Begin with your tiled_matmul: M, N, K become O, P = N * H_out * W_out, K = C * size * "
        "size. a is w. Only two places change: where a number of b is loaded, and where the sum "
        "goes.",
        "n = p / (H_out * W_out), row = p / W_out % H_out, col = p % W_out; c = k / (size * size), "
        "i = k / size % size, j = k % size; r = row * stride - padding + i, q likewise; the pixel "
        "is x[((n * C + c) * H + r) * W + q], the output y[((n * O + o) * H_out + row) * W_out + "
        "col].",
        "tile_x[ty][tx] = k < K && p < P && r >= 0 && r < H && q >= 0 && q < W ? x[...] : 0, with "
        "k = first + ty; tile_w[ty][tx] = o < O && first + tx < K ? w[o * K + first + tx] : 0; "
        "barrier; for s: sum += tile_w[ty][s] * tile_x[s][tx]; barrier.",
    ),
    slips=(
        Slip("flipped kernel",
             "The kernel is turned by 180 degrees: w[..][i][j] belongs to the "
             "pixel i rows down and j columns right, not up and left.",
             lambda x, w, **given: right(x, w[:, :, ::-1, ::-1], **given)),
        Slip("i and j swapped",
             "Rows and columns of the kernel have changed places: j runs "
             "fastest, i = k / size % size, j = k % size.", counted_otherwise((0, 2, 1))),
        Slip("k counted otherwise",
             "k is split as (i, j, c). In w, j runs fastest, then i, then c: c = k / "
             "(size * size).",
             counted_otherwise((1, 2, 0))),
        Slip("forgot the padding", "The kernel begins at row * stride: - padding is left out.",
             lambda x, padding, **given: right(padded(x, 0, 2 * padding), padding=0, **given)),
        Slip("forgot the stride", "Neighbouring outputs are `stride` pixels apart: row * stride.",
             lambda x, H_out, W_out, stride, **given:
             right(x, stride=1, **given)[:, :, :H_out, :W_out]),
        Slip("the border is repeated", "Outside of x the border pixels are repeated. Outside is 0.",
             lambda x, padding, **given:
             right(padded(x, padding, padding, mode="edge"), padding=0, **given)),
        Slip("the first image each time", "Every image of y is computed from the first image of x: "
             "n = p / (H_out * W_out) tells them apart.",
             lambda x, **given: right(np.broadcast_to(x[:1], x.shape), **given)),
        Slip("the first channel each time", "All products are with the first channel of x: c = k / "
             "(size * size) tells them apart.",
             lambda x, **given: right(np.broadcast_to(x[:, :1], x.shape), **given)),
        Slip("one step only",
             "Only the first 16 of the products are added: the block has to walk "
             "on along k.", of_k(lambda k, K: k < 16)),
        Slip("the rest of k is missing",
             "Only whole steps of 16 along k are added: the last, shorter one is left out.",
             of_k(lambda k, K: k < K // 16 * 16)),
        Slip("the last step only",
             "Only the last step's products are there: set the sum to 0 before the loop, "
             "not in it.",
             of_k(lambda k, K: k >= (K - 1) // 16 * 16)),
        Slip("channels before images",
             "y is filled as (O, N, H_out, W_out), as the product comes. It has to be (N, O, "
             "H_out, W_out): split p for y, too.",
             lambda x, w, **given: right(x, w, **given).swapaxes(0, 1).reshape(
                 len(x), len(w), given["H_out"], given["W_out"])),
    ),
    mutants=(
        Mutant("missing barrier", "__syncthreads();  // both tiles are full", ""),
        Mutant("missing barrier", "__syncthreads();  // both tiles are read", ""),
        Mutant("barrier in a branch", "    float sum = 0;",
               "    if (o >= O || p >= P) return;\n    float sum = 0;"),
        Mutant("missing guard", "o < O && first + tx < K ? w[o * K + first + tx] : 0",
               "w[o * K + first + tx]"),
        Mutant("missing guard", "k < K && p < P && ", "k < K && "),
        Mutant("missing guard", "if (o < O && p < P) y", "if (p < P) y"),
        Mutant("missing guard", "r >= 0 && r < H && q >= 0 && q < W", "true"),
        Mutant("not filled",
               "        tile_x[ty][tx] = inside ? x[((n * C + c) * H + r) * W + q] : "
               "0;",
               "        if (inside) tile_x[ty][tx] = x[((n * C + c) * H + r) * W + q];"),
        Mutant("flipped kernel", "i = k / size % size, j = k % size;",
               "i = size - 1 - k / size % size, j = size - 1 - k % size;"),
        Mutant("i and j swapped", "i = k / size % size, j = k % size;",
               "j = k / size % size, i = k % size;"),
        Mutant("k counted otherwise", "c = k / (size * size), i = k / size % size, j = k % size;",
               "c = k % C, i = k / C / size, j = k / C % size;"),
        Mutant("forgot the padding",
               "r = row * stride - padding + i, q = col * stride - padding + "
               "j",
               "r = row * stride + i, q = col * stride + j"),
        Mutant("forgot the stride",
               "r = row * stride - padding + i, q = col * stride - padding + "
               "j",
               "r = row - padding + i, q = col - padding + j"),
        Mutant("the border is repeated",
               "        bool inside = k < K && p < P && r >= 0 && r < H "
               "&& q >= 0 && q < W;",
               "        bool inside = k < K && p < P;\n        r = min(max(r, "
                                 "0), H - 1), q = min(max(q, 0), W - 1);"),
        Mutant("the first image each time", "x[((n * C + c) * H", "x[(c * H"),
        Mutant("the first channel each time", "x[((n * C + c) * H", "x[(n * C * H"),
        Mutant("one step only", "first < K; first += TILE", "first < min(K, TILE); first += TILE"),
        Mutant("the rest of k is missing", "first < K; first += TILE",
               "first + TILE <= K; first += TILE"),
        Mutant("the last step only", "        __syncthreads();  // both tiles are full",
               "        __syncthreads();\n        sum = 0;"),
        Mutant("channels before images", "y[((n * O + o) * H_out + row) * W_out + col]",
               "y[o * P + p]"),
        Mutant("neighbours apart", "int tx = threadIdx.x, ty = threadIdx.y;",
               "int tx = threadIdx.y, ty = threadIdx.x;"),
        Mutant("read again and again", "sum += tile_w[ty][s] * tile_x[s][tx];",
               "sum += (o < O && first + s < K ? w[o * K + first + s] : 0) * tile_x[s][tx];"),
    ),
)  # fmt: skip
