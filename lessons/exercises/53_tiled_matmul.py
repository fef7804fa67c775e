"""Matrix product, tile by tile

    c = a b:    c[row][col] = sum over k of  a[row][k] * b[k][col]

where a is M x K and b is K x N. A thread computes one number of c. In the plain version it loads
2 K numbers for that, and the 16 threads of a row of the block load the *same* row of a. Shared
memory saves that: the block of 16x16 threads walks along k in steps of 16. At each step every
thread brings one number of a's tile and one of b's; then each reads from the tiles the 32 numbers
that it needs, two of which it has brought itself.

Two barriers per step: no thread may read before the tiles are full, and none may fill them again
before all have read. Sizes need not be multiples of 16: what lies outside counts as 0.
"""

import numpy as np

from minseg.array import array_module
from minseg.exercises.task import Case, Goal, Mutant, Slip, Task, Use

SOLUTION = """
#define TILE 16

// launch: grid=(ceil_div(N, TILE), ceil_div(M, TILE)) block=(TILE, TILE)  in: a b  out: c
extern "C" __global__ void tiled_matmul(const float* __restrict__ a, const float* __restrict__ b,
                                        float* __restrict__ c, int M, int N, int K) {
    __shared__ float tile_a[TILE][TILE];
    __shared__ float tile_b[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y;
    int row = blockIdx.y * TILE + ty, col = blockIdx.x * TILE + tx;
    float sum = 0;
    for (int k = 0; k < K; k += TILE) {
        tile_a[ty][tx] = row < M && k + tx < K ? a[row * K + k + tx] : 0;
        tile_b[ty][tx] = k + ty < K && col < N ? b[(k + ty) * N + col] : 0;
        __syncthreads();  // both tiles are full
        for (int s = 0; s < TILE; s++) sum += tile_a[ty][s] * tile_b[s][tx];
        __syncthreads();  // both tiles are read
    }
    if (row < M && col < N) c[row * N + col] = sum;
}
"""


def right(a, b, c, M, N, K):
    return a.astype(float) @ b


def in_op(tiled_matmul, x, w, b, stride, padding, dilation, groups):
    """A 1x1 convolution is the product of w (O, C) and an image's pixels (C, H * W)."""
    plain = (w.shape[2:], stride, padding, groups) == ((1, 1), (1, 1), (0, 0), 1)
    if not plain or x.dtype != np.float32:
        return NotImplemented
    xp, (N, C, H, W), O = array_module(x), x.shape, len(w)
    y, a = xp.empty((N, O, H, W), x.dtype), xp.ascontiguousarray(w).reshape(O, C)
    for image, out in zip(xp.ascontiguousarray(x), y, strict=True):
        tiled_matmul(a, image.reshape(C, H * W), out.reshape(O, H * W), O, H * W, C)
    return y if b is None else y + b[:, None, None]


rng = np.random.default_rng(53)


def case(name, M, N, K):
    a, b = (rng.integers(-9, 10, shape).astype(np.float32) / 2 for shape in ((M, K), (K, N)))
    return Case(name, {"a": a, "b": b, "c": np.zeros((M, N), np.float32), "M": M, "N": N, "K": K})


TASK = Task(
    outputs=("c",),
    reference=right,
    use=Use("conv2d", "forward", in_op, lesson="14"),
    terms=48,
    cases=(
        case("2x3 by 3x4", 2, 4, 3),
        case("tiles that hang over, three steps", 18, 40, 35),
        case("2x2 full tiles, three steps", 32, 32, 48),
    ),
    goals=(
        Goal("read again and again", "a and b are loaded more often than needed. In a block, a "
             "number should come from global memory once, into a tile, for all 16 threads that "
             "use it.", lambda counts: counts.loads_of("a") + counts.loads_of("b")
             <= 2 * 3 * counts.threads),
        Goal("neighbours apart", "the lanes of a warp access numbers far apart in global memory. "
             "threadIdx.x should run along the rows of a, of b and of c.",
             lambda counts: counts.sectors_a_request <= 4),
        Goal("bank conflicts", "lanes of a warp want different words of the same memory bank: let "
             "threadIdx.x be the second index of the tiles, and their rows 16 long. (A warp fills "
             "two rows at once; with 17, some of their words share a bank. In a transpose, which "
             "reads columns, 17 helps.)",
             lambda counts: counts.conflicts == 0),
    ),
    hints=(
        "Cut the sum over k into pieces of 16. For one piece a block needs 16 rows of a, 16 "
        "columns of b, 16 numbers each: two tiles. The sum is kept from piece to piece.",
        "At step k, thread (ty, tx) brings a[row][k + tx] and b[k + ty][col], 0 where there is no "
        "such number. Then sum += tile_a[ty][s] * tile_b[s][tx] for all s.",
        "for (int k = 0; k < K; k += TILE) { tile_a[ty][tx] = row < M && k + tx < K ? "
        "a[row * K + k + tx] : 0; (b likewise) __syncthreads(); (sum) __syncthreads(); } and last "
        "if (row < M && col < N) c[row * N + col] = sum;",
    ),
    slips=(
        Slip("one step only", "Only the first 16 of the products are added: the block has to walk "
             "on along k.", lambda a, b, **given: right(a[:, :16], b[:16], **given)),
        Slip("the last step only", "Only the last step's products are there: set the sum to 0 "
             "before the loop, not in it.",
             lambda a, b, K, **given: right(a[:, (K - 1) // 16 * 16 :], b[(K - 1) // 16 * 16 :],
                                            K=K, **given)),
        Slip("the rest of k is missing", "Only whole steps of 16 along k are added: the last, "
             "shorter one is left out.",
             lambda a, b, K, **given: right(a[:, : K // 16 * 16], b[: K // 16 * 16], K=K, **given)),
    ),
    mutants=(
        Mutant("missing barrier", "__syncthreads();  // both tiles are full", ""),
        Mutant("missing barrier", "__syncthreads();  // both tiles are read", ""),
        Mutant("barrier in a branch", "    float sum = 0;",
               "    if (row >= M || col >= N) return;\n    float sum = 0;"),
        Mutant("missing guard", "row < M && k + tx < K ? a[row * K + k + tx] : 0",
               "a[row * K + k + tx]"),
        Mutant("missing guard", "if (row < M && col < N) c", "if (row < M) c"),
        Mutant("one step only", "k < K; k += TILE", "k < min(K, TILE); k += TILE"),
        Mutant("the last step only", "        __syncthreads();  // both tiles are full",
               "        __syncthreads();\n        sum = 0;"),
        Mutant("the rest of k is missing", "k < K; k += TILE", "k + TILE <= K; k += TILE"),
        Mutant("read again and again", "for (int s = 0; s < TILE; s++) sum += tile_a[ty][s] * "
               "tile_b[s][tx];", "for (int s = 0; s < TILE; s++)\n            if (row < M && col < "
               "N && k + s < K) sum += a[row * K + k + s] * b[(k + s) * N + col];"),
        Mutant("bank conflicts", "tile_b[ty][tx] = k + ty < K && col < N ? b[(k + ty) * N + col] : "
               "0;\n        __syncthreads();  // both tiles are full\n        for (int s = 0; s < "
               "TILE; s++) sum += tile_a[ty][s] * tile_b[s][tx];", "tile_b[tx][ty] = k + ty < K && "
               "col < N ? b[(k + ty) * N + col] : 0;\n        __syncthreads();\n        for (int s "
               "= 0; s < TILE; s++) sum += tile_a[ty][s] * tile_b[tx][s];"),
        Mutant("bank conflicts", "float tile_b[TILE][TILE]", "float tile_b[TILE][TILE + 1]"),
        Mutant("neighbours apart", "int tx = threadIdx.x, ty = threadIdx.y;",
               "int tx = threadIdx.y, ty = threadIdx.x;"),
    ),
)  # fmt: skip
