"""Transposed convolution by phases against the plain one, which is conv2d's transpose."""

import numpy as np
import pytest

from minseg import parallel
from minseg.ops import conv_transpose2d as plain
from minseg.ops.fast import phases
from tests.witness import assert_agree

# x shape, w shape, stride, padding, output_padding
CASES = {
    "stride = kernel": ((2, 3, 4, 5), (3, 4, 2, 2), (2, 2), (0, 0), (0, 0)),
    "two taps, cut": ((3, 2, 5, 3), (2, 3, 16, 16), (8, 8), (4, 4), (0, 0)),
    "two kinds of phases": ((2, 3, 4, 5), (3, 2, 3, 3), (2, 2), (1, 1), (1, 1)),
    "two taps, no more positions than inputs": ((2, 3, 4, 5), (3, 2, 3, 3), (2, 2), (1, 1), (0, 0)),
    "kinds along one axis": ((1, 2, 3, 4), (2, 3, 5, 6), (3, 2), (0, 1), (2, 0)),
    "gaps between kernels": ((2, 2, 3, 3), (2, 3, 1, 2), (4, 3), (0, 0), (3, 2)),
    "padding beyond the kernel": ((1, 2, 6, 7), (2, 2, 2, 3), (2, 2), (3, 2), (0, 1)),
    "one tap, padding beyond it": ((2, 3, 4, 5), (3, 2, 2, 2), (2, 2), (3, 2), (0, 0)),
    "one input": ((1, 1, 1, 1), (1, 1, 7, 4), (2, 3), (0, 0), (0, 0)),
    "stride along one axis": ((2, 3, 4, 5), (3, 2, 3, 3), (1, 2), (1, 1), (0, 0)),
    "no image": ((0, 3, 4, 4), (3, 2, 3, 3), (2, 2), (1, 1), (1, 1)),
    "several blocks": ((3, 4, 33, 70), (4, 5, 4, 4), (2, 2), (1, 1), (0, 0)),
}


def arguments(case, dtype=np.float64):
    x_shape, w_shape, stride, padding, more = case
    size = plain._output_size(x_shape[2:], w_shape[2:], stride, padding, more, (1, 1))
    rng = np.random.default_rng(0)
    shapes = (x_shape, w_shape, (x_shape[0], w_shape[1], *size))
    return (*(rng.standard_normal(shape).astype(dtype) for shape in shapes), stride, padding, more)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_all_parts_equal_the_plain_ones(case, dtype):
    x, w, g, stride, padding, more = arguments(case)
    rest = (1, (1, 1))  # groups, dilation
    y = plain._forward_by_conv2d(x, w, None, stride, padding, more, *rest)
    dx = plain._grad_input_by_conv2d(g, w, x.shape, stride, padding, *rest)
    dw = plain._grad_weight_by_conv2d(g, x, w.shape, stride, padding, more, *rest)
    x, w, g = (a.astype(dtype) for a in (x, w, g))
    how, outputs = (stride, padding), w[0].size
    assert_agree(phases.forward(x, w, *how, g.shape[2:]), y, dtype, length=w[:, 0].size)
    assert_agree(phases.grad_input(g, w, x.shape, *how), dx, dtype, length=outputs)
    positions = max(1, x[:, 0].size)
    assert_agree(phases.grad_weight(g, x, w.shape, *how), dw, dtype, length=positions)


@pytest.mark.parametrize("part", ["x", "w", "g"])
def test_views_are_not_mutated_and_give_the_same(part):
    x, w, g, stride, padding, _ = arguments(CASES["two kinds of phases"])
    named = {"x": x, "w": w, "g": g}
    turned = {**named, part: np.ascontiguousarray(named[part].T).T}
    before = {name: a.copy() for name, a in turned.items()}

    def all_parts(x, w, g):
        yield phases.forward(x, w, stride, padding, g.shape[2:])
        yield phases.grad_input(g, w, x.shape, stride, padding)
        yield phases.grad_weight(g, x, w.shape, stride, padding)

    for got, expected in zip(all_parts(**turned), all_parts(**named), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    for name, a in turned.items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize("case", ["two taps, cut", "several blocks"])
def test_any_number_of_threads_gives_the_same_bits(case, monkeypatch):
    x, w, g, *how, _ = arguments(CASES[case], np.float32)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        results.append(
            (
                phases.forward(x, w, *how, g.shape[2:]),
                phases.grad_input(g, w, x.shape, *how),
                phases.grad_weight(g, x, w.shape, *how),
            )
        )
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


def test_an_infinite_input_stays_where_the_kernel_paints_it():
    """Phases of fewer taps are not filled up with zeros, and 0 * inf = NaN does not appear."""
    x = np.ones((1, 1, 3, 3))
    x[0, 0, 1, 1] = np.inf
    y = phases.forward(x, np.ones((1, 1, 3, 3)), (2, 2), (0, 0), (7, 7))
    assert not np.isnan(y).any()
    assert np.isinf(y[0, 0, 2:5, 2:5]).all()
    assert np.isinf(y).sum() == 9
