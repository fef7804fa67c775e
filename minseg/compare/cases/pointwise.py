"""Cases of functions of one element: activations, and losses of a difference."""

from collections.abc import Iterator
from typing import Any

from minseg.compare.cases.case import Case, Draw, cases
from minseg.ops.bias_activation import ACTIVATIONS as WITH_BIAS
from minseg.ops.op import get_op

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "relu": {},
    "leaky_relu": {"negative_slope": 0.1},
    "elu": {"alpha": 1.5},
    "relu6": {},
    "sigmoid": {},
    "hardsigmoid": {},
    "silu": {},
    "hardswish": {},
    "tanh": {},
    "softplus": {"beta": 2.0, "threshold": 20.0},
    "gelu": {"approximate": "none"},
}
LOSSES: dict[str, dict[str, Any]] = {
    "mse_loss": {},
    "l1_loss": {},
    "smooth_l1_loss": {"beta": 0.5},
    "huber_loss": {"delta": 0.7},
    "binary_cross_entropy": {},
    "binary_cross_entropy_with_logits": {},
}


@cases(*ACTIVATIONS)
def activation(draw: Draw, op: str) -> Iterator[Case]:
    options = ACTIVATIONS[op]
    for shape in ((2, 3, 5, 7), (draw.images, 16, 192, 256)):
        large = shape[3] > 7

        def definition(input: Any) -> Any:
            return get_op(op).definition(input, *options.values())  # type: ignore[misc]

        # A few units: e^x is exact to one, and e^x - 1 or 1 - y^2 may cancel a digit.
        # PyTorch's gradient of hardsigmoid has 1/6 in single precision, even in float64.
        yield Case(op, {"input": draw.normal(*shape) * 3}, options, torch=op != "hardsigmoid",
                   definition=None if large else definition, large=large)  # fmt: skip


@cases("prelu")
def prelu(draw: Draw) -> Iterator[Case]:
    for shape in ((2, 3, 5, 7), (draw.images, 16, 192, 256)):
        large = shape[3] > 7
        yield Case(
            "prelu",
            {"input": draw.normal(*shape), "weight": draw.normal(shape[1])},
            gradients=("input", "weight"),
            lengths={"forward": 1, "grad_weight": shape[0] * shape[2] * shape[3]},
            definition=None if large else _prelu_definition,
            large=large,
        )


def _prelu_definition(input: Any, weight: Any) -> Any:
    return get_op("prelu").definition(input, weight)  # type: ignore[misc]


@cases("bias_activation")
def bias_activation(draw: Draw) -> Iterator[Case]:
    large = (draw.images, 16, 192, 256)
    for activation, shape in (*((a, (2, 3, 5, 7)) for a in WITH_BIAS), ("relu", large)):

        def definition(input: Any, bias: Any, name: str = activation) -> Any:
            N, C, H, W = input.shape
            formula: Any = get_op("bias_activation").definition
            return formula(input.reshape(N, C, H * W), bias, name).reshape(input.shape)

        yield Case(
            "bias_activation",
            {"input": draw.normal(*shape) * 3, "bias": draw.normal(shape[1])},
            {"activation": activation},
            gradients=("input", "bias"),
            lengths={"forward": 1, "grad_bias": shape[0] * shape[2] * shape[3]},
            definition=None if shape == large else definition,
            large=shape == large,
        )


@cases(*LOSSES)
def loss(draw: Draw, op: str) -> Iterator[Case]:
    options = LOSSES[op]
    more = {"binary_cross_entropy": (1.0,), "binary_cross_entropy_with_logits": (1.0, 1.0)}
    for shape in ((2, 3, 5, 7), (draw.images, 16, 192, 256)):
        large = shape[3] > 7
        probability = op == "binary_cross_entropy"
        input = draw.rng.uniform(0.05, 0.95, shape) if probability else draw.normal(*shape) * 2
        target = draw.rng.uniform(0, 1, shape)

        def definition(input: Any, target: Any) -> Any:
            how = (*options.values(), *more.get(op, ()))
            return get_op(op).definition(input, target, *how)  # type: ignore[misc]

        yield Case(
            op,
            {"input": input, "target": target},
            {"reduction": "none", **options},
            gradients=("input", "target"),
            definition=None if large else definition,
            large=large,
        )
