"""Find the bug: the scores of a pixel's classes

    y[k] = sum over c < C of  x[c] * w[c][k]        C features of a pixel, K classes

A thread computes the score of one class. All need the same x, so the 64 threads of a block bring 64
features at a time into shared memory, and go on to the next 64 when all have used them.

The kernel was written for 64 classes, and gives the right scores for these; for 128, too. With the
19 classes of a street scene they are wrong, and differ from run to run; with 150 classes, the last
22 are wrong. The formula is right, and no array is too short. Ask the sanitizer, by the check or by
`minseg sanitize class_scores.cu`, and repair the kernel for any number of classes.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define THREADS 64

// launch: grid=(ceil_div(K, THREADS)) block=(THREADS)  in: x w  out: y
// sample: C=100 K=19 x=(C) w=(C, K) y=(K)
extern "C" __global__ void class_scores(const float* __restrict__ x, const float* __restrict__ w,
                                        float* __restrict__ y, int C, int K) {
    __shared__ float part[THREADS];  // of x
    int t = threadIdx.x, k = blockIdx.x * THREADS + t;
    float sum = 0;
    for (int start = 0; start < C; start += THREADS) {
        if (start + t < C) part[t] = x[start + t];
        __syncthreads();  // the part is there
        int count = k < K ? min(THREADS, C - start) : 0;
        for (int c = 0; c < count; c++) sum += part[c] * w[(start + c) * K + k];
        __syncthreads();  // all have used it
    }
    if (k < K) y[k] = sum;
}
"""
BODY = SOLUTION[SOLUTION.index("    float sum") :]
UNGUARDED = BODY.replace("k < K ? min(THREADS, C - start) : 0", "min(THREADS, C - start)")
UNGUARDED = UNGUARDED.replace("if (k < K) y", "y")


def right(x, w, y, C, K):
    return x.astype(float) @ w


rng = np.random.default_rng(61)


def case(name, C, K):
    x, w = (rng.integers(1, 10, shape).astype(np.float32) for shape in (C, (C, K)))
    return Case(name, {"x": x, "w": w, "y": np.zeros(K, np.float32), "C": C, "K": K})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=200,
    cases=(
        case("5 features, 3 classes", 5, 3),
        case("64 features, 64 classes", 64, 64),
        case("100 features, 19 classes", 100, 19),
        case("200 features, 150 classes", 200, 150),
    ),
    bug=Mutant("barrier in a branch", BODY, "    if (k >= K) return;\n" + UNGUARDED),
    goals=(
        Goal("read again and again", "x is loaded by every thread. A block should load a feature "
             "once, into shared memory, for its 64 classes.",
             lambda counts: counts.loads_of("x") <= 3 * 200),
        Goal("few lanes at work", "in most requests hardly any lane of the warp takes part: each "
             "thread has a class of its own to compute.", lambda counts: counts.divergence <= 0.5),
    ),
    hints=(
        "Which threads come to the barrier if K is 19, and which do not? And which features should "
        "the missing threads have loaded?",
        "A thread with k >= K has no score to write, but it has work: part[t], and both barriers. "
        "So it must not return. What it must not do is read w or write y.",
        "Remove the return. The inner loop runs up to `k < K ? min(THREADS, C - start) : 0`, and "
        "the last line is `if (k < K) y[k] = sum;`.",
    ),
    slips=(
        Slip("features left out", "Only those features are added that a thread with a class of its "
             "own has brought. The others have to bring theirs as well.",
             lambda x, w, y, C, K: right(np.where(np.arange(C) % 64 < K, x, 0), w, y, C, K)),
        Slip("the first part only", "Only the first 64 features are added.",
             lambda x, w, y, C, K: right(x[:64], w[:64], y, C, K)),
        Slip("the last part only", "Only the last part's products are there: set the sum to 0 "
             "before the loop, not in it.", lambda x, w, y, C, K:
             right(x[(C - 1) // 64 * 64 :], w[(C - 1) // 64 * 64 :], y, C, K)),
    ),
    mutants=(
        Mutant("barrier in a branch", "int count = k < K ? min(THREADS, C - start) : 0;",
               "if (k >= K) return;\n        int count = min(THREADS, C - start);"),
        Mutant("barrier in a branch", "        if (start + t < C) part[t] = x[start + t];\n        "
               "__syncthreads();  // the part is there\n", "        if (start + t < C) {\n         "
               "   part[t] = x[start + t];\n            __syncthreads();\n        }\n"),
        Mutant("missing barrier", "        __syncthreads();  // the part is there\n", ""),
        Mutant("missing barrier", "        __syncthreads();  // all have used it\n", ""),
        Mutant("not filled", "if (start + t < C) part", "if (start + t < C && k < K) part"),
        Mutant("features left out", "if (start + t < C) part[t] = x[start + t];",
               "part[t] = start + t < C && k < K ? x[start + t] : 0;"),
        Mutant("missing guard", "k < K ? min(THREADS, C - start) : 0", "min(THREADS, C - start)"),
        Mutant("missing guard", "if (k < K) y", "if (k <= K) y"),
        Mutant("missing guard", "if (start + t < C) part", "part"),
        Mutant("the first part only", "start < C;", "start < 1;"),
        Mutant("read again and again", "sum += part[c]", "sum += x[start + c]"),
    ),
)  # fmt: skip
