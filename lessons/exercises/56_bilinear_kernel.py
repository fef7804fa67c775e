"""Bilinear upsampling, one thread per pixel

Output (row, col) of a plane looks at a place of the input plane, down and across:

    down = max((row + 1/2) * H / H_out - 1/2, 0)           across: likewise, with col, W and W_out

and mixes the four pixels around it. With top = floor(down) and f = down - top, row `top` has the
weight 1 - f, and the next one f (the last row is its own next one); columns likewise.

    y = (1 - f) * ((1 - g) * x[top][left] + g * x[top][right])
          + f   * ((1 - g) * x[bottom][left] + g * x[bottom][right])

Thread p computes element p of y: columns run fastest, then rows, then planes. Four loads per thread
are enough. Mind what C does with H / H_out, where both are integers.
"""

import numpy as np

from minseg.array import array_module
from minseg.exercises.task import Case, Goal, Mutant, Slip, Task, Use
from minseg.ops.interpolate import interpolate_definition

SOLUTION = """
#define THREADS 256

// launch: grid=(ceil_div(planes * H_out * W_out, THREADS)) block=(THREADS)  in: x  out: y
extern "C" __global__ void bilinear_kernel(const float* __restrict__ x, float* __restrict__ y,
                                           int planes, int H, int W, int H_out, int W_out) {
    int p = blockIdx.x * THREADS + threadIdx.x;
    if (p >= planes * H_out * W_out) return;
    int col = p % W_out, row = p / W_out % H_out, plane = p / (H_out * W_out);
    float down = fmaxf((row + 0.5f) * H / H_out - 0.5f, 0);
    float across = fmaxf((col + 0.5f) * W / W_out - 0.5f, 0);
    int top = (int)down, bottom = min(top + 1, H - 1);
    int left = (int)across, right = min(left + 1, W - 1);
    float f = down - top, g = across - left;
    const float* from = x + plane * H * W;
    float upper = (1 - g) * from[top * W + left] + g * from[top * W + right];
    float lower = (1 - g) * from[bottom * W + left] + g * from[bottom * W + right];
    y[p] = (1 - f) * upper + f * lower;
}
"""


def resized(x, H_out, W_out, align_corners=False):
    given = ((H_out, W_out), (None, None), "linear", align_corners)
    return interpolate_definition(x[None].astype(float), *given)[0]


def reference(x, y, planes, H, W, H_out, W_out):
    return resized(x, H_out, W_out)


def centre(o, n, out):
    return (o + 0.5) * n / out - 0.5


def changed(place=centre, weight=lambda f: f, least=0, swapped=False):
    """Another rule for the places, their least, or the weights; or the rule of the other axis."""

    def answer(x, H, W, H_out, W_out, **given):
        x = x.astype(float)
        for axis, n, out in ((1, H, H_out), (2, W, W_out)):
            of = (H + W - n, H_out + W_out - out) if swapped else (n, out)
            p = np.maximum([place(o, *of) for o in range(out)], least)
            first = p.astype(int)  # IndexError where it reads elsewhere
            f = weight(p - first)[:, None] if axis == 1 else weight(p - first)
            second = np.minimum(first + 1, n - 1)
            x = x.take(first, axis) * (1 - f) + x.take(second, axis) * f
        return x

    return answer


def in_op(bilinear_kernel, x, size, scales, how, align_corners):
    """The op resizes in other ways, too, and by a scale that is not the ratio of the sizes."""
    ratios = [b / a for a, b in zip(x.shape[2:], size, strict=True)]
    by_ratio = all(given in (None, ratio) for given, ratio in zip(scales, ratios, strict=True))
    if (how != "linear" or align_corners or x.ndim != 4 or not by_ratio
            or x.dtype != np.float32):  # fmt: skip
        return NotImplemented
    xp, (N, C, H, W) = array_module(x), x.shape
    y = xp.empty((N, C, *size), x.dtype)
    bilinear_kernel(xp.ascontiguousarray(x), y, N * C, H, W, *size)
    return y


rng = np.random.default_rng(56)


def case(name, planes, H, W, H_out, W_out):
    x = rng.integers(-9, 10, (planes, H, W)).astype(np.float32)
    y = np.zeros((planes, H_out, W_out), np.float32)
    return Case(name, {"x": x, "y": y, "planes": planes, "H": H, "W": W, "H_out": H_out,
                       "W_out": W_out})  # fmt: skip


TASK = Task(
    outputs=("y",),
    reference=reference,
    use=Use("interpolate", "forward", in_op, lesson="18"),
    terms=100,  # 16, but f has the rounding of `across`: 16 eps, times a difference of 2 max |x|
    cases=(
        case("a row of two", 1, 1, 2, 2, 4),
        case("twice as large", 1, 3, 4, 6, 8),
        case("two planes, no whole multiple", 2, 3, 4, 5, 7),
        case("smaller", 1, 6, 5, 4, 3),
        case("one pixel", 2, 1, 1, 3, 2),
        case("four blocks", 2, 8, 16, 16, 32),
    ),
    goals=(
        Goal("read again and again",
             "more than four numbers of x are loaded for one number of y. Find out which four are "
             "needed, and load each once.",
             lambda counts: counts.loads_of("x") <= 4 * 2 * 16 * 32),
        Goal("neighbours apart", "the lanes of a warp access numbers far apart. Neighbouring "
             "threads should have neighbouring columns: col = p % W_out.",
             lambda counts: counts.sectors_a_request <= 4),
    ),
    hints=(
        "Take p apart into plane, row and column, then think of one axis at a time: which two "
        "rows, with which weights? Which two columns?",
        "down = max((row + 0.5f) * H / H_out - 0.5f, 0), top = (int)down, bottom = top + 1 but not "
        "beyond H - 1, f = down - top. x[(plane * H + top) * W + left] is one of the four.",
        "int top = (int)down, bottom = min(top + 1, H - 1); (left, right likewise) float f = down "
        "- top, g = across - left; upper = (1 - g) * x[..top..left] + g * x[..top..right]; lower "
        "likewise; y[p] = (1 - f) * upper + f * lower;",
    ),
    slips=(
        Slip("integer division", "Every output is the plane's first pixel, as if its place were 0: "
             "where H and H_out are integers, C's H / H_out drops the fraction.",
             changed(lambda o, n, out: (o + 0.5) * (n // out) - 0.5)),
        Slip("half a pixel off",
             "Your place is row * H / H_out. Pixels are squares: their centres are half a pixel "
             "in, on both sides: (row + 0.5f) * H / H_out - 0.5f.",
             changed(lambda o, n, out: o * n / out)),
        Slip("half a pixel missing", "Your place is (row + 0.5f) * H / H_out; subtract half a "
             "pixel from it.", changed(lambda o, n, out: min((o + 0.5) * n / out, n - 1e-9))),
        Slip("align_corners",
             "Your place is row * (H - 1) / (H_out - 1): that is align_corners, where ends meet "
             "ends. Here corners meet corners.",
             lambda x, H_out, W_out, **given: resized(x, H_out, W_out, True)),
        Slip("weights swapped", "The nearer pixel gets the smaller weight: row `top` has the "
             "weight 1 - f.",
             changed(weight=lambda f: 1 - f)),
        Slip("nearest",
             "Each output is a copy of one pixel: is f rounded, or an int? In C, 1/2 is "
             "0.",
             changed(weight=np.round)),
        Slip("the pixel before only", "Each output is a copy of x[top][left]: f and g are 0. Is "
             "`down` an int?", changed(weight=lambda f: 0 * f)),
        Slip("place below 0",
             "At the upper and left border the place is below 0, and so is a weight. Beyond the "
             "edge there is only the edge: fmaxf(..., 0).", changed(least=-1)),
        Slip("sides swapped",
             "Rows and columns have changed places: H and H_out belong to the "
             "rows, W and W_out to the columns.", changed(swapped=True)),
        Slip("the first plane each time",
             "Every plane of y is computed from the first plane of x: plane * H * W numbers come "
             "before a plane's own.",
             lambda x, **given: reference(np.broadcast_to(x[:1], x.shape), **given)),
    ),
    mutants=(
        Mutant("missing guard", "if (p >= planes * H_out * W_out) return;", ""),
        Mutant("missing guard", "right = min(left + 1, W - 1)", "right = left + 1"),
        Mutant("missing guard", "bottom = min(top + 1, H - 1)", "bottom = top + 1"),
        Mutant("place below 0",
               "fmaxf((row + 0.5f) * H / H_out - 0.5f, 0);\n    float across = "
               "fmaxf((col + 0.5f) * W / W_out - 0.5f, 0)",
               "(row + 0.5f) * H / H_out - 0.5f;\n    float "
               "across = (col + 0.5f) * W / W_out - 0.5f"),
        Mutant("integer division",
               "(row + 0.5f) * H / H_out - 0.5f, 0);\n    float across = "
               "fmaxf((col + 0.5f) * W / W_out",
               "(row + 0.5f) * (H / H_out) - 0.5f, 0);\n    float "
                                          "across = fmaxf((col + 0.5f) * (W / W_out)"),
        Mutant("half a pixel off",
               "(row + 0.5f) * H / H_out - 0.5f, 0);\n    float across = "
               "fmaxf((col + 0.5f) * W / W_out - 0.5f",
               "(float)row * H / H_out, 0);\n    float across = "
               "fmaxf((float)col * W / W_out"),
        Mutant("half a pixel missing", "(row + 0.5f) * H / H_out - 0.5f, 0);\n    float across = "
               "fmaxf((col + 0.5f) * W / W_out - 0.5f", "(row + 0.5f) * H / H_out, 0);\n    float "
               "across = fmaxf((col + 0.5f) * W / W_out"),
        Mutant("weights swapped", "float f = down - top, g = across - left;",
               "float f = 1 - (down - top), g = 1 - (across - left);"),
        Mutant("the pixel before only", "float f = down - top, g = across - left;",
               "int f = down - top, g = across - left;"),
        Mutant("nearest", "float f = down - top, g = across - left;",
               "float f = rintf(down - top), g = rintf(across - left);"),
        Mutant("sides swapped", "(row + 0.5f) * H / H_out - 0.5f, 0);\n    float across = "
               "fmaxf((col + 0.5f) * W / W_out",
               "(row + 0.5f) * W / W_out - 0.5f, 0);\n    float across "
                                          "= fmaxf((col + 0.5f) * H / H_out"),
        Mutant("the first plane each time", "x + plane * H * W", "x"),
        Mutant("read again and again",
               "y[p] = (1 - f) * upper + f * lower;",
               "y[p] = 0;\n    for "
               "(int r = 0; r < H; r++) {\n        float weight = (r == top) * (1 - f) + (r == "
               "bottom) * f;\n        y[p] += weight * ((1 - g) * from[r * W + left] + g * from[r "
               "* W + right]);\n    }"),
        Mutant("neighbours apart",
               "int col = p % W_out, row = p / W_out % H_out, plane = p / "
               "(H_out * W_out);",
               "int row = p % H_out, col = p / H_out % W_out, plane = p / (H_out * "
               "W_out);\n    p = (plane * H_out + row) * W_out + col;"),
    ),
)  # fmt: skip
