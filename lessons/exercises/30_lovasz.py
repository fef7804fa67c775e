"""Lovasz: IoU itself as a loss

1 - IoU of a class counts wrong pixels, and counting has no gradient. The Lovasz extension lets a
pixel be wrong by a degree m: for a pixel of the class, 1 - its probability of the class; for any
other, the probability itself. Sort by m, the worst first. Let J(i) be 1 - IoU if the first i pixels
of this order were wrong and all others right:

    J(i) = 1 - (G - lost) / (G + extra)       G: number of pixels of the class;
                                              among the first i, `lost` are of it, `extra` are not

Then the weight of each pixel is what it adds to J when it joins those before it:

    loss = sum over i of  m(i) * (J(i) - J(i - 1)),      J(0) = 0

The weights depend on the order alone. While the order stays the same, the loss is linear in m, and
the weights are its gradient. Each belongs at its pixel's own place, not at the sorted one.

    m = 0.2 0.9,  truth = 1 0  ->  order 0.9 0.2;  J = 1/2, 1;  loss = 0.9 / 2 + 0.2 / 2 = 0.55
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.ops.lovasz_loss import lovasz_definition, lovasz_factors


def lovasz(m: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss of one class, and its gradient with respect to m.

    m (P,) in 0..1, truth (P,) of bools: is the pixel of the class? -> loss, a number, and grad
    (P,), both of m's dtype
    """
    order = np.argsort(-m)
    hit = truth[order]
    total = hit.sum()
    J = 1 - (total - hit.cumsum()) / (total + (~hit).cumsum())
    weight = np.diff(J, prepend=0)
    grad = np.empty_like(m)
    grad[order] = weight
    return m @ grad, grad


def right(m, truth):
    factors = lovasz_factors(m[None], truth[None], np.ones((1, m.size), bool))[0]
    return np.float64(lovasz_definition(m, truth)), factors


def other(order=lambda m: np.argsort(-m), J=None, steps=lambda J: np.diff(J, prepend=0)):
    """Another order, another J(lost, extra, G, i), or other weights from it."""

    def answer(m, truth):
        places = order(m)
        hit = truth[places]
        i = np.arange(1, m.size + 1)
        counted = hit.cumsum(), (~hit).cumsum(), hit.sum(), i
        weight = steps((J or jaccard)(*counted))
        grad = np.empty_like(m)
        grad[places] = weight
        return m @ grad, grad

    return answer


def jaccard(lost, extra, G, i):
    return 1 - (G - lost) / (G + extra)


def in_sorted_order(m, truth):
    loss, grad = right(m, truth)
    return loss, grad[np.argsort(-m)]


def truth_not_sorted(m, truth):
    total = truth.sum()
    J = 1 - (total - truth.cumsum()) / (total + (~truth).cumsum())
    grad = np.empty_like(m)
    grad[np.argsort(-m)] = np.diff(J, prepend=0)
    return m @ grad, grad


def soft_iou(m, truth):
    """1 - IoU with probabilities in the place of counts."""
    p = np.where(truth, 1 - m, m)
    return 1 - (p * truth).sum() / (p + truth - p * truth).sum(), None


def nothing_where_absent(m, truth):
    if truth.any():
        raise ValueError("the class is there")
    return 0.0, np.zeros_like(m)


rng = np.random.default_rng(62)


def case(name, *truth):
    m = (rng.permutation(len(truth)) + 1) / (len(truth) + 1)  # no two are the same
    return Case(name, {"m": m.round(2), "truth": np.array(truth, bool)})


TASK = Task(
    outputs=("loss", "grad"),
    reference=right,
    terms=100,
    cases=(
        Case("four pixels", {"m": np.array([0.9, 0.6, 0.1, 0.3]),
                             "truth": np.array([True, False, True, False])}),
        case("three pixels", 1, 0, 1),
        case("six pixels", 0, 1, 1, 0, 1, 0),
        case("a rare class", 0, 0, 0, 1, 0, 0, 0, 0),
        case("a frequent class", 1, 1, 0, 1, 1, 1, 0, 1, 1),
    ),
    edge_cases=(
        case("all pixels are of the class", 1, 1, 1),
        case("no pixel is of the class", 0, 0, 0),
        case("one pixel", 1),
    ),
    hints=(
        "np.argsort(-m) gives the order, the worst first. Going along it, two running counts say "
        "everything: how many of the class were passed, and how many of the others.",
        "hit = truth[order]; lost = hit.cumsum(), extra = (~hit).cumsum(), G = hit.sum(); J = 1 - "
        "(G - lost) / (G + extra); a pixel's weight is J(i) - J(i - 1), the first one's J(1).",
        "weight = np.diff(J, prepend=0); grad = np.empty_like(m); grad[order] = weight puts every "
        "weight at its pixel; loss = (m * grad).sum().",
    ),
    slips=(
        Slip("the best first", "Sorted from the smallest error to the largest; the worst comes "
             "first: np.argsort(-m).", other(order=np.argsort)),
        Slip("not sorted", "The pixels are taken as they come: sort them by m, the worst first.",
             other(order=lambda m: np.arange(m.size))),
        Slip("truth not sorted", "m is sorted, but truth is not: both need the same order.",
             truth_not_sorted),
        Slip("gradient in sorted order", "The loss is right, but the weights stand in the sorted "
             "order: grad[order] = weight puts each at its pixel.", in_sorted_order),
        Slip("taken, not put", "The loss is right, but grad is weight[order], which takes from the "
             "sorted places: grad[order] = weight puts each at its pixel.",
             lambda m, truth: (right(m, truth)[0], in_sorted_order(m, truth)[1][np.argsort(-m)])),
        Slip("J, not its steps", "The weight of each pixel is J(i) itself; it should be what the "
             "pixel adds, J(i) - J(i - 1).", other(steps=lambda J: J)),
        Slip("no class, no loss", "No pixel is of the class, and the loss is 0 here. The formula "
             "needs no exception: every m is a false alarm, and J(1) is 1 already.",
             nothing_where_absent),
        Slip("the first step is lost", "The first pixel has no weight: J(0) = 0, so its step is "
             "J(1).", other(steps=lambda J: np.diff(J, prepend=J[:1]))),
        Slip("false alarms forgotten", "The union is G alone. A wrong pixel that is not of the "
             "class joins the union: G + extra.",
             other(J=lambda lost, extra, G, i: 1 - (G - lost) / np.maximum(G, 1))),
        Slip("all pixels in the union", "The union grows with every wrong pixel here. One of the "
             "class was in it from the beginning: G + extra, not G + i.",
             other(J=lambda lost, extra, G, i: 1 - (G - lost) / (G + i))),
        Slip("IoU, not 1 - IoU", "The weights are those of IoU, all of the wrong sign (but the "
             "first): J = 1 - IoU.",
             other(J=lambda lost, extra, G, i: (G - lost) / (G + extra))),
        Slip("soft IoU", "This is 1 - IoU with probabilities in place of counts: a sound loss, but "
             "not this one. Sort, and add up the steps of J.", soft_iou),
    ),
    mutants=(
        Mutant("taken, not put", "return m @ grad, grad",
               "return m @ grad, weight[order].astype(m.dtype)"),
        Mutant("no class, no loss", "    order =",
               "    if not truth.any():\n        return 0.0, 0 * m\n    order ="),
        Mutant("the best first", "np.argsort(-m)", "np.argsort(m)"),
        Mutant("not sorted", "np.argsort(-m)", "np.arange(m.size)"),
        Mutant("truth not sorted", "hit = truth[order]", "hit = truth"),
        Mutant("gradient in sorted order", "return m @ grad, grad",
               "return m @ grad, weight.astype(m.dtype)"),
        Mutant("J, not its steps", "np.diff(J, prepend=0)", "J"),
        Mutant("the first step is lost", "np.diff(J, prepend=0)", "np.diff(J, prepend=J[0])"),
        Mutant("all pixels in the union", "(total + (~hit).cumsum())",
               "(total + np.arange(1, m.size + 1))"),
        Mutant("IoU, not 1 - IoU", "J = 1 - (total", "J = (total"),
        Mutant("false alarms forgotten", "/ (total + (~hit).cumsum())", "/ max(total, 1)"),
    ),
)  # fmt: skip
