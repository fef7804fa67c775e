"""Attention U-Net: a gate on the skip

A U-Net's skip x brings all that the contracting path saw. A gate lets through what the features g
of the level below ask for: they are coarse, but have seen more of the image. Both are brought to C'
channels and added; the result is one number per place, how much of the skip passes:

    q     = psi(ReLU(theta(x) + phi(g)))       theta: 2x2, stride 2, no bias; phi, psi: 1x1
    alpha = sigmoid(q)                         (N, 1, h, w), on the grid of g
    y     = alpha' * x                         alpha': alpha, resized bilinearly to x's size

g has half the size of x, rounded up: where x has an odd number of rows or columns, theta sees an
extra row or column of zeros, below or to the right. (Pixels are squares: align_corners is False.)
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor, cat, nn
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task, Use
from minseg.models.attention_unet import Gate


def attention_gate(
    x: Tensor,
    g: Tensor,
    theta: Tensor,
    phi: Tensor,
    phi_bias: Tensor,
    psi: Tensor,
    psi_bias: Tensor,
) -> Tensor:
    """The formulas above.

    x (N, C, H, W), g (N, D, h, w), theta (C', C, 2, 2), phi (C', D, 1, 1), phi_bias (C',),
    psi (1, C', 1, 1), psi_bias (1,) -> y (N, C, H, W); h = H / 2 and w = W / 2, rounded up
    """
    H, W = x.shape[2:]
    even = F.pad(x, (0, W % 2, 0, H % 2))  # left, right, top, bottom
    asked = F.conv2d(even, theta, stride=2) + F.conv2d(g, phi, phi_bias)  # (N, C', h, w)
    alpha = F.sigmoid(F.conv2d(F.relu(asked), psi, psi_bias))  # (N, 1, h, w)
    return F.interpolate(alpha, size=(H, W), mode="bilinear") * x


def right(x, g, theta, phi, phi_bias, psi, psi_bias):
    gate = Gate(x.shape[1], g.shape[1])
    gate.out = nn.Identity()  # in the authors' code, not in the paper's formulas
    names = ("theta.weight", "phi.weight", "phi.bias", "psi.weight", "psi.bias")
    given = (theta, phi, phi_bias, psi, psi_bias)
    return with_weights(gate, dict(zip(names, given, strict=True)))(x, g)


def in_network(attention_gate, gate, x, g):
    """A channel of ones, which theta does not see, comes back as the coefficients."""
    theta = gate.theta.weight
    ones, unseen = Tensor(np.ones_like(x.data[:, :1])), Tensor(np.zeros_like(theta.data[:, :1]))
    y = attention_gate(
        cat([x, ones], dim=1),
        g,
        cat([theta, unseen], dim=1),
        gate.phi.weight,
        gate.phi.bias,
        gate.psi.weight,
        gate.psi.bias,
    )
    gate.coefficients = y[:, -1:].detach()
    return gate.out(y[:, :-1])


def bilinear(a, x, **how):
    return F.interpolate(a, size=x.shape[2:], mode="bilinear", **how)


def added(theta_x, phi_g):
    return F.relu(theta_x + phi_g)


def other(
    join=added,
    squash=F.sigmoid,
    resize=lambda q, x, squash: bilinear(squash(q), x),
    apply=lambda alpha, x: alpha * x,
    bottom_right=True,
    bias=(1, 1),
):
    """The gate with another step."""

    def answer(x, g, theta, phi, phi_bias, psi, psi_bias):
        rows, cols = x.shape[2] % 2, x.shape[3] % 2
        even = F.pad(x, (0, cols, 0, rows) if bottom_right else (cols, 0, rows, 0))
        h = join(F.conv2d(even, theta, stride=2), F.conv2d(g, phi, bias[0] * phi_bias))
        return apply(resize(F.conv2d(h, psi, bias[1] * psi_bias), x, squash), x)

    return answer


def case(name, N, C, D, size, hidden=1):
    small = tuple((n + 1) // 2 for n in size)
    shapes = {
        "x": (N, C, *size),
        "g": (N, D, *small),
        "theta": (hidden, C, 2, 2),
        "phi": (hidden, D, 1, 1),
        "phi_bias": (hidden,),
        "psi": (1, hidden, 1, 1),
        "psi_bias": (1,),
    }
    return part_case(name, right, shapes, digits=1)


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_x", "grad_g", "grad_theta", "grad_phi", "grad_phi_bias", "grad_psi",
             "grad_psi_bias"),
    reference=right,
    use=Use("minseg.models.attention_unet", "Gate.forward", in_network, lesson="15"),
    terms=400,
    cases=(
        case("2x2, one channel each", 1, 1, 1, (2, 2)),
        case("2x6, 2 channels and 3", 1, 2, 3, (2, 6), hidden=2),
        case("two images, 4x4, 2 channels and 1", 2, 2, 1, (4, 4), hidden=3),
        case("an odd number of columns", 1, 2, 2, (4, 5), hidden=2),
        case("an odd number of rows", 1, 2, 3, (5, 4), hidden=2),
    ),
    edge_cases=(case("a single pixel", 1, 2, 2, (1, 1), hidden=2),),
    hints=(
        "All but the end happens on the small grid, that of g: two convolutions bring x and g to it"
        " and to C' channels; they are added, and psi leaves one channel.",
        "F.conv2d(x, theta, stride=2) and F.conv2d(g, phi, phi_bias) both are (N, C', h, w); psi "
        "makes (N, 1, h, w), which F.interpolate takes to (N, 1, H, W); that broadcasts against x. "
        "F.pad(x, (0, W % 2, 0, H % 2)) makes both sizes even.",
        "h = F.relu(F.conv2d(even, theta, stride=2) + F.conv2d(g, phi, phi_bias)); "
        "alpha = F.sigmoid(F.conv2d(h, psi, psi_bias)); "
        'return F.interpolate(alpha, size=x.shape[2:], mode="bilinear") * x.',
    ),
    slips=(
        Slip("forgot the ReLU", "The ReLU is missing: without it theta, phi and psi are one linear "
             "layer.", other(join=lambda a, b: a + b)),
        Slip("ReLU before the sum", "theta(x) and phi(g) go through a ReLU each. Add them first: "
             "then one can cancel what the other gives.",
             other(join=lambda a, b: F.relu(a) + F.relu(b))),
        Slip("only g asked", "theta(x) is missing: the gate looks at g alone.",
             other(join=lambda a, b: F.relu(0 * a + b))),
        Slip("only x asked", "phi(g) is missing: the gate looks at the skip alone.",
             other(join=lambda a, b: F.relu(a + 0 * b))),
        Slip("forgot the sigmoid", "q itself weights the skip: a sigmoid brings it to 0..1 first.",
             other(squash=lambda q: q)),
        Slip("softmax over the channels", "The coefficients are all 1, and the gate is open "
             "everywhere: this is a softmax over the only channel. Each place has a sigmoid of its "
             "own.",
             other(squash=lambda q: F.softmax(q, dim=1))),
        Slip("softmax over the places", "The coefficients of an image sum to 1: this is a softmax "
             "over the places. Each place has a sigmoid of its own.",
             other(squash=lambda q: F.softmax(q.flatten(2), dim=2).reshape(*q.shape))),
        Slip("resized before the sigmoid", "q is resized before the sigmoid. Resize alpha instead: "
             "sigmoid first, then interpolate.",
             other(resize=lambda q, x, squash: squash(bilinear(q, x)))),
        Slip("align_corners", "This is align_corners=True. Pixels are squares: leave it False.",
             other(resize=lambda q, x, squash: bilinear(squash(q), x, align_corners=True))),
        Slip("nearest", "The coefficients are repeated, not interpolated: mode=\"bilinear\".",
             other(resize=lambda q, x, squash: F.interpolate(squash(q), size=x.shape[2:]))),
        Slip("coefficients alone", "These are the coefficients; y is the skip times them.",
             other(apply=lambda alpha, x: alpha)),
        Slip("added", "The coefficients are added to the skip; they should multiply it.",
             other(apply=lambda alpha, x: alpha + x)),
        Slip("open where closed", "What should pass is held back: 1 - alpha in place of alpha.",
             other(apply=lambda alpha, x: (1 - alpha) * x)),
        Slip("passed besides", "The whole skip is added again, x + alpha x: nothing is held back.",
             other(apply=lambda alpha, x: x + alpha * x)),
        Slip("padded on the wrong side", "The row or column of zeros belongs below or to the right."
             " F.pad takes (left, right, top, bottom).", other(bottom_right=False)),
        Slip("forgot phi's bias", "phi_bias is missing.", other(bias=(0, 1))),
        Slip("forgot psi's bias", "psi_bias is missing.", other(bias=(1, 0))),
    ),
    mutants=(
        Mutant("forgot the ReLU", "F.relu(asked)", "asked"),
        Mutant("ReLU before the sum", "F.conv2d(even, theta, stride=2) + F.conv2d(g, phi, phi_bias)"
               , "F.relu(F.conv2d(even, theta, stride=2)) + F.relu(F.conv2d(g, phi, phi_bias))"),
        Mutant("forgot the sigmoid", "F.sigmoid(F.conv2d(F.relu(asked), psi, psi_bias))",
               "F.conv2d(F.relu(asked), psi, psi_bias)"),
        Mutant("softmax over the channels", "F.sigmoid(F.conv2d(F.relu(asked), psi, psi_bias))",
               "F.softmax(F.conv2d(F.relu(asked), psi, psi_bias), dim=1)"),
        Mutant("align_corners", 'mode="bilinear")', 'mode="bilinear", align_corners=True)'),
        Mutant("nearest", 'mode="bilinear"', 'mode="nearest"'),
        Mutant("coefficients alone", 'mode="bilinear") * x', 'mode="bilinear")'),
        Mutant("padded on the wrong side", "(0, W % 2, 0, H % 2)", "(W % 2, 0, H % 2, 0)"),
        Mutant("values", "(0, W % 2, 0, H % 2)", "(0, 0, 0, 0)"),
        Mutant("forgot psi's bias", "psi, psi_bias))", "psi))"),
        Mutant("off the tape", "F.conv2d(g, phi, phi_bias)  #", "F.conv2d(g.detach(), phi, "
               "phi_bias)  #"),
    ),
)  # fmt: skip
