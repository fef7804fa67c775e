"""Image pooling: the whole scene, beside every pixel

A boat looks like a car to a network that sees nothing else. So DeepLab, ParseNet and PSPNet give
every pixel the average of the map over the whole image, as features of their own:

    mean[n, c]       = the mean of x[n, c] over all pixels
    y[n, o, r, q]    = ReLU(b[o] + sum over c of w[o, c] * mean[n, c])      the same at all r, q

The 1x1 convolution w works on a single pixel, so it costs nothing; then that pixel is repeated. (In
the networks there is a batch norm before the ReLU; here, as after training, it is folded into w and
b.)
"""

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task
from minseg.models.deeplabv3 import ImagePooling


def image_pooling(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """The formulas above.

    x (N, C, H, W), w (O, C, 1, 1), b (O,) -> y (N, O, H, W)
    """
    mean = x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    y = F.relu(F.conv2d(mean, w, b))  # (N, O, 1, 1)
    return y.expand(-1, -1, *x.shape[2:])


def right(x, w, b):
    pooling = ImagePooling(w.shape[1], w.shape[0])
    return with_weights(pooling, {"1.weight": w, "2.bias": b})(x)


def of(pool, relu=F.relu):
    """Another average, or another function after it."""

    def answer(x, w, b):
        y = relu(F.conv2d(pool(x), w, b))
        return y.expand(len_of(x, y), -1, *x.shape[2:]) if y.shape[2:] == (1, 1) else y

    return answer


def len_of(x, y):
    return max(x.shape[0], y.shape[0])


def mean(x):
    return x.mean(dim=(2, 3), keepdim=True)


def rows_and_columns(x):
    """Means of the 3x3 pixels around each."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


def case(name, N, C, O, size):
    return part_case(name, right, {"x": (N, C, *size), "w": (O, C, 1, 1), "b": (O,)}, digits=1)


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_x", "grad_w", "grad_b"),
    reference=right,
    terms=200,
    cases=(
        case("2x2, one channel", 1, 1, 1, (2, 2)),
        case("2x3, two channels", 1, 2, 2, (2, 3)),
        case("two images, 4x5, three channels from two", 2, 2, 3, (4, 5)),
        case("3x7, two channels from four", 2, 4, 2, (3, 7)),
    ),
    edge_cases=(case("a map of one pixel", 2, 2, 3, (1, 1)),),
    hints=(
        "Average over rows and columns at once, treat the result as an image of one pixel, and give"
        " every place that pixel's features.",
        "x.mean(dim=(2, 3), keepdim=True) is (N, C, 1, 1), F.conv2d makes (N, O, 1, 1) of it; "
        "expand(-1, -1, H, W) repeats it. (F.interpolate to the size of x does as well.)",
        "y = F.relu(F.conv2d(x.mean(dim=(2, 3), keepdim=True), w, b)); "
        "return y.expand(-1, -1, *x.shape[2:]).",
    ),
    slips=(
        Slip("not repeated", "This is one pixel per image. Every place of the map gets it: "
             "expand(-1, -1, H, W), or F.interpolate to that size.",
             lambda x, w, b: F.relu(F.conv2d(mean(x), w, b))),
        Slip("not repeated", "These are O numbers per image. Every place of the map gets them: "
             "reshape to (N, O, 1, 1), then expand(-1, -1, H, W).",
             lambda x, w, b: F.relu(F.conv2d(mean(x), w, b)).flatten(1)),
        Slip("not pooled", "Every pixel keeps its own features: the average over the image is "
             "missing.", of(lambda x: x)),
        Slip("averaged over neighbours", "Each pixel has the average of those around it. Pool over "
             "the whole image.", of(rows_and_columns)),
        Slip("summed", "This is the sum over the pixels; take the mean, which does not grow with "
             "the image.",
             of(lambda x: x.sum(dim=(2, 3), keepdim=True))),
        Slip("maximum", "This is the largest value of the image; take the mean.",
             of(lambda x: x.amax(dim=(2, 3), keepdim=True))),
        Slip("averaged over rows only", "Each column has its own average: average over both axes, "
             "dim=(2, 3).", of(lambda x: x.mean(dim=2, keepdim=True).expand(*x.shape))),
        Slip("averaged over columns only", "Each row has its own average: average over both axes, "
             "dim=(2, 3).", of(lambda x: x.mean(dim=3, keepdim=True).expand(*x.shape))),
        Slip("images mixed", "All images have the same average: leave axis 0 out, dim=(2, 3).",
             of(lambda x: x.mean(dim=(0, 2, 3), keepdim=True))),
        Slip("channels mixed", "All channels have the same average: leave axis 1 out, dim=(2, 3).",
             of(lambda x: x.mean(dim=(1, 2, 3), keepdim=True).expand(-1, x.shape[1], -1, -1))),
        Slip("forgot the ReLU", "The ReLU is missing: negative numbers should become 0.",
             of(mean, relu=lambda y: y)),
        Slip("ReLU too early", "The ReLU stands before the convolution; it belongs after it.",
             of(lambda x: F.relu(mean(x)), relu=lambda y: y)),
        Slip("pooled last", "The convolution and the ReLU work on all pixels, and the result is "
             "averaged. Average first: the mean of a ReLU is not the ReLU of the mean.",
             lambda x, w, b: mean(F.relu(F.conv2d(x, w, b))).expand(-1, -1, *x.shape[2:])),
        Slip("forgot the bias", "b is missing: each output channel o gets b[o] added.",
             lambda x, w, b: right(x, w, 0 * b)),
    ),
    mutants=(
        Mutant("not repeated", "return y.expand(-1, -1, *x.shape[2:])", "return y"),
        Mutant("not pooled", "return y.expand(-1, -1, *x.shape[2:])",
               "return F.relu(F.conv2d(x, w, b))"),
        Mutant("summed", "x.mean(", "x.sum("),
        Mutant("maximum", "x.mean(", "x.amax("),
        Mutant("averaged over rows only", "mean = x.mean(dim=(2, 3), keepdim=True)",
               "mean = x.mean(dim=2, keepdim=True)"),
        Mutant("images mixed", "return y.expand(-1, -1,", "y = F.relu(F.conv2d(x.mean(dim=(0, 2, 3)"
               ", keepdim=True), w, b))\n    return y.expand(x.shape[0], -1,"),
        Mutant("forgot the ReLU", "F.relu(F.conv2d(mean, w, b))", "F.conv2d(mean, w, b)"),
        Mutant("ReLU too early", "F.relu(F.conv2d(mean, w, b))", "F.conv2d(F.relu(mean), w, b)"),
        Mutant("pooled last", "F.relu(F.conv2d(mean, w, b))",
               "F.relu(F.conv2d(x, w, b)).mean(dim=(2, 3), keepdim=True)"),
        Mutant("forgot the bias", "(mean, w, b)", "(mean, w)"),
        Mutant("off the tape", "F.conv2d(mean, w, b)", "F.conv2d(Tensor(mean.numpy()), w, b)"),
        Mutant("first run", ", keepdim=True)", ")"),
    ),
)  # fmt: skip
