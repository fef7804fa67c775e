"""Block reduction: the sum of 256 numbers as a tree

Block b adds up the numbers 256 b, 256 b + 1, ... of x, and writes one number, y[b]. If one thread
did it, 255 would wait. As a tree it takes 8 steps:

    128 threads add the upper half to the lower:  values[t] += values[t + 128]     for t < 128
    then 64 of them:                              values[t] += values[t + 64]      for t < 64
    and so on; the sum ends up in values[0].

Between two steps all threads have to wait: one reads what another has just written. The last block
may have fewer than 256 numbers; missing ones count as 0.

Other trees work as well, such as neighbours first, values[2 t] += values[2 t + 1]. But then the
threads of a step access every second, fourth, ... word of shared memory, and these lie in the same
banks.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define THREADS 256

// launch: grid=(ceil_div(n, THREADS)) block=(THREADS)  in: x  out: y
extern "C" __global__ void block_reduction(const float* __restrict__ x, float* __restrict__ y,
                                           int n) {
    __shared__ float values[THREADS];
    int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    values[t] = i < n ? x[i] : 0;
    __syncthreads();  // all values are there
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half) values[t] += values[t + half];
        __syncthreads();  // the step is done
    }
    if (t == 0) y[blockIdx.x] = values[0];
}
"""


def sums(x, count=256):
    """Of the first `count` of each 256 numbers."""
    return np.array([x[i : i + count].sum(dtype=float) for i in range(0, len(x), 256)])


def right(x, y, n):
    return sums(x)


rng = np.random.default_rng(54)


def case(name, n):
    x = rng.integers(1, 20, n).astype(np.float32) / 2
    return Case(name, {"x": x, "y": np.zeros(-(-n // 256), np.float32), "n": n})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=256,
    cases=(
        case("one number", 1),
        case("200 numbers", 200),
        case("two blocks and a bit", 600),
        case("three full blocks", 768),
    ),
    goals=(
        Goal("bank conflicts", "lanes of a warp want different words of the same memory bank. Add "
             "the upper half to the lower: then neighbouring threads take neighbouring words.",
             lambda counts: counts.conflicts == 0),
        Goal("one after the other", "many threads add to one number by atomicAdd, which lets them "
             "in one at a time. Add in pairs: a tree.",
             lambda counts: counts.per_thread("atomic", True) + counts.per_thread("atomic", False)
             <= 1 / 32),
        Goal("few lanes at work",
             "in most requests hardly any lane of the warp takes part: one thread does it all, or "
             "the threads at work are far apart (`t % 2 == 0`, ...). With t < half, whole warps "
             "work and whole warps rest.",
             lambda counts: counts.divergence <= 0.75),
    ),
    hints=(
        "Every thread brings one number into shared memory. Then a loop: in each round half as "
        "many threads as before add one value to another, and *all* wait for each other.",
        "half = 128, 64, ..., 1: if t < half, values[t] += values[t + half]. The barrier stands "
        "outside of the `if`, because threads without work have to reach it, too.",
        "values[t] = i < n ? x[i] : 0; __syncthreads(); for (int half = THREADS / 2; half > 0; "
        "half /= 2) { if (t < half) values[t] += values[t + half]; __syncthreads(); } "
        "if (t == 0) y[blockIdx.x] = values[0];",
    ),
    slips=(
        Slip("not added",
             "y holds the first number of each block: nothing is added to it. "
             "(Without __shared__ every thread has an array of its own.)",
             lambda x, y, n: sums(x, 1)),
        Slip("the last step is missing", "The tree ends one step early: values[1] is never added "
             "to values[0]. Go on while half > 0.",
             lambda x, y, n: np.array([x[i : i + 256][::2].sum() for i in range(0, n, 256)])),
        Slip("the first step is missing", "Only the first 128 numbers of each block are added: "
             "begin with half = 128.", lambda x, y, n: sums(x, 128)),
        Slip("one warp only", "Only the first 32 numbers of each block are added: a shuffle "
             "reaches only its own warp.", lambda x, y, n: sums(x, 32)),
        Slip("the same block each time", "Every block adds up the first 256 numbers: blockIdx.x "
             "tells the blocks apart.", lambda x, y, n: np.full(len(y), sums(x)[0])),
    ),
    mutants=(
        Mutant("missing barrier", "__syncthreads();  // all values are there", ""),
        Mutant("missing barrier", "__syncthreads();  // the step is done", ""),
        Mutant("barrier in a branch", "if (t < half) values[t] += values[t + half];\n        "
               "__syncthreads();", "if (t < half) {\n            values[t] += values[t + half];\n"
               "            __syncthreads();\n        }"),
        Mutant("missing guard", "i < n ? x[i] : 0", "x[i]"),
        Mutant("not filled", "    values[t] = i < n ? x[i] : 0;",
               "    if (i < n) values[t] = x[i];"),
        Mutant("several write one element", "if (t == 0) y[blockIdx.x] = values[0];",
               "y[blockIdx.x] = values[0];"),
        Mutant("outside of shared memory", "if (t < half) values", "values"),
        Mutant("the last step is missing", "half > 0", "half > 1"),
        Mutant("the first step is missing", "half = THREADS / 2", "half = THREADS / 4"),
        Mutant("the same block each time", "i = blockIdx.x * THREADS + t", "i = t"),
        Mutant("bank conflicts", "for (int half = THREADS / 2; half > 0; half /= 2) {\n        if "
               "(t < half) values[t] += values[t + half];", "for (int step = 1; step < THREADS; "
               "step *= 2) {\n        if (2 * step * t < THREADS) values[2 * step * t] += "
               "values[2 * step * t + step];"),
        Mutant("few lanes at work",
               "for (int half = THREADS / 2; half > 0; half /= 2) {\n        "
               "if (t < half) values[t] += values[t + half];", "for (int step = 1; step < THREADS; "
               "step *= 2) {\n        if (t % (2 * step) == 0) values[t] += values[t + step];"),
        Mutant("few lanes at work", "    if (t == 0) y[blockIdx.x] = values[0];", "    if (t > 0) "
               "return;\n    float sum = 0;\n    for (int k = i; k < min(n, i + THREADS); k++) sum "
               "+= x[k];\n    y[blockIdx.x] = sum;"),
        Mutant("one after the other", "        __syncthreads();  // the step is done\n    }\n"
               "    if (t == 0) y[blockIdx.x] = values[0];", "        break;\n    }\n    if (t == "
               "0) y[blockIdx.x] = 0;\n    __syncthreads();\n    if (t < THREADS / 2) atomicAdd("
               "&y[blockIdx.x], values[t]);"),
    ),
)  # fmt: skip
