"""Transpose: through shared memory, without bank conflicts

Element (r, c) of x goes to element (c, r) of y. In the plain version, a warp reads 32 neighbours of
a row, and writes 32 numbers of a column, each in a different 32-byte sector: eight times the
traffic.

So a block takes a tile of 32x32 numbers: it reads rows of x into shared memory, *waits until the
tile is full*, and writes rows of y, reading the tile by columns. A tile's column lies in one memory
bank, unless its rows are one number longer than needed. A block has 32x8 threads; each moves four
numbers. The profiler counts the sectors and the conflicts; both goals have to be met.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define TILE 32
#define STEP 8  // rows of threads

// launch: grid=((cols + TILE - 1) / TILE, (rows + TILE - 1) / TILE) block=(TILE, STEP)
//         in: x  out: y
extern "C" __global__ void transpose(const float* __restrict__ x, float* __restrict__ y, int rows,
                                     int cols) {
    __shared__ float tile[TILE][TILE + 1];  // + 1: the numbers of a column lie in different banks
    int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;  // of x
    for (int k = 0; k < TILE; k += STEP)
        if (row + k < rows && col < cols)
            tile[threadIdx.y + k][threadIdx.x] = x[(row + k) * cols + col];
    __syncthreads();  // the tile is full

    row = blockIdx.x * TILE + threadIdx.y, col = blockIdx.y * TILE + threadIdx.x;  // of y
    for (int k = 0; k < TILE; k += STEP)
        if (row + k < cols && col < rows)
            y[(row + k) * rows + col] = tile[threadIdx.x][threadIdx.y + k];
}
"""


def case(name, rows, cols):
    x = np.arange(rows * cols, dtype=np.float32).reshape(rows, cols)
    return Case(name, {"x": x, "y": np.zeros((cols, rows), np.float32), "rows": rows, "cols": cols})


TASK = Task(
    outputs=("y",),
    reference=lambda x, y, rows, cols: x.T,
    terms=1,
    cases=(
        case("3x5", 3, 5),
        case("a tile and a bit", 33, 40),
        case("2x3 full tiles", 64, 96),
    ),
    goals=(
        Goal("neighbours apart", "the lanes of a warp access numbers far apart in global memory "
             "(not coalesced). Read rows of x *and* write rows of y: 32 floats are 4 sectors of 32 "
             "bytes.",
             lambda counts: counts.sectors_a_request <= 4),
        Goal("bank conflicts", "lanes of a warp want different words of the same memory bank. Make "
             "the rows of the tile one number longer (padding): that shifts each row by a bank.",
             lambda counts: counts.conflicts == 0),
    ),
    hints=(
        "Two phases, with a barrier between: rows of x into the tile; rows of y out of it. In the "
        "second phase a thread handles other numbers than in the first.",
        "Block (bx, by) reads the tile at row by * TILE, column bx * TILE of x, and writes the "
        "tile at row bx * TILE, column by * TILE of y. tile[a][b] goes out as element (b, a).",
        "On the way out: row = blockIdx.x * TILE + threadIdx.y, col = blockIdx.y * TILE + "
        "threadIdx.x; if (row + k < cols && col < rows) y[(row + k) * rows + col] = "
        "tile[threadIdx.x][threadIdx.y + k]; declare tile[TILE][TILE + 1].",
    ),
    slips=(
        Slip("copied", "x is copied as it is: nothing is transposed.",
             lambda x, y, rows, cols: x.reshape(cols, rows)),
    ),
    mutants=(
        Mutant("missing barrier", "__syncthreads();", ""),
        Mutant("missing guard", "if (row + k < rows && col < cols)", ""),
        Mutant("missing guard", "row + k < cols && col < rows", "row + k < cols"),
        Mutant("bank conflicts", "tile[TILE][TILE + 1]", "tile[TILE][TILE]"),
        Mutant("barrier in a branch", "    __syncthreads();", "    if (col < cols) "
               "__syncthreads();"),
        Mutant("neighbours apart", "tile[threadIdx.y + k][threadIdx.x] = x[(row + k) * cols + col];"
               "\n    __syncthreads();  // the tile is full",
               "y[col * rows + row + k] = x[(row + k) * cols + col];\n    return;"),
        Mutant("copied", "tile[threadIdx.y + k][threadIdx.x] = x[(row + k) * cols + col];"
               "\n    __syncthreads();  // the tile is full",
               "y[(row + k) * cols + col] = x[(row + k) * cols + col];\n    return;"),
    ),
)  # fmt: skip
