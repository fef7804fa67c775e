"""Your first kernel: y = a x + y

A kernel is what *one* thread does; the launch starts a thread for each number, in blocks of 256.
Thread `threadIdx.x` of block `blockIdx.x` has to find out which number is its own. The last block
hangs over the end: its last threads have no number, and must touch nothing.

The `launch:` line says how many blocks there are, and which arrays are read and written. The file
runs as it is on a GPU; here an emulator runs the threads, and a sanitizer watches each access.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define THREADS 256

// launch: grid=((n + THREADS - 1) / THREADS) block=(THREADS)  in: x  inout: y
extern "C" __global__ void saxpy(const float* __restrict__ x, float* __restrict__ y, float a,
                                 int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"""


def right(x, y, a, n):
    return np.float32(a) * x + y


rng = np.random.default_rng(9)


def case(name, n):
    x, y = rng.integers(-9, 10, (2, n)).astype(np.float32)
    return Case(name, {"x": x, "y": y, "a": 2.0, "n": n})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=3,
    cases=(case("five numbers", 5), case("two blocks", 300), case("four full blocks", 1024)),
    goals=(
        Goal("neighbours apart", "the lanes of a warp access numbers far apart (not coalesced). "
             "Neighbouring threads should take neighbouring numbers: 32 floats are 4 sectors of 32 "
             "bytes.",
             lambda counts: counts.sectors_a_request <= 4),
    ),
    hints=(
        "Number the threads of all blocks in one row: the blocks before this one hold blockDim.x "
        "threads each.",
        "i = blockIdx.x * blockDim.x + threadIdx.x, and only threads with i < n have work.",
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = ...;",
    ),
    slips=(
        Slip("forgot y", "This is a x alone: add y.", lambda x, y, a, n: a * x),
        Slip("forgot a", "This is x + y: a is left out.", lambda x, y, a, n: x + y),
        Slip("nothing written", "y is left as it was before.", lambda x, y, a, n: y),
        Slip("the first block only", "Only the first 256 numbers are right: every block does the "
             "first block's work. blockIdx.x tells the blocks apart.",
             lambda x, y, a, n: np.concatenate([right(x, y, a, n)[:256], y[256:]])),
        Slip("the last number is missing", "The last number is left as it was: i < n, not n - 1.",
             lambda x, y, a, n: np.append(right(x, y, a, n)[:-1], y[-1])),
    ),
    mutants=(
        Mutant("missing guard", "if (i < n) ", ""),
        Mutant("missing guard", "i < n", "i <= n"),
        Mutant("the last number is missing", "i < n", "i < n - 1"),
        Mutant("forgot y", "a * x[i] + y[i]", "a * x[i]"),
        Mutant("race between blocks", "blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x"),
        Mutant("neighbours apart", "blockIdx.x * blockDim.x + threadIdx.x",
               "threadIdx.x * gridDim.x + blockIdx.x"),
        Mutant("compiler", "int i =", "i ="),
    ),
)  # fmt: skip
