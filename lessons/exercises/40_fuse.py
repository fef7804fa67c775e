"""FCN: coarse scores and fine ones, added

A fully convolutional network knows *what* in its last, coarse map, and *where* in the finer maps
before it. So each level's scores are doubled and added to those of the next finer level:

    y = crop(double(coarse)) + skip

Doubling is a transposed convolution with a learnt kernel of 4x4 and stride 2: h rows become
2 (h - 1) + 4 = 2 h + 2. The kernel reaches one pixel beyond the image at each side, so the image
itself begins at row 1 and column 1, and is as large as `skip`: 2 h rows, or 2 h - 1, where the
finer map had an odd number of them. Lesson 12 shows what the sum is worth.
"""

import minseg.functional as F
from minseg import Tensor, cat
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task, Use
from minseg.models import fcn


def fuse(coarse: Tensor, skip: Tensor, kernel: Tensor) -> Tensor:
    """The coarse scores, doubled by `kernel` and cropped to the skip, plus the skip.

    coarse (N, K, h, w), skip (N, K, H, W), kernel (K, K, 4, 4) -> y (N, K, H, W), for K classes
    """
    H, W = skip.shape[2:]
    doubled = F.conv_transpose2d(coarse, kernel, stride=2)  # (N, K, 2 h + 2, 2 w + 2)
    return doubled[:, :, 1 : 1 + H, 1 : 1 + W] + skip


def right(coarse, skip, kernel):
    up = with_weights(fcn.upsample(kernel.shape[0], 2), {"weight": kernel})
    return fcn.fuse(coarse, up, skip, fcn.SAME["pool4"])


def double(coarse, kernel):
    return F.conv_transpose2d(coarse, kernel, stride=2)


def cropped_at(top, left):
    def answer(coarse, skip, kernel):
        y = double(coarse, kernel)
        down, across = (y.shape[i] - skip.shape[i] for i in (2, 3))
        row, col = top(down), left(across)
        return y[:, :, row : row + skip.shape[2], col : col + skip.shape[3]] + skip

    return answer


def resized(coarse, skip, kernel):
    y = F.interpolate(double(coarse, kernel), size=skip.shape[2:], mode="bilinear")
    return y + skip


def without_kernel(mode):
    return lambda coarse, skip, kernel: F.interpolate(coarse, skip.shape[2:], mode=mode) + skip


def in_network(fuse, coarse, up, skip, shift):
    """The frame of 100 pixels around the image has other crops."""
    return fuse(coarse, skip, up.weight) if shift == fcn.SAME["pool4"] else NotImplemented


def case(name, N, K, size, skip):
    shapes = {"coarse": (N, K, *size), "skip": (N, K, *skip), "kernel": (K, K, 4, 4)}
    return part_case(name, right, shapes)


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_coarse", "grad_skip", "grad_kernel"),
    reference=right,
    use=Use("minseg.models.fcn", "fuse", in_network, lesson="12"),
    terms=200,
    cases=(
        case("one pixel becomes 2x2", 1, 1, (1, 1), (2, 2)),
        case("2x3 pixels, one class", 1, 1, (2, 3), (4, 6)),
        case("two images, two classes", 2, 2, (1, 2), (2, 4)),
        case("an odd number of columns", 1, 2, (2, 2), (4, 3)),
        case("an odd number of rows", 1, 2, (3, 2), (5, 4)),
    ),
    edge_cases=(case("one pixel stays one", 1, 3, (1, 1), (1, 1)),),
    hints=(
        "Three steps: double the coarse scores, cut out what lies on the skip, add the skip.",
        "F.conv_transpose2d(coarse, kernel, stride=2) has 2 h + 2 rows; the skip's H of them begin "
        "at row 1: rows 1 to H, both included, and columns likewise.",
        "H, W = skip.shape[2:]; doubled = F.conv_transpose2d(coarse, kernel, stride=2); "
        "return doubled[:, :, 1 : 1 + H, 1 : 1 + W] + skip.",
    ),
    slips=(
        Slip("crop at the corner", "The crop begins at row 0 and column 0: everything is one pixel "
             "too far down and right. The image begins at row 1, column 1.",
             cropped_at(lambda down: 0, lambda across: 0)),
        Slip("crop at the far corner", "The last rows and columns are kept. The image begins at "
             "row 1, column 1.", cropped_at(lambda down: down, lambda across: across)),
        Slip("crop rounded up", "Where 3 rows or columns are too many, 1 goes at the top or left, "
             "2 at the other end.", cropped_at(lambda n: (n + 1) // 2, lambda n: (n + 1) // 2)),
        Slip("resized, not cropped", "The doubled scores are squeezed into the skip's size: no "
             "pixel lies in its own place any more. Cut the border off.", resized),
        Slip("concatenated", "The skip's channels stand behind the doubled ones; that is the U-Net."
             " The FCN adds scores, class by class.", lambda coarse, skip, kernel: cat(
                 [double(coarse, kernel)[:, :, 1 : 1 + skip.shape[2], 1 : 1 + skip.shape[3]], skip],
                 dim=1)),
        Slip("averaged", "This is half of the sum; just add the scores.",
             lambda coarse, skip, kernel: 0.5 * right(coarse, skip, kernel)),
        Slip("forgot the skip", "These are the doubled scores alone: the skip is missing.",
             lambda coarse, skip, kernel: right(coarse, skip * 0, kernel)),
        Slip("forgot the kernel", "The coarse scores are interpolated bilinearly. That is how the "
             "kernel begins; it has learnt since: use it.", without_kernel("bilinear")),
        Slip("forgot the kernel", "Each coarse score is repeated. The kernel says how a score "
             "spreads over the pixels around: use it.", without_kernel("nearest")),
        Slip("kernel's classes swapped", "kernel[k, j] leads from the coarse class k to the class "
             "j, as F.conv_transpose2d reads it; here it is the other way round.",
             lambda coarse, skip, kernel: right(coarse, skip, kernel.transpose(0, 1))),
        Slip("flipped kernel", "The kernel is turned by 180 degrees. A transposed convolution "
             "spreads it as it is: there is nothing to flip.",
             lambda coarse, skip, kernel: right(coarse, skip, kernel[:, :, ::-1, ::-1])),
    ),
    mutants=(
        Mutant("crop at the corner", "[:, :, 1 : 1 + H, 1 : 1 + W]", "[:, :, :H, :W]"),
        Mutant("crop at the far corner", "[:, :, 1 : 1 + H, 1 : 1 + W]", "[:, :, -H:, -W:]"),
        Mutant("resized, not cropped", "doubled[:, :, 1 : 1 + H, 1 : 1 + W]",
               'F.interpolate(doubled, (H, W), mode="bilinear")'),
        Mutant("concatenated", "doubled[:, :, 1 : 1 + H, 1 : 1 + W] + skip",
               "cat([doubled[:, :, 1 : 1 + H, 1 : 1 + W], skip], dim=1)"),
        Mutant("averaged", "return doubled[:, :, 1 : 1 + H, 1 : 1 + W] + skip",
               "return (doubled[:, :, 1 : 1 + H, 1 : 1 + W] + skip) / 2"),
        Mutant("forgot the skip", "1 : 1 + W] + skip", "1 : 1 + W]"),
        Mutant("forgot the kernel", "doubled[:, :, 1 : 1 + H, 1 : 1 + W]",
               'F.interpolate(coarse, size=(H, W), mode="bilinear")'),
        Mutant("off the tape", "1 : 1 + W] + skip", "1 : 1 + W] + skip.detach()"),
        Mutant("values", "1 : 1 + H, 1 : 1 + W]", "1:-1, 1:-1]"),
        Mutant("own work", "import minseg.functional as F",
               "import minseg.functional as F\nfrom minseg.models import fcn"),
    ),
)  # fmt: skip
