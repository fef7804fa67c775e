"""ASPP: several rates at once

Objects come in all sizes, so DeepLabV3 looks at one map with several rates side by side, and at the
whole image as well ("atrous spatial pyramid pooling"):

    a 1x1 convolution                       w1
    3x3 convolutions, one per rate          w3[i] with rates[i], padded so that the size stays
    image pooling                           mean over all pixels, 1x1 (w_image), ReLU, repeated

Each ends with a ReLU. Their channels are concatenated in this order, and a 1x1 convolution,
`project`, and one more ReLU join them. There is no bias. (The networks have a batch norm before
each ReLU, which is left out here.)
"""

import minseg.functional as F
from minseg import Tensor, cat
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task
from minseg.models.deeplabv3 import ASPP


def aspp(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w_image: Tensor,
    project: Tensor,
    rates: tuple[int, ...],
) -> Tensor:
    """The branches above, joined.

    x (N, C, H, W), w1 (O, C, 1, 1), w3 (R, O, C, 3, 3), w_image (O, C, 1, 1),
    project (O, (R + 2) * O, 1, 1), rates: R whole numbers -> y (N, O, H, W)
    """
    branches = [F.conv2d(x, w1)]
    for i, rate in enumerate(rates):
        branches.append(F.conv2d(x, w3[i], padding=rate, dilation=rate))
    image = F.conv2d(x.mean(dim=(2, 3), keepdim=True), w_image)
    branches.append(image.expand(-1, -1, *x.shape[2:]))
    joined = cat([F.relu(branch) for branch in branches], dim=1)  # (N, (R + 2) O, H, W)
    return F.relu(F.conv2d(joined, project))


def right(x, w1, w3, w_image, project, rates):
    module = ASPP(x.shape[1], rates, w1.shape[0])
    weights = {f"convs.{i}.0.weight": w3[i - 1] for i in range(1, len(rates) + 1)}
    weights |= {"convs.0.0.weight": w1, f"convs.{len(rates) + 1}.1.weight": w_image}
    return with_weights(module, {**weights, "project.0.weight": project})(x)


def as_it_is(y):
    return y


def other(
    rate=lambda i, rates: rates[i],
    weight=lambda i, w3: w3[i],
    image=lambda x, w: F.conv2d(x.mean(dim=(2, 3), keepdim=True), w),
    relu=F.relu,
    image_relu=F.relu,
    order=lambda branches: branches,
    source=lambda x, branches: x,
    join=lambda branches, project: F.relu(F.conv2d(cat(branches, dim=1), project)),
):
    """ASPP with another step."""

    def answer(x, w1, w3, w_image, project, rates):
        branches = [F.conv2d(x, w1)]
        for i in range(len(rates)):
            r = rate(i, rates)
            below = source(x, branches)
            branches.append(F.conv2d(below, weight(i, w3), padding=r, dilation=r))
        size = (x.shape[0], -1, *x.shape[2:])
        pooled = image(x, w_image).expand(*size)
        return join(order([*map(relu, branches), image_relu(pooled)]), project)

    return answer


def total(branches):
    return sum(branches[1:], start=branches[0])


def case(name, N, C, O, size, rates):
    shapes = {
        "x": (N, C, *size),
        "w1": (O, C, 1, 1),
        "w3": (len(rates), O, C, 3, 3),
        "w_image": (O, C, 1, 1),
        "project": (O, (len(rates) + 2) * O, 1, 1),
    }
    return part_case(name, right, shapes, digits=1, rates=rates)


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_x", "grad_w1", "grad_w3", "grad_w_image", "grad_project"),
    reference=right,
    terms=1000,
    cases=(
        case("one rate, 1", 1, 1, 1, (3, 4), (1,)),
        case("rates 2 and 3", 1, 1, 1, (5, 6), (2, 3)),
        case("two channels, rates 1 and 4", 1, 2, 2, (7, 5), (1, 4)),
        case("two images, rates 3, 1, 2", 2, 1, 2, (4, 7), (3, 1, 2)),
    ),
    edge_cases=(
        case("a map smaller than the rates", 1, 2, 1, (2, 3), (6, 12)),
        case("a map of one pixel", 2, 2, 1, (1, 1), (6, 12, 18)),
    ),
    hints=(
        "Make a list of branches, all (N, O, H, W); join them with cat along the channels; then one"
        " 1x1 convolution. Image pooling you have written before.",
        "A 3x3 kernel with rate r spans 2 r + 1 pixels; so it needs padding=r, dilation=r to keep "
        "the size. cat of R + 2 branches is (N, (R + 2) O, H, W).",
        "[F.conv2d(x, w1), *(F.conv2d(x, w3[i], padding=r, dilation=r) for i, r in "
        "enumerate(rates)), F.conv2d(x.mean(dim=(2, 3), keepdim=True), w_image).expand(-1, -1, "
        "*x.shape[2:])]; F.relu on each, cat(.., dim=1), F.relu(F.conv2d(.., project)).",
    ),
    slips=(
        Slip("one rate for all", "All 3x3 convolutions have the first rate: branch i has "
             "rates[i].", other(rate=lambda i, rates: rates[0])),
        Slip("one rate for all", "All 3x3 convolutions have the last rate: branch i has "
             "rates[i].", other(rate=lambda i, rates: rates[-1])),
        Slip("forgot the rates", "All 3x3 convolutions have the rate 1: dilation is left out.",
             other(rate=lambda i, rates: 1)),
        Slip("one kernel for all", "All 3x3 convolutions have the kernel w3[0]: branch i has "
             "w3[i].", other(weight=lambda i, w3: w3[0])),
        Slip("one after the other", "Each 3x3 convolution works on the output of the one before "
             "it. All of them should look at x, side by side.",
             other(source=lambda x, branches: F.relu(branches[-1]) if branches[1:] else x)),
        Slip("one after the other", "Each convolution works on the output of the one before it. "
             "All of them should look at x, side by side.",
             other(source=lambda x, branches: F.relu(branches[-1]))),
        Slip("rates in another order", "The rates are taken from the last to the first.",
             other(rate=lambda i, rates: rates[::-1][i])),
        Slip("forgot the ReLU of the branches", "The branches have no ReLU: each ends with one, "
             "before they are joined.", other(relu=as_it_is, image_relu=as_it_is)),
        Slip("forgot the ReLU of image pooling", "The last branch has no ReLU: each ends with one, "
             "before they are joined.", other(image_relu=as_it_is)),
        Slip("forgot the last ReLU", "The projection has no ReLU: one comes after it.",
             other(join=lambda branches, project: F.conv2d(cat(branches, dim=1), project))),
        Slip("summed", "The branches are added; that is DeepLabV2. V3 concatenates their channels "
             "and joins them by `project`.",
             other(join=lambda branches, project: total(branches))),
        Slip("not projected", "These are the channels of all branches: `project` and a ReLU join "
             "them.", other(join=lambda branches, project: cat(branches, dim=1))),
        Slip("wrong order", "Image pooling comes first; it should come last, the order in which "
             "`project` has learnt them.",
             other(order=lambda branches: [branches[-1], *branches[:-1]])),
        Slip("wrong order", "The 3x3 convolutions come before the 1x1; it should come first.",
             other(order=lambda branches: [*branches[1:-1], branches[0], branches[-1]])),
        Slip("forgot the image pooling", "The last branch contributes nothing. It should be the "
             "mean over all pixels, w_image, ReLU, repeated.",
             lambda **given: right(**{**given, "w_image":
                                                                  0 * given["w_image"]})),
        Slip("image pooling not pooled", "The last branch is a 1x1 convolution of every pixel: the "
             "mean over the image is missing.", other(image=lambda x, w: F.conv2d(x, w))),
        Slip("image pooling of all images", "The last branch averages over the images, too: "
             "dim=(2, 3).",
             other(image=lambda x, w: F.conv2d(x.mean(dim=(0, 2, 3), keepdim=True), w))),
        Slip("image pooling summed", "The last branch has the sum over the pixels; take the mean.",
             other(image=lambda x, w: F.conv2d(x.sum(dim=(2, 3), keepdim=True), w))),
    ),
    mutants=(
        Mutant("one rate for all", "padding=rate, dilation=rate",
               "padding=rates[0], dilation=rates[0]"),
        Mutant("forgot the rates", "padding=rate, dilation=rate", "padding=1"),
        Mutant("one kernel for all", "(x, w3[i]", "(x, w3[0]"),
        Mutant("forgot the ReLU of the branches", "[F.relu(branch) for branch in branches]",
               "branches"),
        Mutant("one after the other", "F.conv2d(x, w3[i],", "F.conv2d(x if i == 0 else "
               "F.relu(branches[-1]), w3[i],"),
        Mutant("forgot the image pooling", "(x.mean(", "(0 * x.mean("),
        Mutant("forgot the last ReLU", "return F.relu(F.conv2d(joined, project))",
               "return F.conv2d(joined, project)"),
        Mutant("summed", "return F.relu(F.conv2d(joined, project))",
               "return sum([F.relu(b) for b in branches[1:]], start=F.relu(branches[0]))"),
        Mutant("not projected", "return F.relu(F.conv2d(joined, project))", "return joined"),
        Mutant("wrong order", "for branch in branches]", "for branch in [branches[-1], "
               "*branches[:-1]]]"),
        Mutant("image pooling not pooled", "x.mean(dim=(2, 3), keepdim=True)", "x"),
        Mutant("values", "padding=rate, dilation=rate", "padding=1, dilation=rate"),
        Mutant("first run", "    branches.append(image.expand(-1, -1, *x.shape[2:]))\n", ""),
        Mutant("first run", ".expand(-1, -1, *x.shape[2:])", ""),
    ),
)  # fmt: skip
