from itertools import product

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.profile import profile
from minseg.emulator.samples import samples
from minseg.emulator.sanitize import sanitized
from minseg.kernels import kernel_info
from minseg.ops.fast import grid_sample as fast
from minseg.ops.grid_sample import PADDINGS, op
from tests.witness import assert_adjoint, assert_agree

MODES = list(product(("bilinear", "nearest", "bicubic"), PADDINGS, (False, True)))


@pytest.fixture(params=["part by part", "taps found once"])
def way(request, monkeypatch):
    """Both that a call may go, whatever its mode and size."""
    monkeypatch.setattr(fast, "fits", lambda *_: request.param == "taps found once")


def arguments(size=(4, 5), out=(3, 7), dtype=np.float64, batch=2):
    """An input, and a grid that also looks well outside, and never at a kink of the gradient.

    Some of its rows look so far that a reflected place is mirrored up to three times."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, 3, *size)).astype(dtype)
    grid = rng.uniform(-2.5, 2.5, (batch, *out, len(size))).astype(dtype)
    grid[:, 1::2] *= 3
    return x, grid


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "padding", "corners"), MODES)
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 6)])
def test_forward_equals_the_definition(size, mode, padding, corners, dtype):
    x, grid = arguments(size, dtype=dtype)
    how = (mode, padding, corners)
    expected = op.definition(x.astype(np.float64), grid.astype(np.float64), *how)
    got = F.grid_sample(Tensor(x), Tensor(grid), *how)
    # A place is found to eps * size, and moves the cubic result by up to 3 slopes of 16 taps.
    assert_agree(got.data, expected, dtype, length=16 * max(size) ** 2)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("mode", "padding", "corners"), MODES)
def test_gradients(mode, padding, corners):
    inputs = [Tensor(a, requires_grad=True) for a in arguments()]
    assert gradcheck(lambda x, g: F.grid_sample(x, g, mode, padding, corners), inputs)


@pytest.mark.parametrize(("mode", "padding", "corners"), MODES)
def test_input_gradient_is_adjoint_to_the_forward(mode, padding, corners):
    x, grid = arguments()
    how = (mode, padding, corners)
    assert_adjoint(
        lambda x: op.forward(x, grid, *how), lambda g: op.grad_input(g, grid, x.shape, *how), x
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_three_dimensions(mode, padding):
    x, grid = arguments((3, 2, 4), (2, 3, 2))
    got = F.grid_sample(Tensor(x), Tensor(grid), mode, padding)
    assert_agree(got.data, op.definition(x, grid, mode, padding, False), np.float64, length=64)
    inputs = [Tensor(a, requires_grad=True) for a in (x, grid)]
    assert gradcheck(lambda x, g: F.grid_sample(x, g, mode, padding), inputs)


def assert_kernels_equal_numpy(x, grid, how):
    dtype, size = x.dtype, x.shape[2:]
    expected = op.forward(x, grid, *how)
    grad = np.random.default_rng(1).standard_normal(expected.shape).astype(dtype)
    inputs = [Tensor(a, requires_grad=True) for a in (x, grid)]
    with minseg.use_kernels("emulator"):
        y = F.grid_sample(*inputs, *how)
        y.backward(grad)
    # Up to 16 taps, and places found to eps * size. A sum over all outputs, or all channels.
    length = 16 * max(size) ** 2
    assert_agree(y.data, expected, dtype, length)
    dx, d_grid = op.grad_input(grad, grid, x.shape, *how), op.grad_grid(grad, x, grid, *how)
    assert_agree(inputs[0].grad.data, dx, dtype, length * int(np.prod(grad.shape[2:])))
    assert_agree(inputs[1].grad.data, d_grid, dtype, length * x.shape[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "padding", "corners"), MODES)
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 6)])
def test_kernels_equal_numpy(size, mode, padding, corners, dtype):
    assert_kernels_equal_numpy(*arguments(size, dtype=dtype), (mode, padding, corners))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_kernels_in_three_dimensions_and_on_nothing(mode, padding):
    how = (mode, padding, False)
    assert_kernels_equal_numpy(*arguments((3, 2, 4), (2, 3, 2)), how)
    assert_kernels_equal_numpy(*arguments(batch=0), how)
    assert_kernels_equal_numpy(*arguments(out=(0, 7)), how)


@pytest.mark.parametrize("place", [np.inf, -np.inf, np.nan, 1e30, -1e30])
@pytest.mark.parametrize(("mode", "padding", "corners"), MODES)
def test_kernels_in_wild_places(place, mode, padding, corners):
    x = np.arange(1.0, 13).reshape(1, 1, 3, 4)
    grid = np.array([[[[place, 0]]]])
    with np.errstate(invalid="ignore"):
        expected = op.forward(x, grid, mode, padding, corners)
    with minseg.use_kernels("emulator"):
        got = op.forward(x, grid, mode, padding, corners)
    assert_agree(got, expected, np.float64, length=16)


def test_sanitizer_finds_nothing():
    with sanitized() as findings, minseg.use_kernels("emulator"):
        for mode, padding in zip(("bilinear", "nearest", "bicubic"), PADDINGS, strict=True):
            inputs = [Tensor(a, requires_grad=True) for a in arguments(dtype=np.float32)]
            F.grid_sample(*inputs, mode, padding).sum().backward()
    assert not findings


def test_input_gradient_repeats_bit_for_bit():
    rng = np.random.default_rng(0)
    grid = rng.uniform(-0.1, 0.1, (2, 60, 60, 2)).astype(np.float32)  # all meet in a few pixels
    grad = rng.standard_normal((2, 3, 60, 60)).astype(np.float32)
    how = ((2, 3, 20, 20), "bilinear", "zeros", False)
    first = op.grad_input(grad, grid, *how)
    for _ in range(3):
        np.testing.assert_array_equal(op.grad_input(grad, grid, *how), first)


@pytest.mark.usefixtures("way")
def test_what_lies_outside_does_not_matter():
    """An infinite border pixel is not felt through a weight of zero from outside."""
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 0, 0] = np.inf
    outside = np.full((1, 1, 1, 2), -3.0)
    assert F.grid_sample(Tensor(x), Tensor(outside)).item() == 0
    assert F.grid_sample(Tensor(x), Tensor(outside), "nearest").item() == 0


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("place", [np.inf, -np.inf, np.nan, 1e30, -1e30])
def test_wild_places(place):
    x = np.arange(1.0, 13).reshape(1, 1, 3, 4)
    grid = Tensor(np.array([[[[place, 0]]]]))
    border = F.grid_sample(Tensor(x), grid, padding_mode="border").item()
    assert border == (8 if place > 0 else 5)
    zeros = F.grid_sample(Tensor(x), grid).item()
    assert zeros == 0 if abs(place) == 1e30 else np.isnan(zeros)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("of", [{"batch": 0}, {"out": (0, 7)}], ids=["batch", "grid"])
def test_an_empty_batch_and_an_empty_grid(of):
    x, grid = (Tensor(a, requires_grad=True) for a in arguments(**of))
    y = F.grid_sample(x, grid)
    assert y.shape == (*x.shape[:2], *grid.shape[1:-1])
    y.backward(np.zeros(y.shape))
    assert (x.grad.shape, grid.grad.shape) == (x.shape, grid.shape)


@pytest.mark.usefixtures("way")
def test_the_nearest_pixel_stays_the_same_when_its_place_moves():
    x, grid = Tensor(np.full((1, 1, 3, 3), np.inf)), Tensor(np.zeros((1, 1, 1, 2)), True)
    F.grid_sample(x, grid, "nearest").sum().backward()
    np.testing.assert_array_equal(grid.grad.data, 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("corners", [False, True])
def test_the_identity_of_affine_grid_returns_the_image(corners):
    x, _ = arguments((5, 8))
    theta = Tensor(np.tile(np.eye(2, 3), (2, 1, 1)), requires_grad=True)
    grid = F.affine_grid(theta, x.shape, corners)
    y = F.grid_sample(Tensor(x), grid, align_corners=corners)
    np.testing.assert_allclose(y.data, x, rtol=0, atol=1e-13)
    assert gradcheck(lambda t: F.affine_grid(t, x.shape, corners), [theta])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mode": "cubic"}, ValueError, "mode is 'cubic'"),
        ({"padding_mode": "reflect"}, ValueError, "padding_mode is 'reflect'"),
        ({"grid": Tensor(np.zeros((2, 3, 3, 2)))}, ValueError, "grid has shape .2, 3, 3, 2."),
        ({"grid": Tensor(np.zeros((1, 3, 3, 3)))}, ValueError, "grid has shape .1, 3, 3, 3."),
        ({"grid": Tensor(np.zeros((1, 3, 3, 2), "f4"))}, TypeError, "grid is float32"),
        ({"input": Tensor(np.ones((3, 4, 5)))}, ValueError, "input has shape .3, 4, 5."),
        ({"input": Tensor(np.ones((1, 3, 0, 5)))}, ValueError, "nothing to sample"),
        ({"input": Tensor(np.ones((1, 3, 4, 5), int))}, TypeError, "input is int64"),
    ],
)
def test_errors_name_the_culprit(change, error, message):
    given = {"input": Tensor(np.ones((1, 3, 4, 5))), "grid": Tensor(np.zeros((1, 3, 3, 2)))}
    with pytest.raises(error, match=f"grid_sample: .*{message}"):
        F.grid_sample(**{**given, **change})
    with pytest.raises(ValueError, match="affine_grid: theta has shape"):
        F.affine_grid(Tensor(np.zeros((1, 2, 3))), (2, 3, 4, 4))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_a_place_at_an_end_of_the_image_is_held(end, padding):
    """Its slopes differ on the two sides; as in PyTorch, the gradient is 0."""
    x = Tensor(np.arange(20.0).reshape(1, 1, 4, 5))
    grid = Tensor(np.full((1, 1, 1, 2), end), requires_grad=True)
    y = F.grid_sample(x, grid, padding_mode=padding, align_corners=True)
    assert y.item() == (19 if end > 0 else 0)
    y.backward(np.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(grid.grad.data.ravel(), [0, 0])


def test_neighbouring_threads_list_their_taps_side_by_side():
    """So what they store fills each sector of 32 bytes; a place's taps together would fill few."""
    for name, given in samples(kernel_info("grid_sample_entries")):
        stores = [a for a in profile(name, *given).accesses if a.kind == "store"]
        assert {a.array for a in stores} == {"key", "weight"}
        for a in stores:
            assert 32 * a.sectors == a.accesses * {"key": 8, "weight": 4}[a.array]
