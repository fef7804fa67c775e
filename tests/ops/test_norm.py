import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops import norm_formulas
from minseg.ops.fast import norm as fast
from minseg.ops.norm_formulas import norm_definition
from minseg.ops.op import get_op
from tests.witness import assert_agree, assert_threads_change_no_bit

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5, 2)) * 2 + 1
W, B = RNG.standard_normal((2, 4))
W_LAST, B_LAST = RNG.standard_normal((2, 5, 2))

# name -> the op on (x, weight, bias), its affine parameters, and x as (B, G, K, L) with (G, K)
LAYERS = {
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (W, B),
        (3, 4, 1, 10),
        lambda v: v.reshape(4, 1),
    ),
    "instance_norm": (
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        (W, B),
        (1, 12, 1, 10),
        lambda v: np.tile(v, 3).reshape(12, 1),
    ),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        (W, B),
        (1, 6, 2, 10),
        lambda v: np.tile(v, 3).reshape(6, 2),
    ),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (5, 2), w, b),
        (W_LAST, B_LAST),
        (1, 12, 10, 1),
        lambda v: np.tile(v.ravel(), 12).reshape(12, 10),
    ),
}


@pytest.fixture(autouse=True, params=["plain formulas", "few passes"])
def way(request, monkeypatch):
    """Both that norm.py may go, whatever the size."""
    monkeypatch.setattr(fast, "FEW", 2**40 if request.param == "plain formulas" else -1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_forward_equals_the_definition(name, dtype):
    function, (w, b), view, for_each_group = LAYERS[name]
    x, w, b = (a.astype(dtype) for a in (X, w, b))
    exact = [a.astype(np.float64) for a in (x.reshape(view), for_each_group(w), for_each_group(b))]
    expected = norm_definition(*exact, 1e-5).reshape(x.shape)
    got = function(*(Tensor(a) for a in (x, w, b)))
    assert_agree(got.data, expected, dtype, length=X[:, 0].size)
    plain = norm_definition(exact[0], None, None, 1e-5).reshape(x.shape)
    assert_agree(function(Tensor(x), None, None).data, plain, dtype, length=X[:, 0].size)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name):
    function, affine, _, _ = LAYERS[name]
    assert gradcheck(function, [Tensor(a, requires_grad=True) for a in (X, *affine)])
    assert gradcheck(lambda x: function(x, None, None), [Tensor(X, requires_grad=True)])


@pytest.mark.parametrize("function", [F.batch_norm, F.instance_norm])
def test_given_statistics(function):
    """They are constants: used as they are, left as they are, and without part in the gradient."""
    mean, var = RNG.standard_normal(4), RNG.random(4) + 0.5
    kept = mean.copy(), var.copy()
    mode = {"training": False} if function is F.batch_norm else {"use_input_stats": False}

    def apply(x, w, b):
        return function(x, mean, Tensor(var), w, b, eps=0.1, **mode)

    inputs = [Tensor(a, requires_grad=True) for a in (X, W, B)]
    over = (slice(None), None, None)
    expected = (X - mean[over]) / np.sqrt(var[over] + 0.1) * W[over] + B[over]
    assert_agree(apply(*inputs).data, expected, np.float64, length=4)
    assert gradcheck(apply, inputs)
    np.testing.assert_array_equal((mean, var), kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics_move_in_place(dtype):
    x = X.astype(dtype)
    start = np.array([1, 2, 3, 4], dtype)
    mean, var = Tensor(start.copy()), start.copy()
    memory = mean.data
    F.batch_norm(Tensor(x), mean, var, training=True, momentum=0.3)
    assert mean.data is memory
    exact = x.astype(np.float64)
    moved = 0.7 * start + 0.3 * exact.mean(axis=(0, 2, 3))
    assert_agree(mean.data, moved, dtype, length=30)
    assert_agree(var, 0.7 * start + 0.3 * exact.var(axis=(0, 2, 3), ddof=1), dtype, length=30)

    mean, var = start.copy(), start.copy()
    F.instance_norm(Tensor(x), mean, var, momentum=0.3)
    assert_agree(mean, moved, dtype, length=30)
    images = exact.var(axis=(2, 3), ddof=1).mean(axis=0)
    assert_agree(var, 0.7 * start + 0.3 * images, dtype, length=30)


@pytest.mark.parametrize("name", LAYERS)
def test_a_large_mean_costs_no_digits(name):
    """Mean 1000, deviation 1, float32: the answer of float64 to the same numbers, to float32.

    The inputs are exact, and so is x - mean but for one rounding of a value of about 4. One pass
    over squares (1e6 * 6e-8 = 0.06) or a mean in float32 (3e-5) would both be far off.
    """
    function, *_ = LAYERS[name]
    rng = np.random.default_rng(1)
    size = (3, 4, 5, 2) if name == "layer_norm" else (3, 4, 40, 50)
    x = (rng.standard_normal(size) + 1000).astype(np.float32)
    g = rng.standard_normal(size).astype(np.float32)
    results = []
    for dtype in (np.float32, np.float64):
        leaf = Tensor(x.astype(dtype), requires_grad=True)
        y = function(leaf, None, None)
        y.backward(g.astype(dtype))
        results.append((y.data, leaf.grad.data))
    for got, expected in zip(*results, strict=True):
        assert_agree(got, expected, np.float32, length=4)


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_may_be_non_contiguous_and_are_not_mutated(name):
    function, affine, _, _ = LAYERS[name]
    affine = [Tensor(a) for a in affine]
    x = np.asfortranarray(X)
    results = []
    for data in (X, x):
        leaf = Tensor(data, requires_grad=True)
        y = function(leaf, *affine)
        y.backward(np.asfortranarray(np.cos(X)))
        results.append((y.data, leaf.grad.data))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("name", LAYERS)
def test_empty_batch(name):
    function, affine, _, _ = LAYERS[name]
    leaves = [Tensor(a, requires_grad=True) for a in (X[:0], *affine)]
    y = function(*leaves)
    assert y.shape == (0, 4, 5, 2)
    y.backward(np.zeros(y.shape))
    assert [leaf.grad.shape for leaf in leaves] == [y.shape, affine[0].shape, affine[1].shape]
    mean, var = np.ones(4), np.full(4, 2.0)
    for nothing in (leaves[0], Tensor(np.ones((2, 4, 0, 3)))):
        assert F.batch_norm(nothing, mean, var, training=True).shape == nothing.shape
    np.testing.assert_array_equal((mean, var), (np.ones(4), np.full(4, 2.0)))


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_an_empty_batch_are_zero(name, monkeypatch):
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 7, dtype))
    function, affine, _, _ = LAYERS[name]
    leaves = [Tensor(a, requires_grad=True) for a in (X[:0], *affine)]
    function(*leaves).sum().backward()
    for leaf in leaves:
        np.testing.assert_array_equal(leaf.grad.data, np.zeros(leaf.shape))


@pytest.mark.parametrize("norm", [F.batch_norm, F.instance_norm])
def test_given_statistics_serve_a_single_value(norm):
    training = {F.batch_norm: "training", F.instance_norm: "use_input_stats"}[norm]
    y = norm(
        Tensor(X[:1, :, :1, :1]), np.full(4, 0.5), np.full(4, 2.0), eps=0.25, **{training: False}
    )
    np.testing.assert_allclose(y.data, (X[:1, :, :1, :1] - 0.5) / 1.5, rtol=1e-15)


def test_two_dimensions_and_a_constant_channel():
    x = np.stack([np.full(6, 7.0), np.arange(6.0)], axis=1)  # (N, C)
    y = F.batch_norm(Tensor(x), training=True).data
    np.testing.assert_array_equal(y[:, 0], 0)
    np.testing.assert_allclose(y[:, 1].std(), 1, rtol=1e-5)
    np.testing.assert_array_equal(F.group_norm(Tensor(x), 2).data, 0)  # a value is its own mean


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.batch_norm(x), ValueError, "batch_norm: needs running_mean"),
        (lambda x: F.batch_norm(x, np.ones(4)), ValueError, "needs running_mean and running_var"),
        (lambda x: F.batch_norm(x.to(int), training=True), TypeError, "batch_norm: input is int64"),
        (lambda x: F.batch_norm(x[:1, :, :1, :1], training=True), ValueError, "at least 2"),
        (lambda x: F.batch_norm(x, np.ones(3), np.ones(4)), ValueError, "running_mean has shape"),
        (lambda x: F.batch_norm(x, weight=Tensor(np.ones(3))), ValueError, "weight has shape"),
        (lambda x: F.batch_norm(x[0, 0, 0]), ValueError, "batch_norm: input has shape"),
        (lambda x: F.instance_norm(x[:, :, :1, :1]), ValueError, "instance_norm: .* at least 2"),
        (lambda x: F.group_norm(x, 3), ValueError, "num_groups is 3, needs to divide the 4"),
        (lambda x: F.group_norm(x, 2, x), ValueError, "group_norm: weight has shape"),
        (lambda x: F.layer_norm(x, 5), ValueError, "layer_norm: input has shape"),
        (lambda x: F.layer_norm(x, 2, bias=Tensor(np.ones(5))), ValueError, "bias has shape"),
        (lambda x: F.layer_norm(x, 2, Tensor(np.ones(2, "f4"))), TypeError, "weight is float32"),
        (lambda x: F.layer_norm(x.to(int), 2), TypeError, "layer_norm: input is int64"),
    ],
)
def test_errors_name_the_culprit(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor(X))


def gradients(function, x, affine, grad):
    inputs = [None if a is None else Tensor(a, requires_grad=True) for a in (x, *affine)]
    y = function(*inputs)
    y.backward(grad)
    return [y.data, *(t.grad.data for t in inputs if t is not None)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_kernels_equal_numpy(name, dtype, monkeypatch):
    function, affine, _, _ = LAYERS[name]
    monkeypatch.setattr(norm_formulas, "ELEMENTS_A_BLOCK", 8)  # several blocks share a sum
    grad = np.cos(X).astype(dtype)
    for parameters in (affine, (None, None)):
        case = X.astype(dtype), [None if a is None else a.astype(dtype) for a in parameters], grad
        expected = gradients(function, *case)
        with minseg.use_kernels("emulator"):
            got = gradients(function, *case)
        for one, other in zip(got, expected, strict=True):
            assert_agree(one, other, dtype, length=X[:, 0].size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_with_given_statistics(dtype):
    x, w, b, grad = (a.astype(dtype) for a in (X, W, B, np.cos(X)))
    mean, var = RNG.standard_normal(4), RNG.random(4) + 0.5

    def function(x, w, b):
        return F.batch_norm(x, mean, var, w, b, eps=0.1)

    expected = gradients(function, x, (w, b), grad)
    with minseg.use_kernels("emulator"):
        got = gradients(function, x, (w, b), grad)
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=30)


@pytest.mark.parametrize("name", LAYERS)
def test_kernels_take_strided_arrays(name):
    """Channels side by side in memory: seen as (B, G, K, L), batch norm's input is no copy."""
    function, affine, _, _ = LAYERS[name]
    x, grad = (
        np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (X, np.cos(X))
    )
    expected = gradients(function, X, affine, np.cos(X))
    with minseg.use_kernels("emulator"):
        got = gradients(function, x, affine, grad)
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, np.float64, length=X[:, 0].size)


def test_kernels_keep_the_digits_under_a_large_mean_and_beside_an_outlier():
    """The outlier is the element that the sums are shifted by: the worst case of the one pass."""
    x = (np.random.default_rng(1).standard_normal((2, 3, 40, 50)) + 1000).astype(np.float32)
    x[0, :, 0, 0] = 1e6
    exact = x.astype(np.float64)
    op = get_op("batch_norm")
    with minseg.use_kernels("emulator"):
        mean, var = op.moments(x.reshape(2, 3, 1, 2000))
    # errors: eps m of the variance, at most (see kernels/norm.cu); of the mean eps (x_0 - mean)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=4000 * 2.3e-16)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=0, atol=1e6 * 2.3e-16 * 8)


def test_kernels_with_empty_and_constant_inputs():
    with minseg.use_kernels("emulator"):
        test_empty_batch("batch_norm")
        test_empty_batch("group_norm")
        test_two_dimensions_and_a_constant_channel()


@pytest.mark.parametrize("name", LAYERS)
def test_kernels_are_sound(name, monkeypatch):
    function, affine, _, _ = LAYERS[name]
    monkeypatch.setattr(norm_formulas, "ELEMENTS_A_BLOCK", 8)
    x, w, b = (a.astype(np.float32) for a in (X, *affine))
    with minseg.use_kernels("emulator"), sanitized() as findings:
        gradients(function, x, (w, b), np.cos(x))
    assert not findings


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_many_blocks_are_one(name, dtype, monkeypatch):
    """Cut in two or in many: the definition's result, and a gradient within rounding of the other.

    The weights' gradients sum 30 elements at the most, in another order."""
    function, affine, view, for_each_group = LAYERS[name]
    x, grad, w, b = (a.astype(dtype) for a in (X, np.cos(X), *affine))
    whole = gradients(function, x, (w, b), grad)
    monkeypatch.setattr(fast, "ALONE", 0)
    monkeypatch.setattr(fast, "BLOCK_BYTES", 64)
    assert len(fast.blocks_of(x.reshape(view))) > 2
    cut = gradients(function, x, (w, b), grad)
    exact = [a.astype(np.float64) for a in (x.reshape(view), for_each_group(w), for_each_group(b))]
    expected = norm_definition(*exact, 1e-5).reshape(x.shape)
    assert_agree(cut[0], expected, dtype, length=30)
    for one, other in zip(cut, whole, strict=True):
        assert_agree(one, other, dtype, length=30)


@pytest.mark.parametrize("name", LAYERS)
def test_the_number_of_threads_changes_no_bit(name, monkeypatch):
    """Sums long enough for BLAS to cut them between its threads, which it must not."""
    monkeypatch.setattr(fast, "ALONE", 0)
    function, *_ = LAYERS[name]
    rng = np.random.default_rng(0)
    shape = (4000, 4, 5, 2) if name == "layer_norm" else (2, 4, 150, 160)
    x, grad = rng.standard_normal((2, *shape), np.float32)
    affine = rng.standard_normal((2, *(shape[2:] if name == "layer_norm" else (4,))), np.float32)
    assert_threads_change_no_bit(lambda: gradients(function, x, affine, grad))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", LAYERS)
def test_a_nan_or_an_infinity_spoils_its_group_and_no_other(name, bad):
    function, _, view, _ = LAYERS[name]
    x = X.astype(np.float32).copy()
    x[1, 2, 3, 1] = bad
    y = function(Tensor(x), None, None).data.reshape(view)
    spoilt = ~np.isfinite(x.reshape(view)).all(axis=(0, 2, 3))
    assert np.isnan(y[:, spoilt]).all()
    assert np.isfinite(y[:, ~spoilt]).all()
