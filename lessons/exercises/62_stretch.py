"""Find the bug: a line of numbers, stretched

Turn n numbers into m, in equal steps from the first to the last (`align_corners=True`):

    p = i * (n - 1) / (m - 1)      the place in x, between the numbers x[left] and x[left + 1]
    y[i] = (1 - share) * x[left] + share * x[left + 1]        share = p - left

n may be 1, m is at least 2. The kernel's numbers have been right for years, as they are here. Then
one user gets a line whose last number is NaN, though no NaN went in; another one reports "illegal
memory access", now and then, for large pictures. Both happen in the last block, it seems.

Ask the sanitizer, by the check or by `minseg sanitize stretch.cu`, and repair the kernel.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define THREADS 128

// launch: grid=(ceil_div(m, THREADS)) block=(THREADS)  in: x  out: y
// sample: n=100 m=300 x=(n) y=(m)
extern "C" __global__ void stretch(const float* __restrict__ x, float* __restrict__ y, int n,
                                   int m) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= m) return;
    int p = i * (n - 1);  // the place in x, in steps of 1 / (m - 1)
    int left = p / (m - 1);
    int right = min(left + 1, n - 1);
    float share = float(p % (m - 1)) / float(m - 1);  // of the right one
    y[i] = (1 - share) * x[left] + share * x[right];
}
"""
BODY = SOLUTION[SOLUTION.index("    int p =") :]
BLEND = "y[i] = (1 - share) * x[left] + share * x[right];"


def right(x, y, n, m):
    return np.interp(np.arange(m) * (n - 1) / (m - 1), np.arange(n), x)


def with_last(value):
    """Right, but for the last number."""
    return lambda x, y, n, m: np.append(right(x, y, n, m)[:-1], value(x))


rng = np.random.default_rng(62)


def case(name, n, m):
    x = rng.permutation(n).astype(np.float32) + 1  # all different
    return Case(name, {"x": x, "y": np.zeros(m, np.float32), "n": n, "m": m})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=6,
    cases=(
        case("3 become 5", 3, 5),
        case("1 becomes 4", 1, 4),
        case("100 become 300", 100, 300),
        case("90 become 256", 90, 256),
    ),
    bug=Mutant("missing guard", "min(left + 1, n - 1)", "left + 1"),
    goals=(
        Goal("few lanes at work", "in most requests hardly any lane of the warp takes part. Each "
             "thread has one number to write.", lambda counts: counts.divergence <= 0.5),
    ),
    hints=(
        "Work out the last thread that writes, i = m - 1, by hand: what is p, what are left and "
        "share, and which two numbers of x does it load?",
        "There left = n - 1 and share = 0. So x[n] has no weight; but it is loaded, and it does "
        "not exist. (And 0 times NaN is NaN.)",
        "int right = min(left + 1, n - 1);",
    ),
    slips=(
        Slip("the last number is another", "All is right but the last number, which is x[n - 2]. "
             "If `left` stops at n - 2, share has to become 1 there.",
             with_last(lambda x: x[max(len(x) - 2, 0)])),
        Slip("the last number is 0", "All is right but the last number, which is 0. It should be "
             "x[n - 1]: only the number to its right does not exist.", with_last(lambda x: 0)),
        Slip("not blended", "y[i] is always x[left]: the number to the right is left out.",
             lambda x, y, n, m: x[np.arange(m) * (n - 1) // (m - 1)]),
    ),
    mutants=(
        Mutant("missing guard", "min(left + 1, n - 1)", "min(left + 1, n)"),
        Mutant("missing guard", "min(left + 1, n - 1)", "i < m ? left + 1 : left"),
        Mutant("missing guard", "if (i >= m) return;", "if (i > m) return;"),
        Mutant("gaps in the output", "if (i >= m) return;", "if (i >= m - 1) return;"),
        Mutant("gaps in the output", BLEND, "if (left + 1 < n) " + BLEND),
        Mutant("the last number is another", "int left = p / (m - 1);",
               "int left = max(0, min(p / (m - 1), n - 2));"),
        Mutant("the last number is 0", BLEND,
               "y[i] = left + 1 < n ? (1 - share) * x[left] + share * x[right] : 0;"),
        Mutant("not blended", " + share * x[right];", " + share * x[left];"),
        Mutant("few lanes at work", "    if (i >= m) return;\n" + BODY,
               "    if (i > 0) return;\n    for (; i < m; i++) {\n" + BODY + "}\n"),
    ),
)  # fmt: skip
