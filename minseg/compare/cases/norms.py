"""Cases of the four normalisations: one formula on four views of the input."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minseg.compare.cases.case import Case, Draw, cases
from minseg.ops.norm_formulas import norm_definition

EPS = 1e-5


@cases("batch_norm", "instance_norm", "group_norm", "layer_norm")
def norm(draw: Draw, op: str) -> Iterator[Case]:
    for shape in ((3, 4, 5, 3), (draw.images, 32, 192, 256)):
        yield _norm(draw, op, shape, large=shape[3] > 3)


def _norm(draw: Draw, op: str, shape: tuple[int, ...], large: bool) -> Case:
    N, C, H, W = shape
    places = H * W
    affine: tuple[int, ...] = (C,)
    options: dict[str, Any] = {}
    # x as (B, G, K, L): statistics over B, K, L; a weight for each (g, k)
    if op == "batch_norm":
        view = (N, C, 1, places)
        options = {"running_mean": None, "running_var": None, "training": True}
    elif op == "instance_norm":
        view = (1, N * C, 1, places)
    elif op == "group_norm":
        view, options = (1, N * 2, C // 2, places), {"num_groups": 2}
    else:
        affine = (H, W)
        view, options = (1, N * C, places, 1), {"normalized_shape": affine}
    group = view[0] * view[2] * view[3]
    shared = math.prod(shape) // math.prod(affine)  # elements that share a weight

    def definition(input: Any, weight: Any, bias: Any) -> Any:
        w, b = (
            np.broadcast_to(v.reshape(1, -1), (math.prod(view[1:3]) // v.size, v.size)).reshape(
                view[1:3]
            )
            for v in (weight, bias)
        )
        return norm_definition(input.reshape(view), w, b, EPS).reshape(shape)

    return Case(
        op,
        {
            "input": draw.normal(*shape) * 2 + 1,
            "weight": draw.normal(*affine),
            "bias": draw.normal(*affine),
        },
        options,
        lengths={
            "forward": group,
            "grad_input": group,
            "grad_weight": group + shared,
            "grad_bias": shared,
        },
        gradients=("input", "weight", "bias"),
        definition=None if large else definition,
        large=large,
    )
