"""Find the bug: sums of rows, the last steps in one warp

    y[row] = the sum of x[row]        rows of W numbers

A block adds up a row: each of its 128 threads adds some of the numbers, then a tree adds up the 128
sums in shared memory. The last steps, from 64 sums on, are done by one warp. Its 32 lanes run in
step, so they need no barrier: so said the textbooks, and it was true, and fast, for ten years. In
2017 came GPUs whose lanes have a program counter each, and since then the sums are now and then a
little too small or too large. (Here in the emulator, where lanes are far out of step, they are
wrong at once.) `volatile` keeps the compiler from holding the numbers in registers; it keeps no
lane in step.

Ask the sanitizer, by the check or by `minseg sanitize row_sums.cu`, and repair the kernel. The last
steps may stay with one warp, which then needs no barrier of the whole block: look up __syncwarp().
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define THREADS 128

// launch: grid=(rows) block=(THREADS)  in: x  out: y
// sample: rows=3 W=200 x=(rows, W) y=(rows)
extern "C" __global__ void row_sums(const float* __restrict__ x, float* __restrict__ y, int rows,
                                    int W) {
    __shared__ float sums[THREADS];
    int t = threadIdx.x;
    float sum = 0;
    for (int col = t; col < W; col += THREADS) sum += x[blockIdx.x * W + col];
    sums[t] = sum;
    __syncthreads();  // all sums are there
    if (t < 64) sums[t] += sums[t + 64];
    __syncthreads();  // 64 are left
    if (t < 32) {
        for (int half = 32; half > 0; half /= 2) {
            float other = sums[t + half];
            __syncwarp();  // all have read
            sums[t] += other;
            __syncwarp();  // all have written
        }
        if (t == 0) y[blockIdx.x] = sums[0];
    }
}
"""
STEPS = SOLUTION[SOLUTION.index("        for (int half") : SOLUTION.index("        if (t == 0)")]
ADD = SOLUTION[SOLUTION.index("            float other") : SOLUTION.index("        }\n        if")]


def right(x, y, rows, W):
    return x.sum(1, dtype=float)


def with_columns(wanted):
    """Sums of some of the columns only."""
    return lambda x, y, rows, W: x[:, wanted(np.arange(W))].sum(1, dtype=float)


rng = np.random.default_rng(65)


def case(name, rows, W):
    x = rng.integers(1, 10, (rows, W)).astype(np.float32)
    return Case(name, {"x": x, "y": np.zeros(rows, np.float32), "rows": rows, "W": W})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=300,
    cases=(
        case("a row of 5", 1, 5),
        case("a row of 100", 1, 100),
        case("3 rows of 300", 3, 300),
        case("2 rows of 256", 2, 256),
    ),
    bug=Mutant("missing barrier", STEPS, """        volatile float* last = sums;
        for (int half = 32; half > 0; half /= 2) last[t] += last[t + half];
"""),
    goals=(
        Goal("bank conflicts", "lanes of a warp want different words of the same memory bank. Add "
             "the upper half to the lower: then neighbouring threads take neighbouring words.",
             lambda counts: counts.conflicts == 0),
        Goal("few lanes at work", "in most requests hardly any lane of the warp takes part: one "
             "thread does what a tree does in a few steps.",
             lambda counts: counts.divergence <= 0.75),
    ),
    hints=(
        "Draw two lanes, 0 and 16, in the step half = 16. Lane 0 reads sums[16]; lane 16 writes "
        "it, in the same line. Which comes first? And whose new value does lane 0 read one step "
        "later?",
        "Between a write and another lane's read stands a __syncwarp(), and between a read and "
        "another lane's next write as well. So += has to be taken apart, with two of them in each "
        "step. (Or let only lanes t < half add: then one will do.)",
        "float other = sums[t + half]; __syncwarp(); sums[t] += other; __syncwarp(); or in "
        "registers: sum = sums[t] + sums[t + 32], then sum += __shfl_down_sync(~0u, sum, half).",
    ),
    slips=(
        Slip("the upper half is missing", "Of the last 64 sums only the lower 32 are added: begin "
             "with half = 32.", with_columns(lambda col: col % 64 < 32)),
        Slip("the last step is missing", "The tree ends one step early: go on while half > 0.",
             with_columns(lambda col: col % 2 == 0)),
        Slip("the first 128 only", "Only the first 128 numbers of a row are added.",
             with_columns(lambda col: col < 128)),
    ),
    mutants=(
        Mutant("missing barrier", ADD,
               "            sums[t] += sums[t + half];\n            __syncwarp();\n"),
        Mutant("missing barrier", ADD,
               "            if (t < half) sums[t] += sums[t + half];\n"),
        Mutant("missing barrier", "            __syncwarp();  // all have written\n", ""),
        Mutant("missing barrier", "    __syncthreads();  // 64 are left\n", "    __syncwarp();\n"),
        Mutant("barrier in a branch", ADD, "            float other = sums[t + half];\n            "
               "__syncthreads();\n            sums[t] += other;\n            __syncthreads();\n"),
        Mutant("missing lanes", ADD, "            if (t >= half) return;\n            sums[t] += "
               "sums[t + half];\n            __syncwarp();\n"),
        Mutant("the upper half is missing", "half = 32;", "half = 16;"),
        Mutant("the last step is missing", "half > 0", "half > 1"),
        Mutant("several write one element", "if (t == 0) y", "y"),
        Mutant("few lanes at work", STEPS, "        if (t == 0)\n            for (int k = 1; k < "
               "64; k++) sums[0] += sums[k];\n"),
    ),
)  # fmt: skip
