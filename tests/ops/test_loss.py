import math

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.op import get_op
from tests.witness import assert_agree

REDUCTIONS = ["none", "sum", "mean"]
DIFFERENCES = [
    ("mse_loss", {}),
    ("l1_loss", {}),
    ("smooth_l1_loss", {"beta": 0.8}),
    ("smooth_l1_loss", {"beta": 0}),
    ("huber_loss", {"delta": 0.7}),
]
BINARY = ["binary_cross_entropy", "binary_cross_entropy_with_logits"]


def reduced(loss, reduction):
    return {"none": loss, "sum": loss.sum(), "mean": loss.mean()}[reduction]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "how"), DIFFERENCES)
def test_losses_of_a_difference(name, how, reduction, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((2, 2, 3, 5)).astype(dtype)
    loss = get_op(name).definition(*(a.astype(float) for a in (x, t)), *how.values())
    got = getattr(F, name)(Tensor(x), Tensor(t), reduction=reduction, **how)
    assert_agree(got.data, reduced(loss, reduction), dtype, length=x.size)

    inputs = [Tensor(a.astype(float), requires_grad=True) for a in (x, t)]
    assert gradcheck(lambda x, t: getattr(F, name)(x, t, reduction=reduction, **how), inputs)


def test_differences_by_hand():
    def at(name, d, **how):
        x = Tensor(np.array([float(d)]), requires_grad=True)
        loss = getattr(F, name)(x, Tensor(np.zeros(1)), **how)
        loss.backward()
        return loss.item(), x.grad.item()

    assert at("mse_loss", -3) == (9, -6)
    assert at("l1_loss", 0) == (0, 0)
    assert at("smooth_l1_loss", 1, beta=2) == (0.25, 0.5)
    assert at("smooth_l1_loss", -5, beta=2) == (4, -1)
    assert at("huber_loss", -5, delta=2) == (8, -2)
    assert at("huber_loss", 2, delta=2) == (2, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_losses_of_a_difference(name, reduction, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((2, 2, 3, 5)).astype(dtype)
    w = rng.uniform(0.1, 2, x.shape).astype(dtype)
    how = {"delta": 0.7} if name == "huber_loss" else {}
    loss = w * get_op(name).definition(*(a.astype(float) for a in (x, t)), *how.values())
    expected = reduced(loss, reduction)
    if reduction == "mean" and name != "huber_loss":
        expected = loss.sum() / w.astype(float).sum()
    function = getattr(F, name)
    got = function(*tensors(x, t), reduction=reduction, weight=Tensor(w), **how)
    assert_agree(got.data, expected, dtype, length=x.size)

    def weighted(x, t, w):
        return function(x, t, reduction=reduction, weight=w, **how)

    assert gradcheck(weighted, [Tensor(a.astype(float), requires_grad=True) for a in (x, t, w)])
    if reduction == "mean":
        nothing = function(*tensors(x, t), weight=Tensor(0 * w), **how).item()
        assert nothing == 0 if name == "huber_loss" else math.isnan(nothing)
    with pytest.raises(ValueError, match=rf"^{name}: weight has shape \(5,\), the input"):
        function(*tensors(x, t), weight=Tensor(w[0, 0]))
    with pytest.raises(TypeError, match=f"^{name}: weight is int64"):
        function(*tensors(x, t), weight=Tensor(w).to(np.int64))


def binary_case(name, dtype=np.float64):
    rng = np.random.default_rng(1)
    x = rng.random((2, 3, 4)) if name == "binary_cross_entropy" else rng.normal(0, 4, (2, 3, 4))
    arrays = [x, rng.random((2, 3, 4)), rng.random((3, 1)), rng.random(4) * 5]
    if name == "binary_cross_entropy":
        arrays.pop()
    return [a.astype(dtype) for a in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_cross_entropy(name, reduction, dtype):
    def ours(x, t, w, q=None):
        more = {} if q is None else {"pos_weight": Tensor(q)}
        return getattr(F, name)(x, t, Tensor(w), reduction=reduction, **more)

    x, t, *weights = binary_case(name, dtype)
    wide = [np.broadcast_to(w, x.shape).astype(float) for w in weights]
    loss = get_op(name).definition(x.astype(float), t.astype(float), *wide)
    got = ours(Tensor(x), Tensor(t), *weights)
    assert_agree(got.data, reduced(loss, reduction), dtype, length=x.size)

    x, t, *weights = binary_case(name)
    inputs = [Tensor(a, requires_grad=True) for a in (x, t)]
    assert gradcheck(lambda x, t: ours(x, t, *weights), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", ["weight", "pos_weight"])
def test_either_weight_counts_without_the_other(given, dtype):
    x, t, w, q = binary_case("binary_cross_entropy_with_logits", dtype)
    alone = {"weight": w, "pos_weight": q}[given]
    both = {"weight": np.ones(1), "pos_weight": np.ones(1)} | {given: alone}
    wide = [np.broadcast_to(a, x.shape).astype(float) for a in both.values()]
    definition = get_op("binary_cross_entropy_with_logits").definition
    expected = definition(x.astype(float), t.astype(float), *wide).mean()
    leaf = Tensor(x, requires_grad=True)
    got = F.binary_cross_entropy_with_logits(leaf, Tensor(t), **{given: Tensor(alone)})
    assert_agree(got.data, expected, dtype, length=x.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_far_out(dtype):
    x = Tensor(np.array([1e4, -1e4, 1e4, -1e4], dtype), requires_grad=True)
    t = Tensor(np.array([1, 0, 0, 1], dtype))
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    loss.backward(np.ones(4, dtype))
    np.testing.assert_array_equal(loss.data, [0, 0, 1e4, 1e4])
    np.testing.assert_array_equal(x.grad.data, [0, 0, 1, -1])

    p = Tensor(np.array([0, 1, 0, 1], dtype), requires_grad=True)
    t = np.array([0, 1, 1, 0], dtype)
    defined = get_op("binary_cross_entropy").definition(p.data, t, np.ones(4, dtype))
    np.testing.assert_array_equal(defined, [0, 0, 100, 100])
    loss = F.binary_cross_entropy(p, Tensor(t), reduction="none")
    loss.backward(np.ones(4, dtype))
    np.testing.assert_array_equal(loss.data, [0, 0, 100, 100])
    np.testing.assert_allclose(p.grad.data, [0, 0, -1e12, 1e12], rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 4), (4,)])
def test_nll_loss(shape, reduction):
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape)
    t = np.asarray(rng.integers(0, 4, shape[:1] + shape[2:] if len(shape) > 1 else ()))
    if t.ndim:
        t.flat[0] = 9
    w = rng.random(4)
    images = shape[0] if len(shape) > 1 else 1
    flat = t.reshape(images, -1)
    loss = get_op("nll_loss").definition(x.reshape(images, 4, -1), flat, w, 9)
    expected = {"none": loss.reshape(t.shape), "sum": loss.sum()}
    expected["mean"] = loss.sum() / w[t[t != 9]].sum()
    got = F.nll_loss(Tensor(x), Tensor(t), Tensor(w), ignore_index=9, reduction=reduction)
    assert_agree(got.data, expected[reduction], np.float64, length=x.size)
    assert gradcheck(
        lambda x: F.nll_loss(x, Tensor(t), Tensor(w), ignore_index=9, reduction=reduction),
        [Tensor(x, requires_grad=True)],
    )


def test_nll_loss_of_log_softmax_is_cross_entropy():
    rng = np.random.default_rng(3)
    x, t = Tensor(rng.standard_normal((2, 3, 4, 5))), Tensor(rng.integers(0, 3, (2, 4, 5)))
    one, other = F.nll_loss(F.log_softmax(x, 1), t).item(), F.cross_entropy(x, t).item()
    assert one == pytest.approx(other, rel=1e-14)


def test_nll_loss_all_ignored_and_nothing_at_all():
    x = Tensor(np.zeros((1, 2, 3)), requires_grad=True)
    loss = F.nll_loss(x, Tensor(np.full((1, 3), 7)), ignore_index=7)
    assert math.isnan(loss.item())
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, 0)
    assert math.isnan(F.mse_loss(Tensor(np.ones((0, 3))), Tensor(np.ones((0, 3)))).item())


def tensors(*arrays):
    return [Tensor(np.asarray(a)) for a in arrays]


@pytest.mark.parametrize("name", [n for n, _ in DIFFERENCES] + BINARY)
def test_shapes_and_dtypes_must_agree(name):
    loss = getattr(F, name)
    with pytest.raises(ValueError, match=rf"^{name}: target has shape \(2, 1\), the input has"):
        loss(*tensors(np.ones((2, 3)), np.ones((2, 1))))
    with pytest.raises(TypeError, match=f"^{name}: input is int64"):
        loss(*tensors(np.ones(3, np.int64), np.ones(3, np.int64)))
    with pytest.raises(TypeError, match=f"^{name}: target is bool"):
        loss(*tensors(np.ones(3), np.ones(3, bool)))
    with pytest.raises(TypeError, match=f"^{name}: target is float32 but the input is float64"):
        loss(*tensors(np.ones(3), np.ones(3, np.float32)))
    with pytest.raises(ValueError, match=f"^{name}: reduction is 'average'"):
        loss(*tensors(np.ones(3), np.ones(3)), reduction="average")
    with pytest.raises(ValueError, match=f"^{name}: reduction is <class 'minseg.tensor.Tensor'>"):
        loss(*tensors(np.ones(3), np.ones(3)), reduction=Tensor(np.ones(3)))


def test_errors_name_the_culprit():
    one, two = tensors(np.ones((2, 3)), np.full((2, 3), 0.5))
    wrong = two.data.copy()
    wrong[1, 2] = 1.5
    with pytest.raises(ValueError, match="smooth_l1_loss: beta is -1"):
        F.smooth_l1_loss(one, two, beta=-1)
    with pytest.raises(ValueError, match="huber_loss: delta is 0"):
        F.huber_loss(one, two, delta=0)
    with pytest.raises(ValueError, match=r"target is 1.5 at \(1, 2\), needs 0 to 1"):
        F.binary_cross_entropy(two, Tensor(wrong))
    with pytest.raises(ValueError, match="input is nan"):
        F.binary_cross_entropy(Tensor(np.array([np.nan])), Tensor(np.ones(1)))
    with pytest.raises(ValueError, match=r"pos_weight has shape \(2,\), which does not broadcast"):
        F.binary_cross_entropy_with_logits(one, two, pos_weight=Tensor(np.ones(2)))
    with pytest.raises(TypeError, match="binary_cross_entropy: weight is float32"):
        F.binary_cross_entropy(two, two, Tensor(np.ones(3, np.float32)))
    with pytest.raises(ValueError, match=r"nll_loss: target has label 3 at \(1,\)"):
        F.nll_loss(one, Tensor(np.array([0, 3])))


@pytest.mark.parametrize("number", [np.float64, np.int64, np.array])
@pytest.mark.parametrize(("name", "how"), [("smooth_l1_loss", "beta"), ("huber_loss", "delta")])
def test_numpys_numbers_change_no_dtype(name, how, number):
    target, results = Tensor(np.zeros(3, np.float32)), []
    for two in (2, number(2)):
        x = Tensor(np.array([-1.5, 0.25, 3], np.float32), requires_grad=True)
        loss = getattr(F, name)(x, target, **{how: two})
        loss.backward()
        results.append((loss.data, x.grad.data))
    for got, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)
