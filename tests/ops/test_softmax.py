import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck, parallel
from minseg.emulator.sanitize import sanitized
from minseg.ops.op import get_op
from tests.witness import assert_agree

CASES = [((5,), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1), ((3, 4), 0), ((2, 1, 3), 1), ((), 0)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "dim"), [*CASES, ((3, 0, 2), 0), ((3, 0), 1)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_forward_equals_the_definition(name, shape, dim, dtype):
    x = (np.random.default_rng(0).standard_normal(shape) * 5).astype(dtype)
    got = getattr(F, name)(Tensor(x), dim)
    line = np.atleast_1d(x.astype(np.float64))
    expected = get_op(name).definition(line, dim % line.ndim).reshape(shape)
    assert_agree(got.data, expected, dtype, length=5)


@pytest.mark.parametrize(("shape", "dim"), CASES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradient(name, shape, dim):
    x = Tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)
    assert gradcheck(lambda x: getattr(F, name)(x, dim), [x])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores(dtype):
    x = Tensor(np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -np.inf]], dtype), requires_grad=True)
    np.testing.assert_array_equal(F.softmax(x, 1).data, [[0.5, 0, 0.5], [0.5, 0.5, 0]])
    y = F.log_softmax(x, 1)
    half = np.log(0.5)
    np.testing.assert_allclose(
        y.data, [[half, -2e4 + half, half], [half, half, -np.inf]], rtol=1e-7
    )
    y.backward(np.array([[1, 0, 0], [0, 1, 0]], dtype))
    np.testing.assert_array_equal(x.grad.data, [[0.5, 0, -0.5], [-0.5, 0.5, 0]])


def test_a_line_of_minus_infinities_has_no_softmax():
    assert np.isnan(F.softmax(Tensor(np.full(3, -np.inf)), 0).data).all()


def test_dtype_is_that_of_the_computation():
    x = Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    y = F.softmax(x, 0, dtype=np.float64)
    y.backward(np.array([1.0, 0.0]))
    assert (y.dtype, x.grad.dtype) == (np.float64, np.float32)
    assert F.log_softmax(Tensor(np.array([1, 2])), 0, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("x", "dim", "error", "message"),
    [
        (np.ones((2, 3)), 2, ValueError, "dim is 2, the input .2, 3. has 2 dims"),
        (np.ones((2, 3)), None, TypeError, "dim is None, needs an int"),
        (np.ones((2, 3), int), 1, TypeError, "input is int64"),
    ],
)
def test_errors_name_the_culprit(x, dim, error, message):
    for name in ("softmax", "log_softmax"):
        with pytest.raises(error, match=f"^{name}: {message}"):
            getattr(F, name)(Tensor(x), dim)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "dim"), [*CASES, ((300, 3), 1), ((2, 70), 1), ((3, 0), 1)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_kernels_equal_numpy(name, shape, dim, dtype):
    rng = np.random.default_rng(0)
    x = Tensor((rng.standard_normal(shape) * 5).astype(dtype), requires_grad=True)
    y = getattr(F, name)(x, dim)
    grad = rng.standard_normal(shape).astype(dtype)
    expected = get_op(name).grad_input(np.atleast_1d(grad), np.atleast_1d(y.data), dim)
    with minseg.use_kernels("emulator"):
        got = getattr(F, name)(x, dim)
        got.backward(grad)
    assert_agree(got.data, y.data, dtype, length=70)
    assert_agree(x.grad.data, expected.reshape(shape), dtype, length=70)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_kernels_take_what_is_not_finite_or_large_as_numpy_does(name):
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 1, 2], [-inf, -inf, -inf], [inf, 1, 2], [nan, 1, 2], [1e4, 1e4, -1e4]])
    x = np.append(x, [[-1e4, -2e4, -1e4]], axis=0)  # where a maximum that starts at 0 stays there
    for line, dim in ((x, 1), (x.T, 0)):
        with np.errstate(invalid="ignore"):
            expected = getattr(F, name)(Tensor(line), dim).data
        with minseg.use_kernels("emulator"):
            got = getattr(F, name)(Tensor(line), dim).data
        np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_kernels_are_sound():
    with minseg.use_kernels("emulator"), sanitized() as findings:
        for shape, dim in [((2, 3, 70), 1), ((9, 40), 1)]:
            x = Tensor(np.ones(shape, np.float32), requires_grad=True)
            F.softmax(x, dim).backward(np.ones(shape, np.float32))
            F.log_softmax(x, dim).backward(np.ones(shape, np.float32))
    assert not findings


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_the_number_of_threads_changes_no_bit(name, dim, monkeypatch):
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 5, 70, 101), np.float32)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(parallel, "_num_threads", threads)
        input = Tensor(x, requires_grad=True)
        y = getattr(F, name)(input, dim)
        y.backward(grad)
        results.append((y.data, input.grad.data))
    for y, dx in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(dx, results[0][1])
