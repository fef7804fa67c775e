import gc
import itertools
import weakref

import numpy as np
import pytest

import minseg
from minseg import Tensor, gradcheck, tensor
from minseg.optim import clip_grad_value_


def randn(*shape, seed=0, dtype=np.float64):
    values = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return Tensor(values, requires_grad=True)


positive = Tensor(np.random.default_rng(3).uniform(0.5, 2, (2, 3)), requires_grad=True)

UNARY = {
    "neg": lambda x: -x,
    "pow": lambda x: x**3,
    "exp": Tensor.exp,
    "log": Tensor.log,
    "sqrt": Tensor.sqrt,
    "abs": lambda x: (x - 1.03).abs(),
    "clamp": lambda x: x.clamp(0.8, 1.6),
    "sum": Tensor.sum,
    "sum of a dim": lambda x: x.sum(-1),
    "sum, keepdim": lambda x: x.sum((0, 1), keepdim=True),
    "mean": lambda x: x.mean(0),
    "var": lambda x: x.var(1),
    "amax": lambda x: x.amax(1),
    "amin, keepdim": lambda x: x.amin(0, keepdim=True),
    "max": Tensor.max,
    "reshape": lambda x: x.reshape(3, -1) * x.reshape(3, 2),
    "permute": lambda x: x.reshape(1, 2, 3).permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, -1),
    "transpose of a dim with itself": lambda x: x.transpose(1, -1) * x,
    "flatten": lambda x: x.unsqueeze(0).flatten(1),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "expand": lambda x: x.unsqueeze(0).expand(4, 2, 3),
    "slice": lambda x: x[:, 1:],
    "integer": lambda x: x[-1],
    "mask": lambda x: x[x.data > 1],
    "integer array, twice the same": lambda x: x[np.array([0, 1, 1, 0, 1])],
    "mixed": lambda x: x[None, ..., np.array([2, 2])],
    "cat": lambda x: minseg.cat([x, x * 2], -1),
    "stack": lambda x: minseg.stack([x, x * 2], 1),
    "split": lambda x: minseg.split(x, [1, 2], 1)[1] * 2,
    "used twice": lambda x: x * x + x / x,
    "number on the left": lambda x: 2 - x + 3 / x,
    "array on the left": lambda x: np.ones((2, 3)) * x @ np.ones((3, 2)),
    "where": lambda x: x.where(x.data > 1, x * 3),
    "to": lambda x: x.to(np.float64).to("cpu"),
}


@pytest.mark.parametrize("name", UNARY)
def test_gradient(name):
    assert gradcheck(UNARY[name], [positive])


@pytest.mark.parametrize("op", ["__add__", "__sub__", "__mul__", "__truediv__"])
@pytest.mark.parametrize("shape", [(4, 2, 3), (3,), (2, 1), (), (1, 1, 1)])
def test_broadcasting_gradients(op, shape):
    other = Tensor(np.random.default_rng(5).uniform(1, 2, shape), requires_grad=True)
    assert gradcheck(lambda a, b: getattr(a, op)(b), [randn(2, 3), other])
    assert gradcheck(lambda a, b: getattr(a, op)(b), [other, positive])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 2)),
    ],
)
def test_matmul(a, b):
    a, b = randn(*a), randn(*b, seed=1)
    np.testing.assert_array_equal((a @ b).data, a.data @ b.data)
    assert gradcheck(lambda a, b: a @ b, [a, b])


def test_a_wrong_gradient_is_found():
    def wrong(x):
        return minseg.tensor.record("wrong", x.data**2, (x,), lambda grad: (grad * x.data,))

    with pytest.raises(AssertionError, match="input 0 at"):
        gradcheck(wrong, [randn(2, 3)])
    with pytest.raises(TypeError, match="float32"):
        gradcheck(wrong, [randn(2, dtype=np.float32)])
    with pytest.raises(TypeError, match="gives a tuple, needs one Tensor"):
        gradcheck(lambda x: (x, x), [randn(2)])
    with pytest.raises(ValueError, match="no input requires"):
        gradcheck(wrong, [randn(2).detach()])


def test_gradcheck_leaves_its_inputs_as_they_are():
    x = randn(2, 3)
    array, before = x.data, x.data.copy()
    assert gradcheck(lambda x: x**2, [x])
    assert x.data is array
    np.testing.assert_array_equal(array, before)

    def only_here(x):
        if not np.array_equal(x.data, before):
            raise RuntimeError("elsewhere")
        return x * 2

    with pytest.raises(RuntimeError, match="elsewhere"):
        gradcheck(only_here, [x])
    assert x.data is array


def test_deep_graphs_do_not_recurse():
    x = y = randn(2)
    for _ in range(20_000):
        y = y * 1.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [1, 1])
    for _ in range(20_000):
        y = x + y
    del y  # neither may releasing it


def test_gradients_accumulate_and_do_not_alias():
    a, b = randn(3), randn(3)
    (a + b).sum().backward()
    (a + b).sum().backward()
    np.testing.assert_array_equal(a.grad.data, [2, 2, 2])
    a.grad.data *= 10
    np.testing.assert_array_equal(b.grad.data, [2, 2, 2])


def test_each_leaf_keeps_a_gradient_of_its_own():
    a, b, c = randn(2, 3), randn(2, 3), randn(6)
    g = np.ones((2, 3))
    twice = tensor.record("twice", a.data, (a, b), lambda grad: (part := 2 * grad, part))
    for y in (a, a + b, b.reshape(3, 2).reshape(2, 3) + c.reshape(2, 3), twice, a.transpose(0, 1)):
        leaves = a, b, c
        for leaf in leaves:
            leaf.grad = None
        y.backward(g.reshape(y.shape))
        arrays = [g, *(leaf.grad.data for leaf in leaves if leaf.grad is not None)]
        assert all(array.flags.c_contiguous for array in arrays)
        assert not any(np.shares_memory(x, y) for x, y in itertools.combinations(arrays, 2))


def test_diamonds_get_both_gradients_once():
    for join in (lambda y: y * y + y, lambda y: y + y * y):
        x = Tensor([3.0], requires_grad=True)
        join(x * x).backward()
        assert x.grad.item() == 4 * 3**3 + 2 * 3


def test_the_record_is_released():
    x = randn(3)
    y = x.exp()
    inner, z = weakref.ref(y), y.sum()
    del y
    z.backward()
    gc.collect()
    assert inner() is None
    with pytest.raises(RuntimeError, match="retain_graph"):
        z.backward()


def test_retain_graph():
    x = randn(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.data, 4 * x.data)


def test_no_grad_and_detach():
    x = randn(3)
    with minseg.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    assert not x.detach().requires_grad
    assert x.detach().data is x.data

    @minseg.no_grad()
    def double(x):
        return x * 2

    assert not double(x).requires_grad


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    x = randn(2, 3, dtype=dtype)
    for value in (2, 2.5, np.float64(2.5), np.float32(2.5), np.arange(1, 4), Tensor(np.float64(2))):
        for y in (x + value, value * x, x / value, value - x, x**2, x.mean(), x.var(0)):
            assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(np.ones(2)).dtype == np.float64


def test_mixed_precision_is_refused():
    with pytest.raises(TypeError, match="add: float32 and float64"):
        randn(2, dtype=np.float32) + np.ones(2)


def test_a_gradient_of_another_dtype_or_shape_is_refused():
    x = randn(3, dtype=np.float32)
    for wrong in (np.ones(3), np.ones(4, np.float32)):
        y = minseg.tensor.record("mine", x.data, (x,), lambda grad, w=wrong: (w,))
        with pytest.raises(ValueError, match="mine: its backward gave a gradient of shape"):
            y.backward(np.ones(3, np.float32))


def test_comparison_and_conversion():
    x = Tensor([1.0, 2.0, 3.0])
    np.testing.assert_array_equal((x > 2).data, [False, False, True])
    np.testing.assert_array_equal((x == Tensor([1.0, 0.0, 3.0])).data, [True, False, True])
    assert x.argmax().item() == 2
    rows = Tensor([[1.0, 3.0, 3.0], [5.0, 2.0, 4.0]])
    assert rows.argmax().item() == 3  # of the flattened rows
    assert rows.argmax(1, keepdim=True).data.tolist() == [[1], [0]]
    assert rows.argmax(-2).data.tolist() == [1, 0, 1]
    assert float(x.sum()) == 6
    assert bool(x.sum() == 6)
    np.testing.assert_array_equal(np.asarray(x), [1, 2, 3])
    assert x.numpy() is x.data
    assert len({x, x, Tensor([1.0])}) == 2
    assert [v.item() for v in x] == [1, 2, 3]
    assert "made by add" in repr(x.requires_grad_() + 1)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda: randn(2).backward(), ValueError, "pass a gradient"),
        (lambda: randn(2).backward(np.ones(3)), ValueError, r"shape \(3,\), needs \(2,\)"),
        (lambda: Tensor([1.0]).backward(), RuntimeError, "requires a gradient"),
        (lambda: Tensor([1, 2], requires_grad=True), TypeError, "only floats"),
        (lambda: Tensor(np.ones(2, np.float16)), TypeError, "float16"),
        (lambda: Tensor(["a"]), TypeError, "dtype is <U1"),
        (lambda: randn(2).item(), ValueError, "exactly one"),
        (lambda: randn(2, 3) @ randn(2, 3), ValueError, "matmul: .2, 3. @ .2, 3."),
        (lambda: randn(2, 3) + randn(3, 2), ValueError, "add: shapes .2, 3. and .3, 2. do not"),
        (lambda: randn(2, 3) / np.ones((2, 2)), ValueError, "div: shapes .2, 3. and .2, 2. do"),
        (lambda: randn(2, 3, 4) @ randn(3, 4, 5), ValueError, "matmul: shapes"),
        (lambda: minseg.cat([randn(2, 3), randn(3, 2)]), ValueError, "one shape but for dim 0"),
        (lambda: minseg.cat([]), ValueError, "got nothing"),
        (lambda: minseg.split(randn(4), [1, 2]), ValueError, "sum to 3, dim 0 has 4"),
        (lambda: randn(2).to("tpu"), TypeError, "data type"),
        (lambda: randn(2).to("cuda:x"), ValueError, "cuda:x"),
    ],
)
def test_errors(action, error, message):
    with pytest.raises(error, match=message):
        action()


def test_a_numpy_scalar_does_not_upcast():
    x = Tensor(np.array([0.0, 1.0, 2.0], np.float32))
    for two in (np.float64(2), np.array(2.0)):
        for y in (x**two, x.clamp(two), x.clamp(max=two), x * two, x - two, x / two):
            assert y.dtype == np.float32
    assert (np.float64(2) * x).dtype == (np.float64(2) / (x + 1)).dtype == np.float32
    assert (Tensor([1, 2]) / Tensor([2, 4])).dtype == np.float32
    assert (x > 0).mean().dtype == np.float32
    for half in (np.float64(0.5), np.array(0.5)):
        for whole in (Tensor([1, 2]), Tensor([True, False])):
            for y in (whole * half, half - whole, whole / half, whole.where(whole > 0, half)):
                assert y.dtype == np.float32
        np.testing.assert_array_equal((Tensor([1, 2]) * half).data, [0.5, 1])
        np.testing.assert_array_equal((Tensor([1, 2]) / half).data, [2, 4])
    np.testing.assert_array_equal((Tensor(np.array([75], np.uint8)) / 300).data, [0.25])


def test_a_bool_times_two_is_two():
    mask = Tensor([True, False])
    for y in (mask * 2, 2 * mask, mask + mask * 1, mask.where(mask, 0) * np.int64(2)):
        np.testing.assert_array_equal(y.data, [2, 0])
        assert y.dtype == np.int64
    assert (mask * True).dtype == bool
    assert (mask * 0.5).dtype == np.float32


def test_of_two_single_numbers_the_more_precise_dtype_is_kept():
    single, double = Tensor(np.float32(1)), Tensor(np.float64(1e-9))
    for y in (single + double, double + single):
        assert y.item() == 1 + 1e-9


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, bool])
def test_functions_of_integers_are_computed_in_float32(dtype):
    """As in PyTorch: NumPy's would be float16 or float64, by the integers' size."""
    x = np.array([1, 0, 1], dtype)
    float32 = x.astype(np.float32)
    for function in (
        Tensor.exp, Tensor.sqrt, lambda x: (x + 1).log(), lambda x: x**0.5, lambda x: x.clamp(0.5)
    ):  # fmt: skip
        y = function(Tensor(x))
        np.testing.assert_array_equal(y.data, function(Tensor(float32)).data)
        assert y.dtype == np.float32
    assert Tensor(x).abs().dtype == x.dtype


def test_integers_beside_an_integer_power_or_bound_stay_integers():
    x = Tensor(np.array([0, 3, 50_000]))
    for y, expected in (
        (x**0, [1, 1, 1]), (x**2, [0, 9, 2_500_000_000]), (x.clamp(max=40_000), [0, 3, 40_000])
    ):  # fmt: skip
        np.testing.assert_array_equal(y.data, expected)
        assert y.dtype == np.int64


def test_the_slope_of_a_zeroth_power_is_zero():
    x = Tensor(np.array([0.0, 2.0]), requires_grad=True)
    (x**0).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0, 0])


def test_expand_keeps_sizes_of_minus_one():
    x = Tensor(np.arange(3.0).reshape(3, 1), requires_grad=True)
    for sizes in ((2, -1, 4), ((2, -1, 4),)):
        y = x.expand(*sizes)
        assert y.shape == (2, 3, 4)
        np.testing.assert_array_equal(y.data, np.broadcast_to(x.data, (2, 3, 4)))


@pytest.mark.parametrize("chosen", [Tensor.where, lambda x, mask, _: x.clamp(min=0)])
def test_an_infinite_slope_reaches_only_what_was_chosen(chosen):
    x = Tensor(np.array([-1.0, 4.0]), requires_grad=True)
    chosen(x, x.data > 0, 0.0).backward(np.array([np.inf, 1 / 4]))  # a root's slopes at 0 and 4
    np.testing.assert_array_equal(x.grad.data, [0, 1 / 4])


def test_where_takes_conditions_of_zeros_and_ones():
    a, b = randn(3), randn(3)
    a.where(np.array([1, 0, 1]), b).sum().backward()
    np.testing.assert_array_equal(a.grad.data, [1, 0, 1])
    np.testing.assert_array_equal(b.grad.data, [0, 1, 0])


def test_numbers_beside_arrays_in_an_index_are_taken_first():
    """As in PyTorch; NumPy would put the arrays' axis in front."""
    x = randn(2, 3, 4)
    two, both = np.array([3, 1]), np.array([True, False, True, True])
    for index, expected in (
        ((0, slice(None), two), x.data[0][:, two]),
        ((0, ..., [3, 1]), x.data[0][:, two]),
        ((Tensor(np.array(1)), slice(1, None), Tensor(both)), x.data[1, 1:][:, both]),
        ((two % 2, slice(None), -1), x.data[:, :, -1][two % 2]),
        ((two % 2, None, 2), x.data[:, 2][two % 2][:, None]),
        ((None, 1, np.ones((3, 4), bool)), x.data[1].reshape(1, 12)),
    ):
        np.testing.assert_array_equal(x[index].data, expected)
        assert gradcheck(lambda x, index=index: x[index], [x])


def test_an_ellipsis_that_stands_for_no_dimension_parts_no_arrays():
    """As in PyTorch: only where it stands for some do their axes go in front, as in NumPy."""
    x, rows = randn(2, 3, 4), np.array([2, 0])
    for last, columns in ((np.array([3, 1]), [3, 1]), ([False, True, False, True], [1, 3])):
        for index in ((slice(None), rows, ..., last), (..., slice(None), rows, last)):
            np.testing.assert_array_equal(x[index].data, x.data[:, rows, columns])
            assert gradcheck(lambda x, index=index: x[index], [x])
    assert x[np.array([1]), ..., rows].shape == (2, 3)


@pytest.mark.parametrize("shape", [(), (1,), (2, 0)])
def test_the_variance_of_fewer_values_than_the_correction_is_nan(shape):
    assert np.isnan(randn(*shape).var(correction=2).item())


def test_what_is_empty_splits_into_one_empty_piece():
    assert [piece.shape for piece in minseg.split(randn(2, 0), 3, 1)] == [(2, 0)]


def test_dimensions_are_numpy_integers_too():
    x = randn(2, 3)
    assert x.sum(np.int64(1)).shape == (2,)
    assert [part.shape for part in minseg.split(x, np.int64(2), 1)] == [(2, 2), (2, 1)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x.sum(2), "dim is 2: the tensor has 2 dimensions"),
        (lambda x: x.mean(-3), "dim is -3"),
        (lambda x: x + randn(2, 4), r"add: shapes \(2, 3\) and \(2, 4\) do not broadcast"),
        (lambda x: x.where(np.ones((2, 3), bool), randn(4)), "where: shapes"),
        (lambda x: x == np.ones(4), "equal: shapes"),
        (lambda x: randn(2, 2, 3) @ randn(3, 3, 1), "matmul: shapes"),
        (lambda x: x**x, "pow: got a Tensor"),
        (lambda x: Tensor(np.ones(2, np.uint8)) + 300, "add: uint8 cannot hold 300"),
        (lambda x: Tensor(np.ones(2, np.uint8)).where(True, -1), "where: uint8 cannot hold -1"),
        (lambda x: x.clamp(x), "clamp: got a Tensor"),
        (lambda x: x.clamp(), "clamp: got neither min nor max"),
        (lambda x: x ** np.ones(3), "pow: got a ndarray, needs a number"),
        (lambda x: x ** Tensor(2.0), "pow: got a Tensor, needs a number"),
        (lambda x: (x > 0).to(np.int64) ** -1, "pow: int64 to the power of -1 is no integer"),
        (lambda x: x[:0].amax(0), "amax: shape"),
        (lambda x: x[:0].amin(0), "amin: shape"),
        (lambda x: minseg.cat([x, x], 2), "cat: dim is 2"),
        (lambda x: minseg.split(x, 0), "split: sizes is 0"),
        (lambda x: minseg.split(x, [3, -1]), "split: sizes are .3, -1., needs at least 0"),
        (lambda x: minseg.split(x, 1, 2), "split: dim is 2"),
        (lambda x: minseg.cat([x.data, x.data]), "cat: tensors needs to be a list of Tensors"),
        (minseg.cat, "cat: tensors needs to be a list of Tensors"),
        (lambda x: minseg.stack([x.data]), "stack: tensors needs to be a list of Tensors"),
        (lambda x: minseg.stack([x, x[0]]), r"stack: got \(2, 3\), \(3,\); needs one shape"),
        (lambda x: minseg.stack([]), "stack: got nothing"),
        (lambda x: minseg.split(x, 1.5), "split: sizes is 1.5, needs an int or several"),
        (lambda x: x.sum(1.5), "sum: dim is 1.5, needs an int or several"),
        (lambda x: x.amax("rows"), "amax: dim is 'rows', needs an int"),
        (lambda x: x.sum((1, -1)), "sum: dim is .1, -1., which names a dimension twice"),
        (lambda x: x + None, "add: got a NoneType, needs a Tensor or numbers"),
        (lambda x: "2" * x, "mul: got a str, needs a Tensor or numbers"),
        (lambda x: x.argmax(2), "argmax: dim is 2"),
        (lambda x: x.squeeze(2), "squeeze: dim is 2"),
        (lambda x: x.unsqueeze(3), "unsqueeze: dim is 3, needs -3 to 2"),
        (lambda x: x.transpose(0, 2), "transpose: dim is 2: the tensor has 2"),
        (lambda x: x.permute(0, 0), "permute: dim is .0, 0., which names a dimension twice"),
        (lambda x: x.permute(1), "permute: dims are .1,., needs each of 2 once"),
        (lambda x: x.expand(4, 3), r"expand: shape is \(2, 3\), which does not repeat to \(4, 3\)"),
        (lambda x: x.expand(-1, 2, 3), r"expand: shape is \(2, 3\), .* to \(-1, 2, 3\)"),
        (lambda x: x.expand(3), r"expand: shape is \(2, 3\)"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        wrong(randn(2, 3))


def test_small_integers_are_subtracted_compared_and_summed_as_numbers():
    """As uint8, the negative of 1 is 255."""
    pixels, classes = Tensor(np.array([0, 1, 7], np.uint8)), Tensor(np.array([0, 3, 3]))
    np.testing.assert_array_equal((classes - pixels).data, [0, 2, -4])
    np.testing.assert_array_equal((2.5 - pixels).data, [2.5, 1.5, -4.5])
    np.testing.assert_array_equal((np.array([1.0, 1.0, 1.0]) - pixels).data, [1, 0, -6])
    assert pixels.min().item() == 0
    assert pixels.amin(0, keepdim=True).data.tolist() == [0]
    assert (pixels > 0).min().item() is False
    assert pixels.sum().dtype == np.int64
    assert (pixels.sum(0, keepdim=True) - classes).data.tolist() == [8, 5, 5]


@pytest.mark.parametrize("dim", [(), []])
def test_a_reduction_over_no_dimensions_is_over_all_as_in_pytorch(dim):
    x = randn(2, 3)
    expected = {"sum": x.data.sum(), "mean": x.data.mean(), "var": x.data.var(ddof=1)}
    expected |= {"amax": x.data.max(), "amin": x.data.min()}
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(x, name)(dim).data, value, rtol=1e-14, strict=True)
        assert getattr(x, name)(dim, keepdim=True).shape == (1, 1)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("reduce", [Tensor.mean, Tensor.sum, lambda x: x.sum() * 3])
def test_the_gradient_of_a_single_weight_can_be_clipped(shape, reduce):
    weight = Tensor(np.ones(shape), requires_grad=True)
    reduce(weight).backward()
    clip_grad_value_([weight], 0.25)
    assert weight.grad.item() == 0.25


def test_a_single_value_of_any_dtype_is_a_number():
    for values in ([2.5], [[3]], True, np.uint8(7)):
        x, number = Tensor(values), np.asarray(values).item()
        assert (float(x), int(x), bool(x)) == (float(number), int(number), True)
        assert f"{x:.2f}" == f"{number:.2f}"
    assert not Tensor(0.0)
    assert f"{Tensor([1, 2])}" == "Tensor([1, 2], shape=(2,), int64)"


@pytest.mark.parametrize("dim", [0, -1, (0,)])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin"])
def test_a_single_number_is_reduced_as_a_line_of_one(name, dim):
    x = Tensor(np.array(3.0), requires_grad=True)
    for keepdim in (False, True):
        y = getattr(x, name)(dim, keepdim)
        assert (y.shape, y.item()) == ((), 3)
        assert gradcheck(lambda x, keepdim=keepdim: getattr(x, name)(dim, keepdim), [x])
    assert x.argmax(0).item() == 0
    with pytest.raises(ValueError, match=f"{name}: dim is 1"):
        getattr(x, name)(1)


def test_no_gradient_goes_through_integers():
    x = Tensor([0.5, 1.5], requires_grad=True)
    assert not x.to(np.int64).requires_grad
    (x * x.to(np.int64).to(np.float32)).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0, 1])


def test_masks_are_combined_as_in_pytorch():
    mask, other = Tensor(np.array([True, True, False])), Tensor(np.array([True, False, False]))
    np.testing.assert_array_equal((~mask).data, [False, False, True])
    np.testing.assert_array_equal((mask & other).data, [True, False, False])
    np.testing.assert_array_equal((mask | other).data, [True, True, False])
    np.testing.assert_array_equal((mask.data & other).data, [True, False, False])
    np.testing.assert_array_equal((False | other).data, [True, False, False])
    with pytest.raises(TypeError):
        ~Tensor([1.0])


def test_length_and_iteration_are_those_of_the_first_dimension():
    x = Tensor(np.arange(6.0).reshape(3, 2))
    assert len(x) == 3
    assert [row.shape for row in x] == [(2,)] * 3
    for action in (len, list):
        with pytest.raises(TypeError, match="single number"):
            action(Tensor(3.0))


@pytest.mark.parametrize(
    "index", [slice(None), slice(0, 3), slice(-3, None), slice(None, None, -1)]
)
def test_a_slice_of_all_elements_passes_each_its_own_gradient(index):
    x = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    gradient = np.arange(6.0).reshape(3, 2)
    x[index].backward(gradient)
    expected = np.zeros((3, 2))
    expected[index] = gradient
    np.testing.assert_array_equal(x.grad.data, expected)
