"""Find the bug: the gradient of nearest-neighbour upsampling

Upsampling copies each number into a square of s x s. So its gradient is the sum over that square:

    grad_x[row / s][col / s] += grad[row][col]        H and W, the sizes of grad, are multiples of s

The kernel has a thread for each number of `grad`; the caller has set grad_x to 0. In this emulator,
where one thread runs after another, the numbers are right. On a GPU they are far too small, and not
always the same. The network learned all the same, only badly; so nobody noticed for weeks.

Ask the sanitizer, by the check or by `minseg sanitize nearest_grad.cu`, and repair the kernel.
"""

import numpy as np

from minseg.exercises.task import Case, Goal, Mutant, Slip, Task

SOLUTION = """
#define TILE 16

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: grad  inout: grad_x
// sample: H=12 W=36 s=2 grad=(H, W) grad_x=(H / s, W / s)
extern "C" __global__ void nearest_grad(const float* __restrict__ grad, float* __restrict__ grad_x,
                                        int H, int W, int s) {
    int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
    if (row >= H || col >= W) return;
    int target = row / s * (W / s) + col / s;
    atomicAdd(&grad_x[target], grad[row * W + col]);
}
"""
ADD = "    atomicAdd(&grad_x[target], grad[row * W + col]);\n"


def right(grad, grad_x, H, W, s):
    return grad.astype(float).reshape(H // s, s, W // s, s).sum((1, 3))


rng = np.random.default_rng(64)


def case(name, H, W, s):
    grad = rng.integers(1, 10, (H, W)).astype(np.float32)
    grad_x = np.zeros((H // s, W // s), np.float32)
    return Case(name, {"grad": grad, "grad_x": grad_x, "H": H, "W": W, "s": s})


TASK = Task(
    outputs=("grad_x",),
    reference=right,
    terms=9,
    cases=(
        case("two squares of 2x2", 2, 4, 2),
        case("2x2, blocks that hang over", 18, 36, 2),
        case("3x3, squares in two blocks", 18, 33, 3),
        case("2x2, four full blocks", 32, 32, 2),
    ),
    bug=Mutant("update not atomic", ADD, "    grad_x[target] += grad[row * W + col];\n"),
    goals=(
        Goal("read again and again", "a number of grad is loaded several times; once will do.",
             lambda counts: counts.loads_of("grad") <= 32 * 32),
        Goal("few lanes at work", "in most requests one lane of the warp takes part, or two: one "
             "thread does what all should share.", lambda counts:
             sum(a.accesses for a in counts.accesses)
             >= 4 * sum(a.requests for a in counts.accesses)),
    ),
    hints=(
        "+= is three things: load the old sum, add, store the new one. What becomes of the sum if "
        "two threads load the same old one?",
        "A barrier does not help: it says when all have added, not that one adds after the other "
        "(and a square may lie in two blocks). Either the three are done in one go, or one thread "
        "alone adds up a square.",
        "atomicAdd(&grad_x[target], grad[row * W + col]); or, to gather: only threads with row < "
        "H / s && col < W / s, each with two loops over its own square.",
    ),
    slips=(
        Slip("one of each square", "Only the first number of each square is taken: all s * s of "
             "them belong to the sum.", lambda grad, s, **given: grad[::s, ::s]),
        Slip("all in one", "Everything is added to the first number: which one is a thread's own?",
             lambda grad, grad_x, **given:
             np.where(np.arange(grad_x.size).reshape(grad_x.shape) == 0, grad.sum(), 0)),
        Slip("a mean", "This is the mean of each square. The gradient is the sum.",
             lambda s, **given: right(s=s, **given) / s**2),
        Slip("row times height", "A row of grad_x is W / s numbers long, not H / s.",
             lambda grad, grad_x, H, W, s:
             np.bincount((np.arange(H)[:, None] // s * (H // s) + np.arange(W) // s).ravel(),
                         grad.ravel(), grad_x.size).reshape(grad_x.shape)),
    ),
    mutants=(
        Mutant("update not atomic", ADD,
               "    grad_x[target] = grad_x[target] + grad[row * W + col];\n"),
        Mutant("race in global memory", ADD, "    float sum = grad_x[target];\n    grad_x[target] "
               "= sum + grad[row * W + col];\n"),
        Mutant("missing lanes", ADD,
               "    if (col % 2) __syncwarp();\n    grad_x[target] += grad[row * W + col];\n"),
        Mutant("barrier in a branch", ADD,
               "    grad_x[target] += grad[row * W + col];\n    __syncthreads();\n"),
        Mutant("several write one element", "atomicAdd(&grad_x[target], grad[row * W + col])",
               "grad_x[target] = grad[row * W + col]"),
        Mutant("one of each square", "    atomicAdd(",
               "    if (row % s == 0 && col % s == 0) atomicAdd("),
        Mutant("all in one", "&grad_x[target]", "grad_x"),
        Mutant("a mean", "grad[row * W + col])", "grad[row * W + col] / (s * s))"),
        Mutant("row times height", "(W / s)", "(H / s)"),
        Mutant("missing guard", "    if (row >= H || col >= W) return;\n", ""),
        Mutant("few lanes at work", "    if (row >= H || col >= W) return;\n    int target = row / "
               "s * (W / s) + col / s;\n" + ADD, "    if (row > 0 || col > 0) return;\n    for (int"
               " i = 0; i < H * W; i++) grad_x[i / W / s * (W / s) + i % W / s] += grad[i];\n"),
    ),
)  # fmt: skip
