"""Find the bug: the borders of a label map

    y[row][col] = 1 where the label differs from the one above or the one to the left, else 0

The kernel is complete, and has one bug. Its numbers are right in every test here; on a GPU too,
nearly always. But now and then a few pixels of a picture flicker, never the same ones, and as soon
as one adds a printf to look at them, they are right again.

Such a bug cannot be seen in the numbers. Ask the sanitizer: save the file, and read the report of
the check; or run `minseg sanitize label_borders.cu`, which launches the kernel on the arrays of its
`sample:` line. It watches every access, and draws the two threads that met, line by line. Then
repair the kernel, here in this file. Keep what is good: a block loads each label once.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define TILE 16

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: labels  out: y
// sample: H=20 W=35 labels=(H, W)%3 y=(H, W)
extern "C" __global__ void label_borders(const int* __restrict__ labels, int* __restrict__ y,
                                         int H, int W) {
    __shared__ int tile[TILE + 1][TILE + 1];  // with the row above and the column to the left
    int tx = threadIdx.x, ty = threadIdx.y;
    int row = blockIdx.y * TILE + ty, col = blockIdx.x * TILE + tx;
    bool inside = row < H && col < W;
    if (inside) {
        tile[ty + 1][tx + 1] = labels[row * W + col];
        if (ty == 0 && row > 0) tile[0][tx + 1] = labels[(row - 1) * W + col];
        if (tx == 0 && col > 0) tile[ty + 1][0] = labels[row * W + col - 1];
    }
    __syncthreads();  // the tile is full
    if (inside) {
        int own = tile[ty + 1][tx + 1];
        bool differs = row > 0 && tile[ty][tx + 1] != own;
        if (col > 0 && tile[ty + 1][tx] != own) differs = true;
        y[row * W + col] = differs;
    }
}
"""
BARRIER = "    __syncthreads();  // the tile is full\n"
LOAD = SOLUTION[SOLUTION.index("    if (inside) {") : SOLUTION.index(BARRIER)]


def right(labels, y, H, W, above=True, left=True):
    border = np.zeros((H, W), int)
    if above:
        border[1:] |= labels[1:] != labels[:-1]
    if left:
        border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return border


def within_tiles(labels, y, H, W):
    """Each block of 16x16 sees nothing but its own labels."""
    return np.block([[right(part := labels[r : r + 16, c : c + 16], y, *part.shape)
                      for c in range(0, W, 16)] for r in range(0, H, 16)])  # fmt: skip


rng = np.random.default_rng(60)


def case(name, H, W):
    labels = rng.integers(0, 3, (H, W)).astype(np.int32)
    return Case(name, {"labels": labels, "y": np.zeros_like(labels), "H": H, "W": W})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=1,
    cases=(case("3x4", 3, 4), case("tiles that hang over", 18, 35), case("2x2 tiles", 32, 32)),
    bug=Mutant("missing barrier", BARRIER, ""),
    goals=(
        Goal("read again and again", "the labels are loaded several times. Repair the bug, do not "
             "avoid it: a block loads each label into the tile once, and reads everything from "
             "there.", lambda counts: counts.loads_of("labels") <= 4 * 17 * 17),
    ),
    hints=(
        "Two threads meet at a place of the tile: one writes it, the other reads it. Which one "
        "does so first? Nothing in the kernel says so; a warp may be far ahead of its neighbour.",
        "A thread reads what the thread above it has brought, which is in another warp (two rows "
        "of 16 make one). So *all* threads of the block have to wait between the two halves.",
        "__syncthreads(); between the two `if (inside)`, outside of both: threads without a pixel "
        "have to reach it, too.",
    ),
    slips=(
        Slip("the left one is missing", "Each label is compared with the one above only.",
             lambda labels, y, H, W: right(labels, y, H, W, left=False)),
        Slip("the upper one is missing", "Each label is compared with the one to the left only.",
             lambda labels, y, H, W: right(labels, y, H, W, above=False)),
        Slip("within tiles only", "Right within the tiles; but the first row and column of a tile "
             "have neighbours too, in the tile before.", within_tiles),
    ),
    mutants=(
        Mutant("missing barrier", "__syncthreads();  // the tile is full", "__syncwarp();"),
        Mutant("missing barrier", LOAD + BARRIER, BARRIER + LOAD),
        Mutant("barrier in a branch", "    }\n    __syncthreads();  // the tile is full\n",
               "        __syncthreads();\n    }\n"),
        Mutant("barrier in a branch", "    if (inside) {\n        tile", "    if (!inside) return;"
               "\n    if (inside) {\n        tile"),
        Mutant("within tiles only", "        bool differs = row > 0 && tile[ty][tx + 1] != own;\n  "
               "      if (col > 0 &&", "        bool differs = ty > 0 && tile[ty][tx + 1] != own;\n"
               "        if (tx > 0 &&"),
        Mutant("the left one is missing", "        if (col > 0 && tile[ty + 1][tx] != own) differs "
               "= true;\n", ""),
        Mutant("missing guard", "row < H && col < W", "row < H"),
        Mutant("read again and again", "bool differs = row > 0 && tile[ty][tx + 1] != own;\n       "
               " if (col > 0 && tile[ty + 1][tx] != own)", "bool differs = row > 0 && labels[(row -"
               " 1) * W + col] != own;\n        if (col > 0 && labels[row * W + col - 1] != own)"),
    ),
)  # fmt: skip
