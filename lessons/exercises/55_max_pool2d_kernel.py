"""Max-pooling, one thread per window: each number read once

y[plane][row][col] is the largest of a window of `size` x `size` numbers of x, whose first is at row
`row * stride - padding`, column `col * stride - padding`; `indices` tells where it stood in its
plane, as r * W + c. A place outside of x never wins. Of equal values the first in reading order
counts. (N images of C channels are N * C planes: pooling treats all alike.)

Here the threads are one long row, 256 per block. Thread p computes element p of y, in the order of
arrays: columns run fastest, then rows, then planes; division and remainder split p into the three.

The profiler counts the loads: a 2x2 window at stride 2 shares no number with another, so each
number of x has to be loaded only once. The network in which this kernel then runs pools in the same
way.
"""

import numpy as np

from minseg.array import array_module
from minseg.exercises.task import Case, Goal, Mutant, Slip, Task, Use
from minseg.ops.op import get_op

SOLUTION = """
#define THREADS 256

// launch: grid=(ceil_div(planes * H_out * W_out, THREADS)) block=(THREADS)  in: x  out: y indices
extern "C" __global__ void max_pool2d_kernel(const float* __restrict__ x, float* __restrict__ y,
                                             long long* __restrict__ indices, int planes, int H,
                                             int W, int H_out, int W_out, int size, int stride,
                                             int padding) {
    int p = blockIdx.x * THREADS + threadIdx.x;
    if (p >= planes * H_out * W_out) return;
    int col = p % W_out, row = p / W_out % H_out, plane = p / (H_out * W_out);
    float best = -INFINITY;
    int where = 0;
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            int r = row * stride - padding + i, c = col * stride - padding + j;
            if (r < 0 || r >= H || c < 0 || c >= W) continue;
            float here = x[(plane * H + r) * W + c];
            if (here > best) {
                best = here;
                where = r * W + c;
            }
        }
    y[p] = best;
    indices[p] = where;
}
"""


def right(x, size, stride, padding, **given):
    """(planes, H_out, W_out), and the places."""
    pairs = [(n, n) for n in (size, stride, padding, 1)]
    y, indices = get_op("max_pool2d").definition(x[None].astype(float), *pairs, False)
    return y[0], indices[0]


def with_places(place):
    """The right values, with another index for the place (r, c) of window (row, col)."""

    def answer(x, **given):
        y, indices = right(x, **given)
        r, c = np.divmod(indices, given["W"])
        _, row, col = np.indices(indices.shape)
        i = r - row * given["stride"] + given["padding"]  # (i, j) in the window
        j = c - col * given["stride"] + given["padding"]
        return y, place(r=r, c=c, i=i, j=j, x=x, **given)

    return answer


def of_padded(x, value, **given):
    """Where what lies outside is a value as good as any."""
    size, stride, padding = (given[name] for name in ("size", "stride", "padding"))
    around = ((0, 0), (padding, padding), (padding, padding))
    return right(np.pad(x, around, constant_values=value), size, stride, 0)[0], None


def last_of_equals(x, **given):
    """A little more for each number that comes later, too little to tell unequal ones apart."""
    later = x + 1e-6 * np.arange(x[0].size).reshape(x[0].shape)
    return right(x, **given)[0], right(later, **given)[1]


def side_by_side(x, size, stride, H_out, W_out, **given):
    """Beyond the edge there are windows with nothing in them."""
    x = np.pad(x, ((0, 0), (0, size * H_out), (0, size * W_out)), constant_values=-np.inf)
    return right(x, size=size, stride=size, **given)[0][:, :H_out, :W_out], None


def in_op(max_pool2d_kernel, x, kernel, stride, padding, dilation, ceil_mode):
    """Pairs become numbers. The op can spread a window, and let one hang over the edge, too."""
    squares = all(rows == cols for rows, cols in (kernel, stride, padding))
    sides = zip(x.shape[2:], kernel, stride, padding, strict=True)
    counts, left = zip(*(divmod(n + 2 * p - k, s) for n, k, s, p in sides), strict=True)
    hangs_over = ceil_mode and any(left)
    if not squares or dilation != (1, 1) or hangs_over or x.dtype != np.float32:
        return NotImplemented
    xp, (N, C, H, W), (H_out, W_out) = array_module(x), x.shape, (n + 1 for n in counts)
    y = xp.empty((N, C, H_out, W_out), x.dtype)
    indices = xp.empty(y.shape, np.int64)
    max_pool2d_kernel(xp.ascontiguousarray(x), y, indices, N * C, H, W, H_out, W_out, kernel[0],
                      stride[0], padding[0])  # fmt: skip
    return y, indices


rng = np.random.default_rng(55)


def case(name, x, size, stride, padding=0):
    planes, H, W = x.shape
    H_out, W_out = ((n + 2 * padding - size) // stride + 1 for n in (H, W))
    y, indices = np.zeros((2, planes, H_out, W_out), np.float32)
    return Case(name, {"x": x.astype(np.float32), "y": y, "indices": indices.astype(np.int64),
                       "planes": planes, "H": H, "W": W, "H_out": H_out, "W_out": W_out,
                       "size": size, "stride": stride, "padding": padding})  # fmt: skip


def mixed(*shape):
    """All different, half of them negative."""
    count = np.prod(shape)
    return rng.permutation(count).reshape(shape) / 2 - count // 4


TASK = Task(
    outputs=("y", "indices"),
    reference=right,
    use=Use("max_pool2d", "forward", in_op, lesson="14"),
    terms=1,
    cases=(
        case("two windows", mixed(1, 2, 4), 2, 2),
        case("three planes", mixed(3, 4, 6), 2, 2),
        case("a row and a column left over", mixed(1, 5, 7), 2, 2),
        case("windows that overlap", mixed(2, 5, 6), 3, 1),
        case("all negative, padding 1", mixed(1, 5, 7) - 50, 3, 2, 1),
        case("equal values", rng.integers(0, 3, (2, 5, 7)), 3, 2, 1),
        case("four blocks", mixed(4, 32, 64), 2, 2),
    ),
    goals=(
        Goal("read again and again", "numbers of x are loaded more than once: once to compare, and "
             "once more to keep? Load each into a variable, and use that.",
             lambda counts: counts.loads_of("x") <= 4 * 32 * 64),
        Goal("neighbours apart", "the lanes of a warp access numbers far apart. Neighbouring "
             "threads should have neighbouring columns: col = p % W_out.",
             lambda counts: counts.sectors_a_request <= 8),
    ),
    hints=(
        "A thread goes through its window in reading order, and keeps the best so far and its "
        "place in two variables. At the end it writes both.",
        "col = p % W_out, row = p / W_out % H_out, plane = p / (H_out * W_out). Place (i, j) of "
        "the window is r = row * stride - padding + i, c likewise; skip it unless it is inside of "
        "x; the number is x[(plane * H + r) * W + c].",
        "float best = -INFINITY; int where = 0; for i, for j: if (inside) { float here = x[...]; "
        "if (here > best) { best = here; where = r * W + c; } } then y[p] = best; "
        "indices[p] = where; and all that only if p < planes * H_out * W_out.",
    ),
    slips=(
        Slip("zero wins", "Where all numbers of a window are negative, y is 0: does `best` start "
             "at 0? Start at -INFINITY, and skip what lies outside.",
             lambda x, **given: (np.maximum(right(x, **given)[0], 0), None)),
        Slip("padding wins", "A zero outside of x is larger than the negative numbers around it. "
             "Skip what lies outside.", lambda x, **given: of_padded(x, 0, **given)),
        Slip("last of equals", "Of equal values the last is taken: > keeps the first, >= does not.",
             last_of_equals),
        Slip("index in the window", "The index counts within the window; it should count in the "
             "plane: r * W + c.", with_places(lambda i, j, size, **rest: i * size + j)),
        Slip("index in all of x",
             "The index counts through all planes; it should start again in each plane: r * W + c.",
             with_places(lambda r, c, x, W, **rest:
                         np.arange(len(x))[:, None, None] * x[0].size + r * W + c)),
        Slip("row times height", "A row is W numbers long: r * W + c, not r * H + c.",
             with_places(lambda r, c, H, **rest: r * H + c)),
        Slip("index in the padded image",
             "The index counts in the padded image: r and c have to "
             "be those of x itself.",
             with_places(lambda r, c, W, padding, **rest:
                         (r + padding) * (W + 2 * padding) + c + padding)),
        Slip("the first plane each time", "Every plane gets the maxima of the first: plane * H * W "
             "numbers come before a plane's own.",
             lambda x, **given: right(np.broadcast_to(x[:1], x.shape), **given)),
        Slip("windows side by side", "The windows lie side by side: window (row, col) begins at "
             "row * stride, not at row * size.",
             side_by_side),
    ),
    mutants=(
        Mutant("missing guard", "if (p >= planes * H_out * W_out) return;", ""),
        Mutant("missing guard", "p >= planes", "p > planes"),
        Mutant("missing guard", "if (r < 0 || r >= H || c < 0 || c >= W) continue;", ""),
        Mutant("missing guard", "r < 0 || r >= H || c < 0 || c >= W", "r < 0 || c < 0"),
        Mutant("missing guard", "r < 0 || r >= H || c", "r < 0 || r > H || c"),
        Mutant("zero wins", "best = -INFINITY", "best = 0"),
        Mutant("padding wins",
               "if (r < 0 || r >= H || c < 0 || c >= W) continue;\n            "
               "float here = ", "float here = r < 0 || r >= H || c < 0 || c >= W ? 0 : "),
        Mutant("last of equals", "here > best", "here >= best"),
        Mutant("index in the window", "where = r * W + c", "where = i * size + j"),
        Mutant("index in all of x", "where = r * W + c", "where = (plane * H + r) * W + c"),
        Mutant("row times height", "where = r * W + c", "where = r * H + c"),
        Mutant("the first plane each time", "x[(plane * H + r) * W + c]", "x[r * W + c]"),
        Mutant("windows side by side", "r = row * stride - padding + i, c = col * stride",
               "r = row * size - padding + i, c = col * size"),
        Mutant("nothing written", "    indices[p] = where;\n", ""),
        Mutant("read again and again", "float here = x[(plane * H + r) * W + c];\n            if "
               "(here > best) {\n                best = here;", "const volatile float* here = x + "
               "(plane * H + r) * W + c;\n            if (*here > best) {\n                best = "
               "*here;"),
        Mutant("neighbours apart",
               "int col = p % W_out, row = p / W_out % H_out, plane = p / "
               "(H_out * W_out);",
               "int row = p % H_out, col = p / H_out % W_out, plane = p / (H_out * "
               "W_out);\n    p = (plane * H_out + row) * W_out + col;"),
    ),
)  # fmt: skip
