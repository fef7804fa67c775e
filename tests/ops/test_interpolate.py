import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops.fast import interpolate as fast
from minseg.ops.interpolate import MODES, op
from tests.witness import assert_adjoint, assert_agree, on_threads

# size, new size or scale factors: up, down, both at once, whole and broken scales, 1x1, to 1x1
CASES = [
    ((4, 5), (7, 10), None),
    ((7, 6), (3, 2), None),
    ((6, 5), (4, 9), None),
    ((5, 6), (5, 6), None),
    ((1, 1), (4, 3), None),
    ((5, 4), (1, 1), None),
    ((5, 7), None, (1.7, 1.7)),
    ((5, 7), None, (0.5, 0.5)),
    ((4, 6), None, (2.0, 4.0)),
    ((9, 4), None, (1.1, 0.6)),
]
MODES_2D = [
    (mode, corners)
    for mode, (ranks, how) in MODES.items()
    if 2 in ranks
    for corners in ((False, True) if how in ("linear", "cubic") else (False,))
]


@pytest.fixture(params=["all taps at once", "quicker ways"])
def way(request, monkeypatch):
    """Both that interpolate.py may go, whatever the size."""
    monkeypatch.setattr(fast, "FEW", 2**20 if request.param == "all taps at once" else -1)


def case_arguments(case, mode, corners, dtype=np.float64, batch=2):
    size, out, scales = case
    x = np.random.default_rng(0).standard_normal((batch, 3, *size)).astype(dtype)
    if scales is not None:
        out = tuple(int(n * s) for n, s in zip(size, scales, strict=True))
    given = scales if scales is not None and mode != "area" else (None, None)
    return x, (out, given, MODES[mode][1], corners)


def arguments_of_function(case, mode, corners):
    _, out, scales = case
    arguments = {"size": out, "scale_factor": scales, "mode": mode}
    return {**arguments, "align_corners": True} if corners else arguments


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "corners"), MODES_2D)
@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_definition(case, mode, corners, dtype):
    x, how = case_arguments(case, mode, corners, dtype)
    expected = op.definition(x.astype(np.float64), *how)
    got = F.interpolate(Tensor(x), **arguments_of_function(case, mode, corners))
    assert_agree(got.data, expected, dtype, length=16)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("mode", "corners"), MODES_2D)
@pytest.mark.parametrize("case", CASES)
def test_gradient_is_adjoint_to_the_forward(case, mode, corners):
    x, how = case_arguments(case, mode, corners)
    assert_adjoint(
        lambda x: op.forward(x, *how), lambda g: op.grad_input(g, x.shape[2:], *how[1:]), x
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("mode", "corners"), MODES_2D)
def test_gradients(mode, corners):
    for case in (CASES[2], CASES[6]):
        x, _ = case_arguments(case, mode, corners)
        how = arguments_of_function(case, mode, corners)
        assert gradcheck(lambda x, how=how: F.interpolate(x, **how), [Tensor(x, True)])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("mode", "ranks"),
    [
        ("nearest", (1, 3)), ("nearest-exact", (1, 3)), ("linear", (1,)), ("area", (1, 3)),
        ("trilinear", (3,)),
    ],
)  # fmt: skip
def test_one_and_three_dimensions(mode, ranks):
    how = MODES[mode][1]
    for rank in ranks:
        x = np.random.default_rng(0).standard_normal((2, 3, 4, 3, 5)[: 2 + rank])
        out = (7, 2, 4)[:rank]
        y = F.interpolate(Tensor(x), size=out, mode=mode)
        expected = op.definition(x, out, (None,) * rank, how, False)
        assert_agree(y.data, expected, np.float64, length=8)
        assert gradcheck(
            lambda x, out=out: F.interpolate(x, size=out, mode=mode),
            [Tensor(x, requires_grad=True)],
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "corners"), MODES_2D)
@pytest.mark.parametrize("case", CASES)
def test_kernels_equal_numpy(case, mode, corners, dtype):
    x, how = case_arguments(case, mode, corners, dtype)
    expected = op.forward(x, *how)
    grad = np.random.default_rng(1).standard_normal(expected.shape).astype(dtype)
    t = Tensor(x, requires_grad=True)
    with minseg.use_kernels("emulator"):
        y = F.interpolate(t, **arguments_of_function(case, mode, corners))
        y.backward(grad)
    assert_agree(y.data, expected, dtype, length=16)
    dx = op.grad_input(grad, x.shape[2:], *how[1:])
    assert_agree(t.grad.data, dx, dtype, length=grad[0, 0].size)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area", "trilinear"])
def test_kernels_in_one_and_three_dimensions(mode):
    ranks, how = MODES[mode]
    for rank in set(ranks) - {2}:
        x = np.random.default_rng(0).standard_normal((2, 3, 4, 3, 5)[: 2 + rank])
        out, scales = (7, 2, 4)[:rank], (None,) * rank
        expected = op.forward(x, out, scales, how, False)
        grad = np.random.default_rng(1).standard_normal(expected.shape)
        dx = op.grad_input(grad, x.shape[2:], scales, how, False)
        with minseg.use_kernels("emulator"):
            assert_agree(op.forward(x, out, scales, how, False), expected, np.float64, length=60)
            got = op.grad_input(grad, x.shape[2:], scales, how, False)
        assert_agree(got, dx, np.float64, length=56)


def test_sanitizer_finds_nothing():
    with sanitized() as findings, minseg.use_kernels("emulator"):
        for mode, size in (("bilinear", (11, 7)), ("bicubic", (3, 9)), ("area", (3, 9))):
            x = Tensor(np.ones((2, 3, 5, 6), np.float32), requires_grad=True)
            F.interpolate(x, size, mode=mode).sum().backward()
    assert not findings


@pytest.mark.usefixtures("way")
def test_recompute_takes_the_ratio_of_the_sizes():
    x = np.arange(5.0).reshape(1, 1, 1, 5)  # 5 -> floor(8.5) = 8 pixels: step 5/8, not 1 / 1.7
    given, ratio = (
        F.interpolate(Tensor(x), None, (1, 1.7), "bilinear", recompute_scale_factor=again).data
        for again in (False, True)
    )
    np.testing.assert_allclose(given[0, 0, 0, 3], 3.5 / 1.7 - 0.5, rtol=1e-15)
    np.testing.assert_allclose(ratio[0, 0, 0, 3], 3.5 * 5 / 8 - 0.5, rtol=1e-15)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("mode", "corners"), MODES_2D)
def test_what_every_resize_keeps(mode, corners):
    """A constant stays; linear interpolation keeps a ramp (cubic only would with a = -1/2)."""
    arguments = {"mode": mode, **({"align_corners": True} if corners else {})}
    flat = F.interpolate(Tensor(np.full((1, 2, 5, 6), 3.0)), (11, 4), **arguments).data
    np.testing.assert_allclose(flat, 3, rtol=1e-14)
    if mode == "bilinear":
        ramp = np.broadcast_to(np.arange(12.0), (1, 1, 12, 12))
        line = F.interpolate(Tensor(ramp), (12, 24), **arguments).data[0, 0, 6]
        np.testing.assert_allclose(np.diff(line)[6:-6], 11 / 23 if corners else 0.5, rtol=1e-12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_empty_batch(mode):
    x = Tensor(np.ones((0, 3, 4, 5), np.float32), requires_grad=True)
    y = F.interpolate(x, scale_factor=2, mode=mode)
    assert y.shape == (0, 3, 8, 10)
    y.backward(np.ones(y.shape, np.float32))
    assert x.grad.shape == x.shape


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", ["linear antialias", "cubic antialias"])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_antialias_equals_the_definition(case, corners, mode):
    size, out, scales = case
    x = np.random.default_rng(0).standard_normal((2, 3, *size))
    if scales is not None:
        out = tuple(int(n * s) for n, s in zip(size, scales, strict=True))
    how = (out, scales or (None, None), mode, corners)
    assert_agree(op.forward(x, *how), op.definition(x, *how), np.float64, length=60)
    assert_adjoint(
        lambda x: op.forward(x, *how), lambda g: op.grad_input(g, x.shape[2:], *how[1:]), x
    )
    public = {"linear antialias": "bilinear", "cubic antialias": "bicubic"}[mode]
    y = F.interpolate(
        Tensor(x), None if scales else out, scales, public, corners, antialias=True
    ).data
    np.testing.assert_array_equal(y, op.forward(x, *how))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("antialias", "a"), [(False, -3 / 4), (True, -1 / 2)])
def test_bicubic_weights_are_those_of_keys_with_pytorchs_a(antialias, a):
    """In the middle between pixels 1 and 2 of 4: k(1/2) = 1/2 - a/8 and k(3/2) = a/8."""
    x = Tensor(np.eye(4).reshape(1, 4, 4, 1))
    y = F.interpolate(x, (5, 1), mode="bicubic", antialias=antialias).data[0, :, 2, 0]
    np.testing.assert_allclose(y, [a / 8, 1 / 2 - a / 8, 1 / 2 - a / 8, a / 8], rtol=1e-14)


@pytest.mark.usefixtures("way")
def test_antialias_counts_every_pixel_and_keeps_a_constant():
    x = np.zeros((1, 1, 8, 8))
    x[0, 0, 3, 3] = 1  # between the pixels that plain bilinear reads for an output of 2 x 2
    assert F.interpolate(Tensor(x), (1, 1), mode="bilinear").data.sum() != 0
    assert F.interpolate(Tensor(x[:, :, ::-1]), 2, mode="bilinear").data.sum() == 0
    assert F.interpolate(Tensor(x[:, :, ::-1]), 2, mode="bilinear", antialias=True).data.min() > 0
    flat = F.interpolate(Tensor(np.full((1, 1, 7, 9), 3.0)), (3, 4), mode="bicubic", antialias=True)
    np.testing.assert_allclose(flat.data, 3, rtol=1e-14)
    with pytest.raises(ValueError, match="antialias has no meaning for mode 'nearest'"):
        F.interpolate(Tensor(x), 4, antialias=True)


@pytest.mark.usefixtures("way")
def test_an_infinite_pixel_stays_where_it_is_seen():
    x = np.zeros((1, 1, 1, 5))
    x[..., 2] = np.inf
    y = F.interpolate(Tensor(x), (1, 3), mode="area").data  # windows 0-1, 1-3, 3-4
    np.testing.assert_array_equal(y[0, 0, 0], [0, np.inf, 0])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])  # a whole factor, and others
def test_the_nearest_pixel_keeps_the_sign_of_zero(size):
    y = F.interpolate(Tensor(np.full((1, 1, 2, 3), -0.0)), size)
    assert np.signbit(y.data).all()


@pytest.mark.parametrize(("shape", "out"), [((3, 2, 7, 6), (9, 8)), ((3, 40, 33, 29), (64, 60))])
def test_threads_strides_and_repetition_change_nothing(shape, out):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    how = (out, (None, None), "linear", False)
    before = x.copy()
    expected = op.forward(x, *how)
    with on_threads(3):
        np.testing.assert_array_equal(op.forward(x, *how), expected)
    np.testing.assert_array_equal(op.forward(np.asfortranarray(x), *how), expected)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({}, ValueError, "either size or scale_factor"),
        ({"size": 3, "scale_factor": 2}, ValueError, "either size or scale_factor"),
        ({"size": 3, "mode": "cubic"}, ValueError, "mode is 'cubic'"),
        ({"size": 3, "mode": "linear"}, ValueError, "mode 'linear' needs 3 dimensions"),
        ({"size": 3, "align_corners": True}, ValueError, "align_corners has no meaning"),
        ({"size": 3, "recompute_scale_factor": True}, ValueError, "recompute_scale_factor needs"),
        ({"size": 3, "mode": "area", "antialias": True}, ValueError, "antialias has no"),
        ({"size": (3, 3, 3)}, ValueError, "needs 2 values"),
        ({"size": 0}, ValueError, "needs to be positive"),
        ({"size": 1.5}, TypeError, "size is 1.5, needs ints"),
        ({"scale_factor": "2"}, TypeError, "scale_factor is '2'"),
        ({"scale_factor": -1}, ValueError, "needs to be positive"),
        ({"scale_factor": 0.1}, ValueError, "cannot become .0, 0."),
        ({"size": 3, "input": Tensor(np.ones((1, 1, 4, 4), int))}, TypeError, "input is int64"),
        ({"size": 3, "input": Tensor(np.ones((4, 4)))}, ValueError, "input has shape"),
        ({"size": 3, "input": Tensor(np.ones((1, 1, 0, 4)))}, ValueError, "cannot become"),
    ],
)
def test_errors_name_the_culprit(change, error, message):
    with pytest.raises(error, match=f"interpolate: .*{message}"):
        F.interpolate(**{"input": Tensor(np.ones((1, 1, 4, 4))), **change})
