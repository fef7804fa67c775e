"""Cases of ops that are matrix products: convolutions, linear, matmul, attention."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minseg.compare.cases.case import Case, Draw, cases
from minseg.ops.attention import attention_definition
from minseg.ops.op import get_op
from minseg.ops.window import Window

Shape = tuple[int, ...]
Pair = tuple[int, int]


@cases("conv2d")
def conv2d(draw: Draw) -> Iterator[Case]:
    yield _conv2d(draw, (2, 3, 9, 7), (5, 3, 3, 2), (2, 3), (1, 2), (1, 1), 1)
    yield _conv2d(draw, (2, 4, 8, 11), (6, 2, 2, 3), (1, 1), (2, 0), (2, 3), 2)
    yield _conv2d(draw, (2, 6, 7, 9), (6, 1, 3, 2), (2, 3), (2, 1), (1, 2), 6)
    # more channels than a block of the kernels computes, 64
    yield _conv2d(draw, (2, 66, 2, 3), (67, 66, 1, 2), (1, 1), (0, 0), (1, 1), 1)
    large = (draw.images, 64, 48, 64)
    yield _conv2d(draw, large, (64, 64, 3, 3), (1, 1), (1, 1), (1, 1), 1, large=True)


def _conv2d(
    draw: Draw, x: Shape, w: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int,
    large: bool = False,
) -> Case:  # fmt: skip
    size = Window((w[2], w[3]), stride, padding, dilation).output_size(x[2], x[3])
    places, patch = x[0] * math.prod(size), math.prod(w[1:])
    operations = 2 * places * w[0] * patch
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups
    }  # fmt: skip

    def definition(input: Any, weight: Any, bias: Any) -> Any:
        return get_op("conv2d").definition(input, weight, bias, *options.values())  # type: ignore

    return Case(
        "conv2d",
        {"input": draw.normal(*x), "weight": draw.normal(*w), "bias": draw.normal(w[0])},
        options,
        lengths={
            "forward": patch + 1,
            "grad_input": w[0] // groups * w[2] * w[3],
            "grad_weight": places,
            "grad_bias": places,
        },
        gradients=("input", "weight", "bias"),
        definition=None if large else definition,
        operations=dict.fromkeys(("forward", "grad_input", "grad_weight"), operations),
        large=large,
    )


@cases("conv_transpose2d")
def conv_transpose2d(draw: Draw) -> Iterator[Case]:
    yield _transposed(draw, (2, 3, 4, 5), (3, 4, 2, 3), (2, 3), (0, 1), (1, 0), 1, (1, 1))
    yield _transposed(draw, (2, 4, 5, 3), (4, 3, 3, 2), (3, 2), (1, 0), (2, 1), 2, (1, 2))
    large = (draw.images, 64, 32, 48)
    yield _transposed(draw, large, (64, 32, 2, 2), (2, 2), (0, 0), (0, 0), 1, (1, 1), large=True)


def _transposed(
    draw: Draw, x: Shape, w: Shape, stride: Pair, padding: Pair, output_padding: Pair, groups: int,
    dilation: Pair, large: bool = False,
) -> Case:  # fmt: skip
    places, taps = x[0] * x[2] * x[3], w[2] * w[3]
    operations = 2 * places * x[1] * math.prod(w[1:])
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "output_padding": output_padding, "groups": groups,
        "dilation": dilation,
    }  # fmt: skip

    def definition(input: Any, weight: Any, bias: Any) -> Any:
        formula: Any = get_op("conv_transpose2d").definition
        return formula(input, weight, bias, *options.values())

    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            x[2:], stride, padding, dilation, w[2:], output_padding, strict=True
        )
    ]
    return Case(
        "conv_transpose2d",
        {"input": draw.normal(*x), "weight": draw.normal(*w), "bias": draw.normal(w[1] * groups)},
        options,
        lengths={
            "forward": x[1] // groups * taps + 1,
            "grad_input": w[1] * taps,
            "grad_weight": places,
            "grad_bias": x[0] * math.prod(size),
        },
        gradients=("input", "weight", "bias"),
        definition=None if large else definition,
        operations=dict.fromkeys(("forward", "grad_input", "grad_weight"), operations),
        large=large,
    )


@cases("matmul")
def matmul(draw: Draw) -> Iterator[Case]:
    """The product of Tensors; the two gradients are matrix products, too."""
    for *batch, m, k, l in ((7, 33, 5), (70, 19, 66), (2, 3, 17, 66), (512, 768, 1024)):
        large = m > 70
        yield Case(
            "matmul",
            {"input": draw.normal(*batch, m, k), "other": draw.normal(*batch, k, l)},
            lengths={"forward": k, "grad_input": l, "grad_other": m},
            gradients=("input", "other"),
            definition=None if large else _matmul_definition,
            operations=dict.fromkeys(("forward", "grad_input", "grad_other"), 2 * m * k * l),
            call=lambda _, input, other: input @ other,
            large=large,
        )


def _matmul_definition(input: Any, other: Any) -> Any:
    formula: Any = get_op("matmul").definition
    if input.ndim == 2:
        return formula(input, other)
    return np.stack([formula(a, b) for a, b in zip(input, other, strict=True)])


@cases("linear")
def linear(draw: Draw) -> Iterator[Case]:
    for x, outputs, large in (((2, 3, 7), 5, False), ((draw.images * 256, 768), 512, True)):
        rows, operations = math.prod(x[:-1]), 2 * math.prod(x) * outputs
        yield Case(
            "linear",
            {
                "input": draw.normal(*x),
                "weight": draw.normal(outputs, x[-1]),
                "bias": draw.normal(outputs),
            },
            lengths={
                "forward": x[-1] + 1,
                "grad_input": outputs,
                "grad_weight": rows,
                "grad_bias": rows,
            },
            gradients=("input", "weight", "bias"),
            definition=None if large else _linear_definition,
            operations=dict.fromkeys(("forward", "grad_input", "grad_weight"), operations),
            large=large,
        )


def _linear_definition(input: Any, weight: Any, bias: Any) -> Any:
    return get_op("linear").definition(input, weight, bias)  # type: ignore[misc]


@cases("scaled_dot_product_attention")
def attention(draw: Draw) -> Iterator[Case]:
    yield _attention(draw, (2, 2), 9, 13, 5, 6, is_causal=False)
    yield _attention(draw, (2, 1), 37, 37, 8, 8, is_causal=True)
    yield _attention(draw, (3, 2), 67, 9, 5, 6, is_causal=False, masked=True)  # in blocks
    yield _attention(draw, (draw.images, 4), 512, 512, 32, 32, is_causal=False, large=True)


def _attention(
    draw: Draw, lead: Pair, queries: int, keys: int, size: int, out: int, is_causal: bool,
    masked: bool = False, large: bool = False,
) -> Case:  # fmt: skip
    def definition(query: Any, key: Any, value: Any, attn_mask: Any = None) -> Any:
        mask = np.triu(np.full((queries, keys), -np.inf), 1) if is_causal else attn_mask
        y = np.empty((*lead, queries, out), query.dtype)
        for i in np.ndindex(lead):
            y[i] = attention_definition(query[i], key[i], value[i], mask, 1 / math.sqrt(size))
        return y

    # A score is a sum of `size` products. A gradient depends on the scores, on the sum of the
    # weights, and on a sum over keys or queries.
    chain = size + keys
    pairs = 2 * math.prod(lead) * queries * keys
    arrays = {
        "query": draw.normal(*lead, queries, size),
        "key": draw.normal(*lead, keys, size),
        "value": draw.normal(*lead, keys, out),
    }
    if masked:
        arrays["attn_mask"] = draw.normal(queries, keys)
    return Case(
        "scaled_dot_product_attention",
        arrays,
        {"is_causal": is_causal},
        lengths={
            "forward": chain,
            "grad_query": chain + out + keys,
            "grad_key": chain + out + queries,
            "grad_value": chain + queries,
            "grad_attn_mask": chain + out + math.prod(lead),
        },
        gradients=tuple(arrays),
        definition=None if large else definition,
        operations={  # with the weights at hand; the kernels compute them once more
            **dict.fromkeys(("forward", "grad_query", "grad_key"), pairs * (size + out)),
            "grad_value": pairs * out,
        },
        large=large,
    )
