"""max_pool2d, avg_pool2d, the adaptive pools and max_unpool2d."""

from contextlib import nullcontext

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops import adaptive_pool, avg_pool, max_pool, unpool
from minseg.ops.fast import max_pool as fast
from minseg.ops.fast import planes, window_means
from tests.witness import assert_adjoint, assert_agree, on_threads

# x shape, kernel, stride, padding, dilation, ceil_mode
MAX_CASES = [
    ((2, 3, 8, 6), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((2, 3, 9, 7), (3, 3), (2, 2), (1, 1), (1, 1), False),
    ((2, 3, 9, 8), (3, 2), (2, 3), (1, 0), (2, 3), True),
    ((1, 2, 7, 10), (2, 4), (3, 3), (1, 2), (1, 1), True),
    ((2, 1, 4, 5), (4, 5), (4, 5), (0, 0), (1, 1), False),
    ((1, 2, 9, 8), (1, 2), (4, 3), (0, 1), (1, 1), False),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), True),
    ((1, 1, 19, 18), (17, 16), (1, 1), (8, 8), (1, 1), False),  # 272 places: more than a byte tells
    ((0, 3, 5, 5), (2, 2), (2, 2), (0, 0), (1, 1), False),
]
# x shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
AVG_CASES = [
    ((2, 3, 8, 6), (2, 2), (2, 2), (0, 0), False, True, None),
    ((2, 3, 9, 7), (3, 3), (2, 2), (1, 1), False, False, None),
    ((2, 1, 9, 8), (3, 2), (2, 3), (1, 1), True, True, None),
    ((1, 2, 6, 7), (4, 4), (3, 3), (2, 2), True, False, None),
    ((1, 2, 6, 7), (2, 3), (3, 4), (0, 1), True, True, -3),
    ((2, 1, 4, 5), (4, 5), (4, 5), (0, 0), False, True, None),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False, True, None),
    ((0, 3, 5, 5), (2, 2), (2, 2), (0, 0), False, True, None),
]
ADAPTIVE_CASES = [((2, 3, 7, 5), (3, 2)), ((1, 2, 4, 6), (1, 1)), ((2, 1, 3, 4), (5, 4))]


def image(shape, dtype=np.float64, seed=0):
    """Values that all differ by 0.01 or more: no maximum changes hands within gradcheck's step."""
    rng = np.random.default_rng(seed)
    return (rng.permutation(int(np.prod(shape))).reshape(shape) / 100).astype(dtype)


@pytest.fixture(params=["all at once", "quicker ways"])
def way(request, monkeypatch):
    """Both that the ops may go, whatever the size; test_window_means.py has a third."""
    most = 2**30 if request.param == "all at once" else -1
    monkeypatch.setattr(fast, "FEW", most)
    monkeypatch.setattr(fast, "SMALL", most)
    monkeypatch.setattr(planes, "SMALL", most)
    monkeypatch.setattr("minseg.ops.fast.planes.PLANES_BYTES", 0)  # a block for each plane
    monkeypatch.setattr(window_means, "MOST_WINDOWS", 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", MAX_CASES)
def test_max_pool2d_equals_the_definition(case, dtype):
    x, how = image(case[0], dtype), case[1:]
    x = (x * 3).round() / 3  # ties
    for got, expected in zip(
        F.max_pool2d(Tensor(x), *how, return_indices=True),
        max_pool.op.definition(x, *how),
        strict=True,
    ):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got.data, expected)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", [MAX_CASES[1], MAX_CASES[2]])
def test_the_last_nan_of_a_window_is_its_maximum(case):
    shape, *how = case
    x = np.where(np.random.default_rng(0).random(shape) < 0.15, np.nan, image(shape))
    (y, indices), expected = max_pool.op.forward(x, *how), max_pool.op.definition(x, *how)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(indices, expected[1])
    assert 0 < np.isnan(y).mean() < 1


@pytest.mark.usefixtures("way")
def test_the_first_of_equal_maxima_the_last_nan_and_minus_infinity():
    x = np.array([[[[1.0, 3, 3, 0], [3, 2, 0, 3]]]])
    y, indices = F.max_pool2d(Tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(y.data.ravel(), [3, 3])
    np.testing.assert_array_equal(indices.data.ravel(), [1, 2])
    x = np.array([[[[np.nan, 3, -np.inf, -np.inf], [np.nan, 2, -np.inf, -np.inf]]]])
    for y, indices in (
        F.max_pool2d(Tensor(x), 2, return_indices=True),
        F.adaptive_max_pool2d(Tensor(x), (1, 2), return_indices=True),
    ):
        np.testing.assert_array_equal(y.data.ravel(), [np.nan, -np.inf])
        np.testing.assert_array_equal(indices.data.ravel(), [4, 2])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", AVG_CASES)
def test_avg_pool2d_equals_the_definition(case, dtype):
    x, how = image(case[0], dtype), case[1:]
    expected = avg_pool.op.definition(x.astype(np.float64), *how)
    got = F.avg_pool2d(Tensor(x), *how)
    assert_agree(got.data, expected, dtype, length=case[1][0] * case[1][1])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), ADAPTIVE_CASES)
def test_adaptive_pools_equal_their_definitions(shape, size, dtype):
    x = image(shape, dtype)
    expected = adaptive_pool.avg_op.definition(x.astype(np.float64), size)
    got = F.adaptive_avg_pool2d(Tensor(x), size)
    assert_agree(got.data, expected, dtype, length=shape[2] * shape[3])
    pooled = F.adaptive_max_pool2d(Tensor(x), size, return_indices=True)
    for got, expected in zip(pooled, adaptive_pool.max_op.definition(x, size), strict=True):
        np.testing.assert_array_equal(got.data, expected)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", [c for c in MAX_CASES if 0 < np.prod(c[0]) < 300])
def test_max_pool2d_gradient(case):
    x = Tensor(image(case[0]), requires_grad=True)
    assert gradcheck(lambda x: F.max_pool2d(x, *case[1:]), [x])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", [c for c in AVG_CASES if c[0][0]])
def test_avg_pool2d_gradient_and_adjoint(case):
    shape, kernel, stride, padding, _, *counting = case
    x = image(shape)
    assert gradcheck(lambda x: F.avg_pool2d(x, *case[1:]), [Tensor(x, requires_grad=True)])
    assert_adjoint(
        lambda x: avg_pool.op.forward(x, *case[1:]),
        lambda g: avg_pool.op.grad_input(g, shape, kernel, stride, padding, *counting),
        x,
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("shape", "size"), ADAPTIVE_CASES)
def test_adaptive_gradients_and_adjoint(shape, size):
    x = Tensor(image(shape), requires_grad=True)
    assert gradcheck(lambda x: F.adaptive_avg_pool2d(x, size), [x])
    assert gradcheck(lambda x: F.adaptive_max_pool2d(x, size), [x])
    op = adaptive_pool.avg_op
    assert_adjoint(lambda x: op.forward(x, size), lambda g: op.grad_input(g, shape), x.data)


@pytest.mark.usefixtures("way")
def test_max_unpool2d_puts_the_maxima_back():
    x = image((2, 3, 6, 9))
    y, indices = F.max_pool2d(Tensor(x), (2, 3), return_indices=True)
    back = F.max_unpool2d(y, indices, (2, 3))
    np.testing.assert_array_equal(back.data, np.where(back.data != 0, x, 0))
    assert np.count_nonzero(back.data) == np.count_nonzero(y.data)
    expected = unpool.op.definition(y.data, indices.data, (6, 9))
    np.testing.assert_array_equal(back.data, expected)
    inputs = [Tensor(y.data.copy(), requires_grad=True), indices]
    assert gradcheck(lambda y, indices: F.max_unpool2d(y, indices, (2, 3)), inputs)


@pytest.mark.usefixtures("way")
def test_max_unpool2d_takes_a_stride_of_1():
    x = image((2, 3, 4, 6))
    y, indices = F.max_pool2d(Tensor(x), (3, 2), 1, return_indices=True)
    back = F.max_unpool2d(y, indices, (3, 2), 1)
    np.testing.assert_array_equal(back.data, np.where(back.data != 0, x, 0))
    assert set(back.data[back.data != 0]) == set(y.data.ravel())


def test_pooling_and_unpooling_are_adjoint():
    """With the places held: unpooling is max-pooling's gradient, and the other way round."""
    x = image((2, 3, 6, 9))
    how = ((2, 3), (2, 3), (0, 0), (1, 1))
    y, indices = max_pool.op.forward(x, *how, False)
    assert_adjoint(
        lambda y: unpool.op.forward(y, indices, (6, 9)),
        lambda g: unpool.op.grad_input(g, indices),
        y,
    )
    np.testing.assert_array_equal(
        max_pool.op.grad_input(y, indices, x.shape, *how), unpool.op.forward(y, indices, (6, 9))
    )


@pytest.mark.usefixtures("way")
def test_max_unpool2d_the_last_of_several_values_stays():
    x = Tensor(np.array([[[[1.0, 2], [3, 4]]]]), requires_grad=True)
    places = Tensor(np.array([[[[5, 0], [5, 5]]]]))
    y = F.max_unpool2d(x, places, 2, output_size=(3, 5))
    np.testing.assert_array_equal(y.data.ravel(), [2, 0, 0, 0, 0, 4] + [0] * 9)
    y.backward(np.arange(15.0).reshape(y.shape))
    np.testing.assert_array_equal(x.grad.data.ravel(), [5, 0, 5, 5])  # as in PyTorch


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_indices_may_be_any_integers(dtype):
    x = Tensor(np.array([[[[1.0, 2], [3, 4]]] * 2]), requires_grad=True)
    y = F.max_unpool2d(x, Tensor(np.array([[[[5, 0], [2, 15]]] * 2], dtype)), 2)
    np.testing.assert_array_equal(
        y.data.reshape(2, 16), [[2, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]] * 2
    )
    y.backward(np.arange(32.0).reshape(y.shape))
    np.testing.assert_array_equal(x.grad.data.ravel(), [5, 0, 2, 15, 21, 16, 18, 31])


def through_kernels(function, *inputs):
    """An op's result and input gradients, by NumPy and by the kernels in the emulator."""
    results = []
    for kernels in (False, True):
        tensors = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs]
        with minseg.use_kernels("emulator") if kernels else nullcontext():
            y = function(*tensors)
            outputs = y if isinstance(y, tuple) else (y,)
            grad = np.random.default_rng(1).standard_normal(outputs[0].shape)
            outputs[0].backward(grad.astype(inputs[0].dtype))
        results.append([*(o.data for o in outputs), tensors[0].grad.data])
    return results


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", MAX_CASES)
def test_max_kernels_equal_numpy(case, dtype):
    x, how = (image(case[0], dtype) * 3).round() / 3, case[1:]
    (y, indices, dx), got = through_kernels(
        lambda x: F.max_pool2d(x, *how, return_indices=True), x.astype(dtype)
    )
    np.testing.assert_array_equal(got[0], y)
    np.testing.assert_array_equal(got[1], indices)
    assert (got[0].dtype, got[1].dtype) == (dtype, np.int64)
    assert_agree(got[2], dx, dtype, length=np.prod(how[0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", AVG_CASES)
def test_average_kernels_equal_numpy(case, dtype):
    expected, got = through_kernels(lambda x: F.avg_pool2d(x, *case[1:]), image(case[0], dtype))
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=np.prod(case[1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), [*ADAPTIVE_CASES, ((0, 2, 3, 4), (2, 2))])
def test_adaptive_kernels_equal_numpy(shape, size, dtype):
    x = image(shape, dtype)
    expected, got = through_kernels(lambda x: F.adaptive_avg_pool2d(x, size), x)
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=shape[2] * shape[3])
    expected, got = through_kernels(
        lambda x: F.adaptive_max_pool2d(x, size, return_indices=True), x
    )
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    assert_agree(got[2], expected[2], dtype, length=np.prod(size))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unpool_kernels_equal_numpy(dtype):
    """Indices at random: many places are named several times, some never."""
    x = image((2, 3, 6, 5), dtype)
    indices = np.random.default_rng(2).integers(0, 11 * 9, x.shape)
    expected, got = through_kernels(
        lambda x, i: F.max_unpool2d(x, i, 2, output_size=(11, 9)), x, indices
    )
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == dtype


def test_kernels_take_the_first_maximum_the_last_nan_and_minus_infinity():
    x = np.array([[[[np.nan, 3, -np.inf, -np.inf, 1, 3], [np.nan, 2, -np.inf, -np.inf, 3, 0]]]])
    for pool in (
        lambda x: F.max_pool2d(x, 2, return_indices=True),
        lambda x: F.adaptive_max_pool2d(x, (1, 3), return_indices=True),
    ):
        _, (y, indices, _) = through_kernels(pool, x)
        np.testing.assert_array_equal(y.ravel(), [np.nan, -np.inf, 3])
        np.testing.assert_array_equal(indices.ravel(), [6, 2, 5])


def test_sanitizer_finds_nothing():
    x = image((2, 2, 9, 8), np.float32)
    with sanitized() as findings, minseg.use_kernels("emulator"):
        t = Tensor(x, requires_grad=True)
        y, indices = F.max_pool2d(t, 3, 2, 1, ceil_mode=True, return_indices=True)
        results = [
            y,
            F.max_unpool2d(y, indices, 3, 2, 1, output_size=(9, 8)),
            F.avg_pool2d(t, (3, 2), 2, 1, count_include_pad=False),
            F.adaptive_avg_pool2d(t, (4, 11)),
            F.adaptive_max_pool2d(t, (4, 11)),
        ]
        sum(r.sum() for r in results).backward()
    assert not findings


def test_threads_and_strides_change_nothing():
    x = image((3, 50, 33, 29), np.float32)
    before = x.copy()

    def results(x):
        t = Tensor(x, requires_grad=True)
        pooled = [F.max_pool2d(t, 3, 2, 1), F.avg_pool2d(t, 3, 2, 1), F.adaptive_avg_pool2d(t, 4)]
        total = sum(p.sum() * 0.5 for p in pooled)
        total.backward()
        return [*(p.data for p in pooled), t.grad.data]

    expected = results(x)
    with on_threads(3):
        got = results(np.asfortranarray(x))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(x, before)


X = Tensor(np.ones((1, 3, 5, 6)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.max_pool2d(Tensor(np.ones((3, 5, 6))), 2), ValueError, "max_pool2d: input"),
        (lambda: F.max_pool2d(Tensor(np.ones((1, 1, 5, 6), int)), 2), TypeError, "input is int64"),
        (lambda: F.max_pool2d(X, 7), ValueError, "max_pool2d: no window fits: kernel .7, 7."),
        (
            lambda: F.max_pool2d(X, 2, padding=2),
            ValueError,
            "padding is .2, 2., needs at most half",
        ),
        (lambda: F.max_pool2d(X, 2, padding=-1), ValueError, "padding is -1"),
        (lambda: F.max_pool2d(X, 0), ValueError, "kernel_size is 0"),
        (lambda: F.max_pool2d(X, 2, 0), ValueError, "stride is 0"),
        (lambda: F.max_pool2d(X, 2, 1, 3, 6), ValueError, "holds no pixel"),
        (lambda: F.max_pool2d(Tensor(np.ones((1, 0, 5, 6))), 2), ValueError, "only N may be 0"),
        (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override is 0"),
        (lambda: F.avg_pool2d(X, (2, 2, 2)), TypeError, "avg_pool2d: kernel_size"),
        (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "output_size is .0, 0."),
        (
            lambda: F.adaptive_max_pool2d(X, (1, 2, 3)),
            TypeError,
            "adaptive_max_pool2d: output_size",
        ),
        (lambda: F.max_unpool2d(X, X, 2), TypeError, "indices is float64"),
        (
            lambda: F.max_unpool2d(X, Tensor(np.zeros((1, 3, 5, 5), int)), 2),
            ValueError,
            "indices has",
        ),
        (lambda: F.max_unpool2d(X, Tensor(np.full(X.shape, 120)), 2), ValueError, "the places 0"),
        (lambda: F.max_unpool2d(X, Tensor(np.full(X.shape, -1)), 2), ValueError, "the places 0"),
        (
            lambda: F.max_unpool2d(X, Tensor(np.zeros(X.shape, int)), 2, output_size=(10, 14)),
            ValueError,
            "output_size is .10, 14., needs to be less than a stride",
        ),
        (
            lambda: F.max_unpool2d(X, Tensor(np.zeros(X.shape, int)), 2, output_size=(3, 10, 12)),
            ValueError,
            r"output_size is \(3, 10, 12\), needs \(H', W'\)",
        ),
        (
            lambda: F.max_unpool2d(X, Tensor(np.zeros(X.shape, int)), 1, padding=3),
            ValueError,
            "max_unpool2d: the output would be -1x0",
        ),
    ],
)
def test_errors_name_the_culprit(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d])
def test_sizes_may_be_numpy_integers(pool):
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 7, 6)))
    got = pool(x, np.int32(3), np.int64(2), np.int64(1))
    np.testing.assert_array_equal(got.data, pool(x, 3, 2, 1).data)
    np.testing.assert_array_equal(pool(x, 3, []).data, pool(x, 3).data)
