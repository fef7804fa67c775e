"""A stencil with a halo: each pixel read once

    y[row][col] = sum over i, j < 3 of  w[i][j] * x[row + i - 1][col + j - 1]        outside x is 0

Every output needs nine pixels, which its neighbours need as well. So a block of 16x16 threads first
brings all that it needs into shared memory, once: its own 16x16 pixels *and* the halo, one more row
or column on each side, 18x18 in all. That is more pixels than there are threads; some bring two.
Where the tile hangs over the edge of the image, it holds zeros.

The profiler counts the loads of x; w, nine numbers that all threads read, comes from the cache.
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define TILE 16
#define WIDE (TILE + 2)  // with the halo

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: x w  out: y
extern "C" __global__ void stencil(const float* __restrict__ x, const float* __restrict__ w,
                                   float* __restrict__ y, int H, int W) {
    __shared__ float tile[WIDE][WIDE];
    int top = blockIdx.y * TILE - 1, left = blockIdx.x * TILE - 1;  // of the tile, in x
    for (int t = threadIdx.y * TILE + threadIdx.x; t < WIDE * WIDE; t += TILE * TILE) {
        int r = top + t / WIDE, c = left + t % WIDE;
        bool inside = r >= 0 && r < H && c >= 0 && c < W;
        tile[t / WIDE][t % WIDE] = inside ? x[r * W + c] : 0;
    }
    __syncthreads();  // the tile is full

    int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
    if (row >= H || col >= W) return;
    float sum = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) sum += w[i * 3 + j] * tile[threadIdx.y + i][threadIdx.x + j];
    y[row * W + col] = sum;
}
"""


def convolved(x, w, **how):
    return F.conv2d(Tensor(x[None, None].astype(float)), Tensor(w[None, None].astype(float)),
                    **how).numpy()[0, 0]  # fmt: skip


def right(x, w, y, H, W):
    return convolved(x, w, padding=1)


def without_halo(x, w, y, H, W):
    """Each block of 16x16 sees nothing but its own pixels."""
    return np.block([[convolved(x[r : r + 16, c : c + 16], w, padding=1) for c in range(0, W, 16)]
                     for r in range(0, H, 16)])  # fmt: skip


rng = np.random.default_rng(52)


def case(name, H, W):
    x, w = (rng.integers(1, 10, shape).astype(np.float32) / 2 for shape in ((H, W), (3, 3)))
    return Case(name, {"x": x, "w": w, "y": np.zeros_like(x), "H": H, "W": W})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=9,
    cases=(case("3x5", 3, 5), case("a tile and a bit", 18, 33), case("3x2 full tiles", 48, 32)),
    goals=(
        Goal("read again and again", "x is loaded several times. A block needs 18x18 pixels: load "
             "each of them into shared memory once, and take every value from there.",
             lambda counts: counts.loads_of("x") <= 3 * 2 * 18 * 18),
        Goal("neighbours apart", "the lanes of a warp access numbers far apart in global memory. "
             "Neighbouring threads should bring neighbouring pixels of a row.",
             lambda counts: counts.sectors_a_request <= 6),
    ),
    hints=(
        "Two phases, with a barrier between. In the first, forget the outputs: number the 256 "
        "threads in one row, and let them fill the 324 places of the tile, 256 at a time.",
        "t = threadIdx.y * TILE + threadIdx.x, then t + 256, ...: place (t / WIDE, t % WIDE) holds "
        "pixel (blockIdx.y * TILE - 1 + t / WIDE, blockIdx.x * TILE - 1 + t % WIDE) of x.",
        "for (int t = ...; t < WIDE * WIDE; t += TILE * TILE) tile[t / WIDE][t % WIDE] = inside ? "
        "x[r * W + c] : 0; __syncthreads(); then sum w[i * 3 + j] * tile[threadIdx.y + i]"
        "[threadIdx.x + j], and write it if row < H && col < W.",
    ),
    slips=(
        Slip("flipped kernel", "w is turned by 180 degrees: w[i][j] belongs to the pixel i - 1 "
             "rows *down* and j - 1 columns *right*.",
             lambda x, w, **given: right(x, w[::-1, ::-1], **given)),
        Slip("transposed kernel", "Rows and columns of w have changed places.",
             lambda x, w, **given: right(x, w.T, **given)),
        Slip("halo forgotten", "Right within the tiles, wrong at their borders: the row or column "
             "beyond a tile's edge belongs to the next tile, and is not 0.", without_halo),
        Slip("border repeated", "Outside of x the border pixels are repeated. Outside is 0.",
             lambda x, w, **given: convolved(np.pad(x, 1, mode="edge"), w)),
        Slip("one place off", "Everything is shifted by a row and a column: the tile begins one "
             "before the block's first pixel, at blockIdx * TILE - 1.",
             lambda x, w, **given: convolved(np.pad(x, ((0, 2), (0, 2))), w)),
        Slip("the corners are missing", "The diagonal neighbours are left out.",
             lambda x, w, **given: right(x, w * [[0, 1, 0], [1, 1, 1], [0, 1, 0]], **given)),
    ),
    mutants=(
        Mutant("missing barrier", "__syncthreads();", ""),
        Mutant("barrier in a branch", "__syncthreads();  // the tile is full\n", "if (blockIdx.x * "
               "TILE + threadIdx.x < W) __syncthreads();\n"),
        Mutant("missing guard", "bool inside = r >= 0 && r < H && c >= 0 && c < W;",
               "bool inside = r >= 0 && c >= 0 && c < W;"),
        Mutant("missing guard", "if (row >= H || col >= W) return;", "if (col >= W) return;"),
        Mutant("outside of shared memory", "tile[WIDE][WIDE]", "tile[WIDE][TILE]"),
        Mutant("not filled", "t < WIDE * WIDE", "t < TILE * TILE"),
        Mutant("halo forgotten", "bool inside = r >= 0 && r < H && c >= 0 && c < W;",
               "bool inside = r > top && r <= top + TILE && c > left && c <= left + TILE && r < H "
               "&& c < W;"),
        Mutant("one place off", "TILE - 1, left = blockIdx.x * TILE - 1",
               "TILE, left = blockIdx.x * TILE"),
        Mutant("flipped kernel", "w[i * 3 + j]", "w[8 - i * 3 - j]"),
        Mutant("transposed kernel", "w[i * 3 + j]", "w[j * 3 + i]"),
        Mutant("read again and again", "sum += w[i * 3 + j] * tile[threadIdx.y + i][threadIdx.x + "
               "j];", "{\n            int r = row + i - 1, c = col + j - 1;\n            if (r >= "
               "0 && r < H && c >= 0 && c < W) sum += w[i * 3 + j] * x[r * W + c];\n        }"),
    ),
)  # fmt: skip
