import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops import conv2d, depthwise
from minseg.ops.conv2d import POSITIONS_A_SPLIT, _splits, op
from minseg.ops.fast import blocks, im2col, shifted
from minseg.ops.fast import conv2d as fast
from minseg.ops.window import Window
from tests.witness import assert_adjoint, assert_agree, assert_threads_change_no_bit, on_threads

# x shape, w shape, stride, padding, dilation, groups: H != W, N > 1, C_in != C_out, even kernels,
# strides that do not divide, groups, kernels as large as the image, strides larger than the kernel
CASES = [
    ((2, 3, 7, 6), (4, 3, 3, 3), 1, 1, 1, 1),
    ((2, 3, 7, 9), (5, 3, 2, 4), (2, 3), (1, 2), 1, 1),
    ((2, 4, 9, 8), (6, 2, 3, 2), 2, (2, 0), (2, 3), 2),
    ((1, 4, 6, 5), (4, 1, 3, 3), 1, 1, 1, 4),
    ((1, 4, 6, 5), (8, 1, 3, 3), 2, 1, 1, 4),
    ((2, 5, 9, 8), (5, 1, 3, 2), (2, 3), (1, 2), (3, 2), 5),
    ((2, 3, 5, 9), (3, 1, 1, 2), (3, 2), 0, (1, 3), 3),
    ((3, 2, 4, 5), (2, 1, 4, 5), 1, (3, 2), 1, 2),
    ((0, 2, 4, 5), (2, 1, 3, 3), 1, 1, 1, 2),
    ((2, 2, 4, 5), (3, 2, 4, 5), 1, 0, 1, 1),
    ((2, 2, 9, 8), (3, 2, 1, 2), (4, 3), 0, 1, 1),
    ((3, 5, 4, 6), (2, 5, 1, 1), 1, 0, 1, 1),
    ((1, 2, 3, 4), (2, 2, 1, 1), 1, 2, 1, 1),
    ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0, 1, 1),
    ((0, 3, 5, 5), (2, 3, 3, 3), 1, 1, 1, 1),
    # Rows or columns of the kernel that meet padding only
    ((2, 3, 5, 6), (4, 3, 3, 3), 1, 6, 6, 1),
    ((2, 3, 5, 9), (4, 3, 3, 3), 1, (7, 5), (7, 5), 1),
    ((2, 4, 5, 6), (4, 1, 3, 3), 1, 6, 6, 4),
    ((1, 2, 3, 3), (2, 2, 4, 5), (2, 1), (5, 8), (3, 4), 1),
    ((1, 2, 4, 4), (2, 2, 2, 3), 1, (5, 4), (5, 4), 1),  # only above: it has more padding there
    # Without the first of them there would be less than no padding
    ((2, 4, 6, 5), (3, 4, 3, 3), 1, 1, (2, 3), 1),
    ((2, 4, 9, 5), (3, 4, 3, 3), 2, 1, (2, 3), 1),
    ((2, 3, 6, 5), (3, 1, 3, 3), 1, 1, (2, 3), 3),
    ((1, 3, 9, 14), (3, 1, 5, 5), 1, (2, 0), (3, 1), 3),
]


def pixel_by_pixel(maps):
    """The same, its channels side by side in memory."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def backwards(maps):
    """The same, from its last channel to its first in memory."""
    return maps[:, ::-1].copy()[:, ::-1]


LAYOUTS = [np.ascontiguousarray, pixel_by_pixel, np.asfortranarray, backwards]


def case_arguments(case, dtype=np.float64, seed=0):
    x_shape, w_shape, stride, padding, dilation, groups = case
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(x_shape).astype(dtype)
    w = rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[0]).astype(dtype)
    pairs = [(v, v) if isinstance(v, int) else v for v in (stride, padding, dilation)]
    return x, w, b, *pairs, groups


@pytest.fixture(params=["all columns at once", "quicker ways"])
def way(request, monkeypatch):
    """Both that conv2d.py may go, whatever the size."""
    monkeypatch.setattr(fast, "FEW", 2**20 if request.param == "all columns at once" else -1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_definition(case, layout, dtype):
    x, w, b, *how = case_arguments(case, dtype)
    expected = op.definition(*(a.astype(np.float64) for a in (x, w, b)), *how)
    got = F.conv2d(Tensor(layout(x)), Tensor(layout(w)), Tensor(b), *how)
    assert_agree(got.data, expected, dtype, length=w[0].size + 1)


def test_blocks_of_few_positions_are_even_in_number():
    """Of three, one of two threads would wait for the last."""
    assert [blocks.even(n) for n in range(6)] == [1, 1, 2, 2, 4, 4]
    assert 200 // blocks.SHARED_COLUMNS == 3
    boxes = blocks.boxes(10, (4, 5), bytes_a_column=4)
    assert [box.shape for box in boxes] == [(5, 4, 5), (5, 4, 5)]


def test_a_rate_as_large_as_the_image_leaves_a_kernel_of_one_pixel():
    window = Window((3, 3), (1, 1), (8, 8), (8, 8))
    taps, inner = fast.within_reach(window, 8, 7)
    assert taps == (slice(1, 2), slice(1, 2))
    assert inner.is_pixel
    everything = slice(0, 3)
    assert fast.within_reach(window, 9, 9) == ((everything, everything), window)


@pytest.mark.usefixtures("way")
def test_weights_that_meet_padding_only_have_no_effect():
    """Even where they are NaN: the definition does not read them."""
    x, w, b, *how = case_arguments(((2, 3, 5, 6), (4, 3, 3, 3), 1, 6, 6, 1))
    all_but_the_centre = np.arange(9).reshape(3, 3) != 4
    w[:, :, all_but_the_centre] = np.nan
    expected = op.definition(x, w, b, *how)
    assert np.isfinite(expected).all()
    assert_agree(op.forward(x, w, b, *how), expected, np.float64, length=4)
    assert np.isfinite(op.grad_input(expected, w, x.shape, *how)).all()


@pytest.mark.parametrize("case", [c for c in CASES if c[1][1] > 1 or c[5] == 1])
def test_weights_too_large_for_the_cache_are_multiplied_in_halves(case, monkeypatch):
    x, w, b, *how = case_arguments(case)
    monkeypatch.setattr(fast, "FEW", -1)
    monkeypatch.setattr(im2col, "CACHE_BYTES", 0)
    assert len(im2col._shares(w.shape, how[-1], 8)) == (2 if how[-1] == 1 < len(w) else 1)
    monkeypatch.setattr(shifted, "fits", lambda *_: False)
    got = op.numpy["forward"](x, w, b, *how)
    assert_agree(got, op.definition(x, w, b, *how), np.float64, length=w[0].size + 1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", [c for c in CASES if c[0][0]])
def test_gradients(case):
    x, w, b, *how = case_arguments(case)
    inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    assert gradcheck(lambda x, w, b: F.conv2d(x, w, b, *how), inputs)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [c for c in CASES if c[0][0]])
def test_gradients_are_adjoint_to_the_forward(case, layout):
    x, w, _, *how = case_arguments(case)
    x, w = layout(x), layout(w)
    assert_adjoint(
        lambda x: op.forward(x, w, None, *how),
        lambda g: op.grad_input(layout(g), w, x.shape, *how),
        x,
    )
    assert_adjoint(
        lambda w: op.forward(x, w, None, *how),
        lambda g: op.grad_weight(layout(g), x, w.shape, *how),
        w,
    )


# More channels, of input, output and weight, than a block computes; and outputs cut into ranges
WIDE = ((2, 66, 2, 4), (67, 66, 1, 2), 1, 0, 1, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [*CASES, WIDE])
def test_kernels_equal_numpy(case, dtype, monkeypatch):
    monkeypatch.setattr(conv2d, "POSITIONS_A_SPLIT", 7)
    x, w, b, *how = case_arguments(case, dtype)
    inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    expected = op.forward(x, w, b, *how)
    grad = np.random.default_rng(1).standard_normal(expected.shape).astype(dtype)
    with minseg.use_kernels("emulator"):
        y = F.conv2d(*inputs, *how)
        y.backward(grad)
    assert_agree(y.data, expected, dtype, length=w[0].size + 1)
    dx, dw = op.grad_input(grad, w, x.shape, *how), op.grad_weight(grad, x, w.shape, *how)
    assert_agree(inputs[0].grad.data, dx, dtype, length=w[:, 0].size)
    assert_agree(inputs[1].grad.data, dw, dtype, length=grad[:, 0].size)


@pytest.mark.parametrize("case", [CASES[1], CASES[3]])  # the second is depthwise
def test_kernels_take_strided_arrays(case):
    x, w, b, *how = case_arguments(case)
    every_second = np.stack([b, b], axis=1)[:, 0]
    assert not every_second.flags.c_contiguous
    with minseg.use_kernels("emulator"):
        y = op.forward(np.asfortranarray(x), np.asfortranarray(w), every_second, *how)
    assert_agree(y, op.forward(x, w, b, *how), np.float64, length=w[0].size + 1)


def test_the_weights_kernel_has_no_more_blocks_than_a_gpu_takes():
    assert _splits(0, 1) == 0
    assert _splits(3 * POSITIONS_A_SPLIT + 1, 2) == 4
    assert _splits(16 * 1024 * 1024, 32) * 32 <= 65535  # 4096 splits for each of 32 groups


@pytest.mark.parametrize("case", [c for c in CASES if depthwise.is_depthwise(c[1], c[-1])])
def test_sanitizer_finds_nothing_in_the_depthwise_kernels(case):
    x, w, b, *how = case_arguments(case, np.float32)
    inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    with sanitized() as findings, minseg.use_kernels("emulator"):
        F.conv2d(*inputs, *how).sum().backward()
    assert not findings


def test_small_workspace_and_threads_change_nothing(monkeypatch):
    x, w, b, *how = case_arguments(((3, 40, 33, 29), (24, 40, 3, 3), 1, 1, 1, 1), np.float32)

    def results():
        inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
        y = F.conv2d(*inputs, *how)
        y.backward(np.cos(np.arange(y.numel(), dtype=np.float32)).reshape(y.shape))
        return [y.data, *(t.grad.data for t in inputs)]

    expected = results()
    for first, second in zip(expected, results(), strict=True):
        np.testing.assert_array_equal(first, second)  # the same bits
    limit = blocks.get_workspace_limit()
    try:
        blocks.set_workspace_limit(2**16)
        with on_threads(3):
            got = results()
    finally:
        blocks.set_workspace_limit(limit)
    for one, other, length in zip(got, expected, (361, 217, 2871, 2871), strict=True):
        assert_agree(one, other, np.float32, length=length)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stem_large_enough_for_products_in_pieces(dtype):
    x, w, b, *how = case_arguments(((3, 3, 64, 60), (32, 3, 7, 7), 2, 3, 1, 1), dtype)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (3, 3), (3, 3)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(2, 3))[:, :, ::2, ::2]
    expected = np.tensordot(patches, w.astype(np.float64), ((1, 4, 5), (1, 2, 3)))
    expected = expected.transpose(0, 3, 1, 2) + b[:, None, None]
    assert_agree(op.forward(x, w, b, *how), expected, dtype, length=148)
    grad = np.random.default_rng(1).standard_normal(expected.shape).astype(dtype)
    expected = np.tensordot(grad.astype(np.float64), patches, ((0, 2, 3), (0, 2, 3)))
    got = op.grad_weight(grad, x, w.shape, *how)
    assert_agree(got, expected, dtype, length=grad[:, 0].size)


@pytest.mark.parametrize(
    "case",
    [
        ((3, 24, 33, 29), (40, 24, 3, 3), 2, 1, 1, 1),
        ((4, 3, 40, 36), (16, 3, 7, 7), 2, 3, 1, 1),
        ((3, 3, 64, 60), (32, 3, 7, 7), 2, 3, 1, 1),  # products in pieces
        ((2, 48, 20, 30), (24, 48, 1, 1), 1, 0, 1, 1),
        ((8, 40, 4, 5), (200, 40, 3, 3), 1, 1, 1, 1),  # fewer positions than outputs
        ((2, 12, 20, 30), (24, 4, 3, 3), 1, 1, 1, 3),
        ((1, 16, 160, 192), (16, 16, 3, 3), 1, 1, 1, 1),  # blocks as large as they may be
        ((1, 64, 160, 192), (5, 64, 1, 1), 1, 0, 1, 1),
    ],
)
def test_the_bits_do_not_depend_on_the_number_of_threads(case):
    x, w, b, *how = case_arguments(case, np.float32)

    def results():
        y = op.forward(x, w, b, *how)
        return y, op.grad_input(y, w, x.shape, *how), op.grad_weight(y, x, w.shape, *how)

    assert_threads_change_no_bit(results)


def test_few_positions_and_many_weights(monkeypatch):
    """The gradient of the input by way of the columns' blocks, at stride 1."""
    monkeypatch.setattr(fast, "FEW", -1)
    x, w, b, *how = case_arguments(((2, 5, 3, 4), (40, 5, 3, 3), 1, 1, 1, 1))
    inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    assert gradcheck(lambda x, w, b: F.conv2d(x, w, b, *how), inputs)


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 3), 1), ((2, 4), 1), ((3, 2), (2, 3))])
def test_same_padding_keeps_the_size(kernel, dilation):
    x, w = np.ones((1, 1, 6, 7)), np.ones((1, 1, *kernel))
    y = F.conv2d(Tensor(x), Tensor(w), padding="same", dilation=dilation)
    assert y.shape == x.shape
    assert y.data.max() == kernel[0] * kernel[1]
    valid = F.conv2d(Tensor(x), Tensor(w), padding="valid", dilation=dilation)
    np.testing.assert_array_equal(
        valid.data, F.conv2d(Tensor(x), Tensor(w), None, 1, 0, dilation).data
    )


def test_inputs_may_be_non_contiguous_and_are_not_mutated():
    x, w, b, *how = case_arguments(CASES[1])
    strided = np.asfortranarray(x)
    before = strided.copy(), w.copy()
    np.testing.assert_array_equal(op.forward(strided, w, b, *how), op.forward(x, w, b, *how))
    np.testing.assert_array_equal(strided, before[0])
    np.testing.assert_array_equal(w, before[1])


def test_override_replaces_the_forward_everywhere():
    x, w = Tensor(np.ones((1, 1, 3, 3))), Tensor(np.ones((1, 1, 3, 3)))
    seven = minseg.override("conv2d", forward=lambda x, *_: np.full((1, 1, 1, 1), 7.0))
    with pytest.warns(UserWarning, match="own stays for grad_input, grad_weight"):
        seven.__enter__()
    assert F.conv2d(x, w).item() == 7
    seven.__exit__(None, None, None)
    assert F.conv2d(x, w).item() == 9


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": Tensor(np.ones((3, 5, 5)))}, ValueError, "input has shape .3, 5, 5., needs 4"),
        ({"input": Tensor(np.ones((1, 2, 5, 5)))}, ValueError, "needs 3 input channels"),
        ({"input": Tensor(np.ones((1, 3, 5, 5), int))}, TypeError, "input is int64"),
        ({"input": Tensor(np.ones((1, 3, 5, 5), np.float32))}, TypeError, "weight is float64"),
        ({"input": Tensor(np.ones((1, 3, 2, 5)))}, ValueError, "output would be 0x3"),
        ({"bias": Tensor(np.ones(3))}, ValueError, "bias has shape"),
        ({"bias": Tensor(np.ones(4, np.float32))}, TypeError, "bias is float32"),
        ({"stride": 0}, ValueError, "stride is 0, needs at least 1"),
        ({"padding": -1}, ValueError, "padding is -1, needs at least 0"),
        ({"padding": "full"}, ValueError, "padding is 'full'"),
        ({"padding": "same", "stride": 2}, ValueError, "needs stride 1"),
        ({"dilation": 1.5}, TypeError, "dilation is 1.5"),
        ({"groups": 2}, ValueError, "groups is 2, needs to divide"),
        ({"groups": 0}, ValueError, "groups is 0, needs to divide"),
        ({"groups": 1.0}, TypeError, "groups is 1.0, needs an int"),
        ({"weight": Tensor(np.ones((4, 0, 3, 3)))}, ValueError, "weight has shape .4, 0, 3, 3."),
        ({"weight": Tensor(np.ones((4, 3, 0, 3)))}, ValueError, "weight has shape .4, 3, 0, 3."),
        ({"weight": Tensor(np.ones((4, 3, 3)))}, ValueError, "needs 4 dimensions$"),
    ],
)
def test_errors_name_the_culprit(change, error, message):
    arguments = {"input": Tensor(np.ones((1, 3, 5, 5))), "weight": Tensor(np.ones((4, 3, 3, 3)))}
    with pytest.raises(error, match=f"conv2d: .*{message}"):
        F.conv2d(**{**arguments, **change})
