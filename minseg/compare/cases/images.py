"""Cases of ops that move pixels: pooling, resizing, sampling, padding, rearranging, dropout."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.compare.cases.case import Case, Draw, cases
from minseg.ops.interpolate import MODES
from minseg.ops.op import get_op
from minseg.tensor import Tensor

Pair = tuple[int, int]


@cases("max_pool2d")
def max_pool2d(draw: Draw) -> Iterator[Case]:
    """With ties: the indices tell which maximum was taken; gradients of windows may meet there."""
    yield _max_pool(draw, (2, 3, 9, 8), (3, 2), (2, 3), (1, 0), (2, 3), True)
    yield _max_pool(draw, (2, 2, 7, 10), (3, 3), (2, 2), (1, 1), (1, 1), False)
    yield _max_pool(draw, (2, 3, 8, 9), (4, 3), (1, 2), (2, 0), (1, 1), False)  # by ranks
    large = (draw.images, 32, 192, 256)
    yield _max_pool(draw, large, (2, 2), (2, 2), (0, 0), (1, 1), False, large=True)


def _max_pool(
    draw: Draw, x: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair,
    ceil_mode: bool, large: bool = False,
) -> Case:  # fmt: skip
    how = (kernel, stride, padding, dilation, ceil_mode)
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return Case(
        "max_pool2d",
        {"input": draw.ties(*x)},
        dict(zip(names, (*how, True), strict=True)),
        lengths={"forward": 1, "grad_input": math.prod(kernel)},
        outputs=("forward", "indices"),
        definition=None if large else lambda input: _define("max_pool2d", input, *how),
        large=large,
    )


@cases("max_unpool2d")
def max_unpool2d(draw: Draw) -> Iterator[Case]:
    for shape, large in (((2, 3, 3, 5), False), ((draw.images, 32, 96, 128), True)):
        H, W = shape[2:]
        rows, cols = np.meshgrid(2 * np.arange(H), 2 * np.arange(W), indexing="ij")
        a, b = draw.rng.integers(0, 2, (2, *shape))
        yield Case(
            "max_unpool2d",
            {"input": draw.normal(*shape), "indices": (rows + a) * 2 * W + cols + b},
            {"kernel_size": 2},
            definition=None if large else _unpool_definition,
            large=large,
        )


def _unpool_definition(input: Any, indices: Any) -> Any:
    return _define("max_unpool2d", input, indices, (2 * input.shape[2], 2 * input.shape[3]))


@cases("avg_pool2d")
def avg_pool2d(draw: Draw) -> Iterator[Case]:
    yield _avg_pool(draw, (2, 3, 9, 8), (3, 2), (2, 3), (1, 1), True, True)
    yield _avg_pool(draw, (2, 2, 6, 7), (4, 4), (3, 3), (2, 2), True, False)
    large = (draw.images, 32, 192, 256)
    yield _avg_pool(draw, large, (2, 2), (2, 2), (0, 0), False, True, large=True)


def _avg_pool(
    draw: Draw, x: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool,
    count_include_pad: bool, large: bool = False,
) -> Case:  # fmt: skip
    how = (kernel, stride, padding, ceil_mode, count_include_pad)
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    return Case(
        "avg_pool2d",
        {"input": draw.normal(*x)},
        dict(zip(names, how, strict=True)),
        lengths={"forward": math.prod(kernel)},
        definition=None if large else lambda input: _define("avg_pool2d", input, *how, None),
        large=large,
    )


@cases("adaptive_avg_pool2d", "adaptive_max_pool2d")
def adaptive_pool(draw: Draw, op: str) -> Iterator[Case]:
    sizes = (((2, 3, 7, 5), (3, 2)), ((2, 2, 4, 6), (5, 4)), ((draw.images, 32, 96, 128), (6, 6)))
    for x, size in sizes:
        large = x[2] > 7
        yield Case(
            op,
            {"input": (draw.normal if "avg" in op else draw.ties)(*x)},
            {"output_size": size} | ({} if "avg" in op else {"return_indices": True}),
            lengths={"forward": (x[2] // size[0] + 2) * (x[3] // size[1] + 2)},
            outputs=("forward",) if "avg" in op else ("forward", "indices"),
            definition=None if large else lambda input, size=size: _define(op, input, size),
            large=large,
        )


@cases("interpolate")
def interpolate(draw: Draw) -> Iterator[Case]:
    yield _interpolate(draw, (2, 3, 5, 4), (7, 10), "nearest")
    yield _interpolate(draw, (2, 3, 6, 5), (4, 9), "nearest-exact")
    yield _interpolate(draw, (2, 3, 5, 7), (11, 4), "bilinear")
    yield _interpolate(draw, (2, 3, 5, 4), (9, 12), "bilinear", corners=True)
    yield _interpolate(draw, (2, 3, 5, 6), (9, 4), "bicubic")
    yield _interpolate(draw, (2, 3, 7, 6), (3, 4), "area")
    # for these, NumPy has quicker ways: see minseg/ops/fast/interpolate.py
    yield _interpolate(draw, (2, 3, 16, 12), (32, 24), "nearest")
    yield _interpolate(draw, (2, 3, 9, 11), (20, 24), "bilinear")
    yield _interpolate(draw, (2, 1, 66, 5), (67, 20), "bicubic")
    for mode in ("nearest", "bilinear", "bicubic"):
        yield _interpolate(draw, (draw.images, 16, 96, 128), (192, 256), mode, large=True)


def _interpolate(
    draw: Draw, x: tuple[int, ...], out: Pair, mode: str, corners: bool = False, large: bool = False
) -> Case:
    # The place of an output is a number as large as the image, with as many units of rounding.
    taps = {"bicubic": 16, "bilinear": 4}.get(mode, 1)
    window = math.prod(-(-n // m) + 1 for n, m in zip(x[2:], out, strict=True))
    reached = math.prod(2 * (-(-m // n) + 1) for n, m in zip(x[2:], out, strict=True))
    rounding = max(*x[2:], *out) ** 2 if taps > 1 else 0
    how = (out, (None, None), MODES[mode][1], corners)
    return Case(
        "interpolate",
        {"input": draw.normal(*x)},
        {"size": out, "mode": mode} | ({"align_corners": True} if corners else {}),
        lengths={
            "forward": (window if mode == "area" else taps) + rounding,
            "grad_input": taps * reached + rounding,
        },
        definition=None if large else lambda input: _define("interpolate", input, *how),
        large=large,
    )


@cases("grid_sample")
def grid_sample(draw: Draw) -> Iterator[Case]:
    yield _grid_sample(draw, (2, 3, 5, 7), (6, 4), "bilinear", "zeros", False)
    yield _grid_sample(draw, (2, 2, 6, 5), (3, 8), "bilinear", "reflection", True)
    yield _grid_sample(draw, (2, 2, 6, 5), (4, 5), "nearest", "border", False)
    yield _grid_sample(draw, (2, 2, 5, 7), (5, 4), "bicubic", "border", False)
    large = (draw.images, 16, 96, 128)
    yield _grid_sample(draw, large, (96, 128), "bilinear", "zeros", False, large=True)


def _grid_sample(
    draw: Draw, x: tuple[int, ...], out: Pair, mode: str, padding_mode: str, corners: bool,
    large: bool = False,
) -> Case:  # fmt: skip
    how = (mode, padding_mode, corners)
    taps = {"bilinear": 4, "nearest": 1, "bicubic": 16}[mode]
    rounding = max(x[2:]) ** 2 if taps > 1 else 0  # of a place: see interpolate
    reached = taps * math.prod(out)  # all outputs may meet in one pixel
    return Case(
        "grid_sample",
        {"input": draw.normal(*x), "grid": _smooth_places(draw, x, out, corners)},
        {"mode": mode, "padding_mode": padding_mode, "align_corners": corners},
        lengths={
            "forward": taps + rounding,
            "grad_input": reached + rounding,
            "grad_grid": taps * x[1] + rounding,
        },
        gradients=("input", "grid"),
        definition=None if large else lambda input, grid: _define("grid_sample", input, grid, *how),
        large=large,
    )


def _smooth_places(draw: Draw, x: tuple[int, ...], out: Pair, corners: bool) -> np.ndarray:
    """A grid (N, *out, 2), partly outside the image, that stays away from the kinks.

    The gradient to the grid jumps where a place is a whole or half pixel. There a rounding error
    decides between two answers, and both are right.
    """
    size = np.array([x[3], x[2]])  # of the last axis of a grid: first x, then y
    whole = np.floor(draw.rng.uniform(-0.1, 1.1, (x[0], *out, 2)) * size)
    place = whole + draw.rng.uniform(0.1, 0.4, whole.shape)  # in pixels
    return 2 * place / (size - 1) - 1 if corners else (2 * place + 1) / size - 1


@cases("pad")
def pad(draw: Draw) -> Iterator[Case]:
    for mode in ("constant", "reflect", "replicate"):
        yield Case(
            "pad",
            {"input": draw.normal(2, 3, 5, 4)},
            {"pad": (1, 2, 3, 0), "mode": mode},
            lengths={"forward": 1, "grad_input": 20},
            definition=lambda input, mode=mode: _define("pad", input, ((3, 0), (1, 2)), mode, 0.0),
        )
    yield Case(
        "pad",
        {"input": draw.normal(draw.images, 16, 192, 256)},
        {"pad": (2, 2, 2, 2), "mode": "reflect"},
        lengths={"forward": 1, "grad_input": 9},
        large=True,
    )


@cases("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(draw: Draw, op: str) -> Iterator[Case]:
    option = "upscale_factor" if op == "pixel_shuffle" else "downscale_factor"
    for shape in ((2, 12, 4, 6), (draw.images, 64, 96, 128)):
        large = shape[2] > 4
        yield Case(
            op,
            {"input": draw.normal(*shape)},
            {option: 2},
            definition=None if large else lambda input: _define(op, input, 2),
            large=large,
        )


@cases("unfold")
def unfold(draw: Draw) -> Iterator[Case]:
    how: dict[str, Any] = {
        "kernel_size": (3, 2), "dilation": (1, 2), "padding": (1, 0), "stride": (2, 1)
    }  # fmt: skip
    yield Case(
        "unfold",
        {"input": draw.normal(2, 3, 7, 6)},
        how,
        lengths={"forward": 1, "grad_input": 6},
        definition=lambda input: _define("unfold", input, *how.values()),
    )


@cases("fold")
def fold(draw: Draw) -> Iterator[Case]:
    how: dict[str, Any] = {
        "output_size": (7, 6), "kernel_size": (3, 2), "dilation": (1, 2), "padding": (1, 0),
        "stride": (2, 1),
    }  # fmt: skip
    yield Case(
        "fold",
        {"input": draw.normal(2, 18, 16)},
        how,
        lengths={"forward": 6},
        definition=lambda input: _define("fold", input, *how.values()),
    )


@cases("dropout")
def dropout(draw: Draw) -> Iterator[Case]:
    """The same draws for every witness; the mask is seen where a 1 became 0."""

    def drop(library: Any, input: Any) -> Any:
        return library.dropout(input, 0.3, generator=np.random.default_rng(0))

    def definition(input: Any) -> Any:
        return _define("dropout", input, drop(F, Tensor(np.ones(input.shape))).data != 0, 0.3)

    for shape in ((2, 3, 4, 5), (draw.images, 16, 96, 128)):
        large = shape[3] > 5
        defined = None if large else definition
        yield Case("dropout", {"input": draw.normal(*shape)}, definition=defined, call=drop,
                   torch=False, large=large)  # fmt: skip


def _define(op: str, *arguments: Any) -> Any:
    return get_op(op).definition(*arguments)  # type: ignore[misc]
