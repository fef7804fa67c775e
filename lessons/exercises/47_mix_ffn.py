"""SegFormer: Mix-FFN, where a pixel learns its place

A transformer works on tokens: the L = h w pixels of a map, row by row, a vector of C features
each. After attention, each goes through two linear layers. SegFormer puts a 3x3 depthwise
convolution between them: a pixel meets its neighbours, and the zeros around the map tell it where
the border is, so that no position embedding is needed:

    y = fc2(GELU(dwconv(fc1(x))))

The linear layers work on tokens, (N, L, C); the convolution on a map, (N, C', h, w), with padding 1
and every channel by itself. So the tokens become a map, and the map tokens. GELU is the exact one,
x * Phi(x). The block's residual connection, x + ..., is not part of this.
"""

import minseg.functional as F
from minseg import Tensor
from minseg.backbones.mit import MixFFN
from minseg.exercises.parts import part_case, with_weights
from minseg.exercises.task import Mutant, Slip, Task, Use


def mix_ffn(
    x: Tensor,
    fc1: Tensor,
    fc1_bias: Tensor,
    dwconv: Tensor,
    dwconv_bias: Tensor,
    fc2: Tensor,
    fc2_bias: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """The formula above.

    x (N, L, C), fc1 (C', C), fc1_bias (C',), dwconv (C', 1, 3, 3), dwconv_bias (C',),
    fc2 (C, C'), fc2_bias (C,), size (h, w) with h * w = L -> y (N, L, C)
    """
    hidden = F.linear(x, fc1, fc1_bias)  # (N, L, C')
    N, _, C = hidden.shape
    image = hidden.transpose(1, 2).reshape(N, C, *size)  # (N, C', h, w)
    image = F.conv2d(image, dwconv, dwconv_bias, padding=1, groups=C)
    tokens = F.gelu(image).flatten(2).transpose(1, 2)  # (N, L, C')
    return F.linear(tokens, fc2, fc2_bias)


NAMES = ("fc1.weight", "fc1.bias", "dwconv.weight", "dwconv.bias", "fc2.weight", "fc2.bias")


def right(x, fc1, fc1_bias, dwconv, dwconv_bias, fc2, fc2_bias, size):
    given = (fc1, fc1_bias, dwconv, dwconv_bias, fc2, fc2_bias)
    module = MixFFN(x.shape[2], fc1.shape[0])
    return with_weights(module, dict(zip(NAMES, given, strict=True)))(x, size)


def in_network(mix_ffn, module, x, size):
    weights = dict(module.named_parameters())
    return mix_ffn(x, *(weights[name] for name in NAMES), size)


def as_map(x, size):
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)


def as_tokens(x):
    return x.flatten(2).transpose(1, 2)


def convolved(x, w, b):
    return F.conv2d(x, w, b, padding=1, groups=w.shape[0])


def other(
    as_map=as_map,
    conv=convolved,
    act=F.gelu,
    as_tokens=as_tokens,
    first=F.linear,
    last=F.linear,
):
    """Mix-FFN with another step."""

    def answer(x, fc1, fc1_bias, dwconv, dwconv_bias, fc2, fc2_bias, size):
        image = as_map(first(x, fc1, fc1_bias), size)
        tokens = as_tokens(act(conv(image, dwconv, dwconv_bias)))
        return last(tokens, fc2, fc2_bias)

    return answer


def map_by_columns(x, size):
    """The pixels taken column by column."""
    return as_map(x, size[::-1]).transpose(2, 3)


def sides_swapped(x, fc1, fc1_bias, dwconv, dwconv_bias, fc2, fc2_bias, size):
    return right(x, fc1, fc1_bias, dwconv, dwconv_bias, fc2, fc2_bias, size[::-1])


def case(name, N, C, hidden, size):
    shapes = {
        "x": (N, size[0] * size[1], C),
        "fc1": (hidden, C),
        "fc1_bias": (hidden,),
        "dwconv": (hidden, 1, 3, 3),
        "dwconv_bias": (hidden,),
        "fc2": (C, hidden),
        "fc2_bias": (C,),
    }
    return part_case(name, right, shapes, digits=1, size=size)


TASK = Task(
    on_tape=True,
    outputs=("y", "grad_x", "grad_fc1", "grad_fc1_bias", "grad_dwconv", "grad_dwconv_bias",
             "grad_fc2", "grad_fc2_bias"),
    reference=right,
    use=Use("minseg.backbones.mit", "MixFFN.forward", in_network, lesson="20"),
    terms=1000,
    cases=(
        case("2x2 pixels, one channel", 1, 1, 1, (2, 2)),
        case("2x3 pixels, one channel, two hidden", 1, 1, 2, (2, 3)),
        case("3x2 pixels, two channels, three hidden", 1, 2, 3, (3, 2)),
        case("two images, 3x4 pixels, two channels, four hidden", 2, 2, 4, (3, 4)),
    ),
    edge_cases=(
        case("a single pixel", 2, 2, 4, (1, 1)),
        case("a single row", 1, 2, 3, (1, 5)),
    ),
    hints=(
        "Five steps, and two changes of shape: linear, tokens to map, depthwise convolution, GELU, "
        "map to tokens, linear.",
        "Token t is the pixel (t // w, t % w). (N, L, C') -> transpose(1, 2): (N, C', L) -> "
        "reshape: (N, C', h, w). Back: flatten(2), transpose(1, 2).",
        "hidden = F.linear(x, fc1, fc1_bias); image = hidden.transpose(1, 2).reshape(N, C, *size); "
        "image = F.conv2d(image, dwconv, dwconv_bias, padding=1, groups=C); "
        "F.linear(F.gelu(image).flatten(2).transpose(1, 2), fc2, fc2_bias).",
    ),
    slips=(
        Slip("height and width swapped", "The map has w rows and h columns: size is (h, w), rows "
             "first.", sides_swapped),
        Slip("column by column", "The tokens are laid out down the columns; they should go row by "
             "row: token t is the pixel (t // w, t % w).",
             other(as_map=map_by_columns, as_tokens=lambda x: as_tokens(x.transpose(2, 3)))),
        Slip("columns on the way back", "The map is read column by column: flatten(2) reads it row "
             "by row.", other(as_tokens=lambda x: as_tokens(x.transpose(2, 3)))),
        Slip("reshaped, not transposed", "(N, L, C') was reshaped to (N, C', h, w) at once, which "
             "mixes pixels with channels. Transpose first: the last axis becomes the second.",
             other(as_map=lambda x, size: x.reshape(x.shape[0], x.shape[2], *size))),
        Slip("not transposed on the way back", "(N, C', h, w) was reshaped to (N, L, C') at once, "
             "which mixes pixels with channels: flatten(2), then transpose(1, 2).",
             other(as_tokens=lambda x: x.reshape(x.shape[0], -1, x.shape[1]))),
        Slip("reshaped, not transposed", "Tokens and map are reshaped into each other, there and "
             "back, which mixes pixels with channels. Transpose: features are the last axis of "
             "tokens, and the second of a map.",
             other(as_map=lambda x, size: x.reshape(x.shape[0], x.shape[2], *size),
                   as_tokens=lambda x: x.reshape(x.shape[0], -1, x.shape[1]))),
        Slip("forgot the convolution", "The depthwise convolution is missing: pixels do not meet.",
             other(conv=lambda x, w, b: x)),
        Slip("forgot the GELU", "The GELU is missing.", other(act=lambda x: x)),
        Slip("ReLU", "This is a ReLU; use GELU.", other(act=F.relu)),
        Slip("GELU by tanh", "This is GELU's approximation by tanh; the exact one is F.gelu(x).",
             other(act=lambda x: F.gelu(x, approximate="tanh"))),
        Slip("GELU before the convolution", "GELU comes before the convolution; it belongs after "
             "it.",
             other(conv=lambda x, w, b: convolved(F.gelu(x), w, b), act=lambda x: x)),
        Slip("GELU last", "GELU comes at the end; it belongs before fc2.",
             other(act=lambda x: x, last=lambda x, w, b: F.gelu(F.linear(x, w, b)))),
        Slip("GELU twice", "There is a GELU after fc1, too; there should be only one, after the "
             "convolution.",
             other(first=lambda x, w, b: F.gelu(F.linear(x, w, b)))),
        Slip("x added", "x is added to the result. That residual connection belongs to the block, "
             "not to this part.",
             lambda **given: given["x"] + right(**given)),
        Slip("added to the map", "The convolution's result is added to its input; it should "
             "replace it.", other(conv=lambda x, w, b: x + convolved(x, w, b))),
        Slip("forgot a bias", "fc1_bias is missing.",
             other(first=lambda x, w, b: F.linear(x, w, 0 * b))),
        Slip("forgot a bias", "dwconv_bias is missing.",
             other(conv=lambda x, w, b: convolved(x, w, 0 * b))),
        Slip("forgot a bias", "fc2_bias is missing.",
             other(last=lambda x, w, b: F.linear(x, w, 0 * b))),
    ),
    mutants=(
        Mutant("height and width swapped", "    hidden = F.linear", "    size = size[::-1]\n"
               "    hidden = F.linear"),
        Mutant("column by column", "    image = F.conv2d(image, dwconv, dwconv_bias, padding=1, "
               "groups=C)\n", "    image = hidden.transpose(1, 2).reshape(N, C, *size[::-1])"
               ".transpose(2, 3)\n    image = F.conv2d(image, dwconv, dwconv_bias, padding=1, "
               "groups=C).transpose(2, 3)\n"),
        Mutant("reshaped, not transposed", "hidden.transpose(1, 2).reshape(N, C, *size)",
               "hidden.reshape(N, C, *size)"),
        Mutant("not transposed on the way back", "F.gelu(image).flatten(2).transpose(1, 2)",
               "F.gelu(image).reshape(N, -1, C)"),
        Mutant("forgot the convolution", "    image = F.conv2d(image, dwconv, dwconv_bias, "
               "padding=1, groups=C)\n", ""),
        Mutant("forgot the GELU", "F.gelu(image)", "image"),
        Mutant("ReLU", "F.gelu(image)", "F.relu(image)"),
        Mutant("GELU by tanh", "F.gelu(image)", 'F.gelu(image, "tanh")'),
        Mutant("GELU before the convolution", "F.conv2d(image, dwconv, dwconv_bias, padding=1, "
               "groups=C)\n    tokens = F.gelu(image)",
               "F.conv2d(F.gelu(image), dwconv, dwconv_bias, padding=1, groups=C)\n"
               "    tokens = image"),
        Mutant("x added", "return F.linear", "return x + F.linear"),
        Mutant("added to the map", "image = F.conv2d(", "image = image + F.conv2d("),
        Mutant("forgot a bias", "dwconv, dwconv_bias, padding", "dwconv, padding"),
        Mutant("first run", "padding=1, groups=C", "groups=C"),
        Mutant("values", "padding=1, groups=C", "padding=1"),
    ),
)  # fmt: skip
