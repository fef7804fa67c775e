"""Find the bug: how many pixels has each class?

    counts[k] += the number of i with labels[i] == k        n labels, from 0 to 149

If every pixel of a large picture added to one of 150 numbers in global memory, all would wait for
each other. So a block counts its 1024 pixels in shared memory, and then adds its own 150 numbers to
`counts`, which the caller has set to 0 (or to the counts of the pictures before).

The kernel passes its tests, and counts correctly all morning. In the afternoon, with another
network on the same GPU, there are classes with more pixels than the picture has, and classes with
-3. After a restart of everything the counts are right again, for a while.

Ask the sanitizer, by the check or by `minseg sanitize class_counts.cu`, and repair the kernel.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define THREADS 128
#define PIXELS 1024  // of a block
#define CLASSES 150

// launch: grid=(ceil_div(n, PIXELS)) block=(THREADS)  in: labels  inout: counts
// sample: n=3000 labels=(n)%CLASSES counts=(CLASSES)
extern "C" __global__ void class_counts(const int* __restrict__ labels, int* __restrict__ counts,
                                        int n) {
    __shared__ int ours[CLASSES];  // counts of this block
    for (int k = threadIdx.x; k < CLASSES; k += THREADS) ours[k] = 0;
    __syncthreads();  // all are 0
    int end = min(n, (blockIdx.x + 1) * PIXELS);
    for (int i = blockIdx.x * PIXELS + threadIdx.x; i < end; i += THREADS)
        atomicAdd(&ours[labels[i]], 1);
    __syncthreads();  // all have counted
    for (int k = threadIdx.x; k < CLASSES; k += THREADS)
        if (ours[k] != 0) atomicAdd(&counts[k], ours[k]);
}
"""
START = SOLUTION[SOLUTION.index("    for (int k") : SOLUTION.index("    int end")]


def right(labels, counts, n):
    return counts + np.bincount(labels, minlength=150)


rng = np.random.default_rng(63)


def case(name, n, before=0):
    labels = rng.integers(0, 150, n).astype(np.int32)
    counts = rng.integers(0, before + 1, 150).astype(np.int32)
    return Case(name, {"labels": labels, "counts": counts, "n": n})


TASK = Task(
    outputs=("counts",),
    reference=right,
    terms=1,
    cases=(
        case("20 pixels", 20),
        case("1500 pixels, two blocks", 1500),
        case("3072 pixels, counted on", 3072, before=9),
    ),
    bug=Mutant("not filled", START, ""),
    goals=(
        Goal("one after the other", "the pixels are added to `counts` itself, one at a time. "
             "Repair the bug, do not avoid it: a block counts in shared memory, and adds at most "
             "one number per class to global memory.",
             lambda counts: counts.threads * counts.per_thread("atomic", shared=False) <= 3 * 150),
        Goal("few lanes at work", "in most requests hardly any lane of the warp takes part: one "
             "thread does what all should share.", lambda counts: counts.divergence <= 0.75),
    ),
    hints=(
        "What does ours[7] hold before the first atomicAdd? On a GPU: whatever the last kernel "
        "left there. It is 0 for as long as nobody else uses shared memory.",
        "All 150 places are set to 0 by the 128 threads of the block: k = threadIdx.x, then "
        "k + THREADS. And none may count before all are 0.",
        "for (int k = threadIdx.x; k < CLASSES; k += THREADS) ours[k] = 0; __syncthreads();",
    ),
    slips=(
        Slip("counted anew", "What was in `counts` before is lost: add to it.",
             lambda labels, counts, n: right(labels, counts * 0, n)),
        Slip("the first block only", "Only the first 1024 pixels are counted.",
             lambda labels, counts, n: right(labels[:1024], counts, n)),
        Slip("the last classes are missing", "The classes from 128 on are not counted: there are "
             "more classes than threads.", lambda labels, counts, n:
             np.where(np.arange(150) < 128, right(labels, counts, n), counts)),
    ),
    mutants=(
        Mutant("missing barrier", "    __syncthreads();  // all are 0\n", ""),
        Mutant("missing barrier", START,
               "    if (threadIdx.x == 0)\n        for (int k = 0; k < CLASSES; k++) ours[k] = 0;"
               "\n"),
        Mutant("missing barrier", "    __syncthreads();  // all have counted\n", ""),
        Mutant("several write one element", "for (int k = threadIdx.x; k < CLASSES; k += THREADS) "
               "ours[k] = 0;", "for (int k = 0; k < CLASSES; k++) ours[k] = 0;"),
        Mutant("not filled", "for (int k = threadIdx.x; k < CLASSES; k += THREADS) ours[k] = 0;",
               "ours[threadIdx.x] = 0;"),
        Mutant("not filled", "for (int k = threadIdx.x; k < CLASSES; k += THREADS) ours[k] = 0;",
               "if (threadIdx.x == 0) ours[0] = 0;"),
        Mutant("outside of shared memory", "for (int k = threadIdx.x; k < CLASSES; k += THREADS) "
               "ours[k] = 0;", "ours[threadIdx.x] = ours[threadIdx.x + THREADS] = 0;"),
        Mutant("the last classes are missing", "k < CLASSES; k += THREADS)\n        if",
               "k < THREADS; k += THREADS)\n        if"),
        Mutant("update not atomic", "atomicAdd(&ours[labels[i]], 1);", "ours[labels[i]] += 1;"),
        Mutant("race between blocks", "    __syncthreads();  // all are 0\n", "    for (int k = "
               "threadIdx.x; k < CLASSES; k += THREADS) counts[k] = 0;\n    __syncthreads();\n"),
        Mutant("one after the other", "atomicAdd(&ours[labels[i]], 1);",
               "atomicAdd(&counts[labels[i]], 1);"),
    ),
)  # fmt: skip
