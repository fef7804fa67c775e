import math

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops.cross_entropy import op
from minseg.ops.fast import cross_entropy as fast
from tests.witness import assert_agree, assert_threads_change_no_bit

REDUCTIONS = ["none", "sum", "mean"]


def case(kind, shape=(2, 5, 3, 4), seed=0):
    """Scores, and indices (with an ignored one, 255) or probabilities."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2
    if kind == "probabilities":
        t = rng.random(shape)
        return x, t / t.sum(axis=1, keepdims=True), -100
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    t.flat[1] = 255
    return x, t, 255


@pytest.fixture(params=["the plain formula", "the usual case on its own"])
def way(request, monkeypatch):
    """Both that class indices without smoothing may go."""
    if request.param == "the plain formula":
        monkeypatch.setattr(fast, "fits", lambda target, smoothing: False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_forward_equals_the_definition(kind, reduction, smoothing, dtype):
    x, t, ignored = case(kind)
    w = np.array([0.5, 1, 2, 0.1, 3])
    x32 = x.astype(dtype)
    flat = t.reshape(2, 5, 12) if kind == "probabilities" else t.reshape(2, 12)
    loss = op.definition(x32.reshape(2, 5, 12).astype(float), flat, w, ignored, smoothing)
    weights = w[t[t != ignored]] if kind == "indices" else np.ones(24)
    expected = {"none": loss.reshape(2, 3, 4), "sum": loss.sum(), "mean": loss.sum() / sum(weights)}
    target = Tensor(t if kind == "indices" else t.astype(dtype))
    how = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    got = F.cross_entropy(Tensor(x32), target, Tensor(w.astype(dtype)), **how)
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got.data, expected[reduction], rtol=0, atol=8 * np.finfo(dtype).eps * loss.sum()
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_gradient(kind, reduction, smoothing):
    x, t, ignored = case(kind)
    w = Tensor(np.array([0.5, 1, 2, 0.1, 3]))
    inputs = [Tensor(x, requires_grad=True), Tensor(t, requires_grad=kind == "probabilities")]
    how = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    assert gradcheck(lambda x, t: F.cross_entropy(x, t, w, **how), inputs)


def test_by_hand():
    # two pixels, scores 0: each class has probability 1/2
    x = Tensor(np.zeros((1, 2, 1, 2)), requires_grad=True)
    loss = F.cross_entropy(x, Tensor(np.array([[[0, 1]]])), Tensor(np.array([1.0, 3.0])))
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    np.testing.assert_allclose(x.grad.data, [[[[-0.125, 0.375]], [[0.125, -0.375]]]])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores(dtype):
    scores = [[1e4, 1e4, -1e4], [-1e4, 1e4, -1e4], [-2e4, -1e4, -1e4]]
    x = Tensor(np.array(scores, dtype), requires_grad=True)
    loss = F.cross_entropy(x, Tensor(np.array([0, 2, 1])), reduction="none")
    np.testing.assert_allclose(loss.data, [math.log(2), 2e4, math.log(2)], rtol=1e-7)
    loss.backward(np.ones(3, dtype))
    np.testing.assert_array_equal(x.grad.data, [[-0.5, 0.5, 0], [0, 1, -1], [0, -0.5, 0.5]])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_that_a_score_rules_out(dtype):
    """It adds nothing to the loss of a pixel of another class: not 0 times infinity."""
    x = Tensor(np.array([[1, -np.inf, 2]], dtype), requires_grad=True)
    loss = F.cross_entropy(x, Tensor(np.array([0])))
    np.testing.assert_allclose(loss.data, math.log1p(math.e), rtol=1e-6)
    loss.backward()
    other = math.e / (1 + math.e)
    np.testing.assert_allclose(x.grad.data, [[-other, 0, other]], rtol=1e-6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_pixels_ignored(smoothing):
    x = Tensor(np.ones((2, 3, 4, 5)), requires_grad=True)
    t = Tensor(np.full((2, 4, 5), 255, np.uint8))
    loss = F.cross_entropy(x, t, ignore_index=255, label_smoothing=smoothing)
    assert math.isnan(loss.item())
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, 0)
    assert F.cross_entropy(x, t, ignore_index=255, reduction="sum").item() == 0


@pytest.mark.usefixtures("way")
def test_an_ignored_pixel_has_no_influence_whatever_its_scores():
    x, t, ignored = case("indices")
    first = F.cross_entropy(Tensor(x), Tensor(t), ignore_index=ignored).item()
    x[0, :, 0, 1] = [1e30, -1e30, 0, 3, 4]
    assert F.cross_entropy(Tensor(x), Tensor(t), ignore_index=ignored).item() == first


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_threads_change_no_bit(kind, smoothing):
    x, t, ignored = case(kind, (3, 4, 110, 111))  # large enough for softmax in blocks

    def results():
        input = Tensor(x, requires_grad=True)
        how = {"ignore_index": ignored, "label_smoothing": smoothing}
        loss = F.cross_entropy(input, Tensor(t), **how)
        loss.backward()
        return loss.data, input.grad.data

    assert_threads_change_no_bit(results)


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_a_smoothing_of_numpys_leaves_the_dtype(kind):
    x, t, ignored = case(kind)
    soft = kind == "probabilities"
    inputs = [Tensor(x.astype(np.float32), True), Tensor(t.astype("f4") if soft else t, soft)]
    how = {"ignore_index": ignored, "label_smoothing": np.float64(0.1)}
    loss = F.cross_entropy(*inputs, **how)
    loss.backward()
    assert {loss.dtype, *(i.grad.dtype for i in inputs if i.requires_grad)} == {np.dtype("f4")}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_any_integer_labels_do(dtype):
    x, t, _ = case("indices")
    t = np.where(t == 255, 0, t)
    expected = F.cross_entropy(Tensor(x), Tensor(t)).item()
    assert F.cross_entropy(Tensor(x), Tensor(t.astype(dtype))).item() == expected


def test_strided_scores_and_a_single_pixel():
    x, t, ignored = case("indices")
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    one, other = (F.cross_entropy(Tensor(a), Tensor(t), ignore_index=ignored) for a in (x, last))
    assert one.item() == other.item()
    pixel = F.cross_entropy(Tensor(np.zeros(4)), Tensor(np.array(2)))
    assert pixel.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": np.full((2, 3, 4), 5)}, ValueError, "label 5 at .0, 0, 0., needs 0 to 4"),
        ({"target": np.array([[[0, 0], [0, -1]]])}, ValueError, "target has shape"),
        (
            {"target": np.zeros((2, 4, 3), int)},
            ValueError,
            r"\(2, 4, 3\), the input \(2, 5, 3, 4\)",
        ),
        ({"target": np.zeros((2, 3, 4))}, TypeError, "target is float64 .*needs integer labels"),
        ({"target": np.zeros((2, 3, 4), bool)}, TypeError, "target is bool"),
        ({"target": np.zeros((2, 5, 3, 4), np.float32)}, TypeError, "target is float32 but"),
        ({"input": np.zeros((2, 5, 3, 4), int)}, TypeError, "input is int64"),
        ({"input": np.zeros((2, 0, 3, 4))}, ValueError, "needs at least one class"),
        ({"input": np.array(1.0), "target": np.array(0)}, ValueError, "needs at least one class"),
        ({"weight": np.ones(4)}, ValueError, r"weight has shape \(4,\), .* needs \(5,\)"),
        ({"weight": np.ones(5, np.float32)}, TypeError, "weight is float32"),
        ({"reduction": "max"}, ValueError, "reduction is 'max'"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing is 1.5, needs 0 to 1"),
        ({"target": np.ones((2, 5, 3, 4)), "ignore_index": 0}, ValueError, "ignore_index needs"),
    ],
)
def test_errors_name_the_culprit(change, error, message):
    arguments = {"input": np.ones((2, 5, 3, 4)), "target": np.zeros((2, 3, 4), int), **change}
    arguments = {k: Tensor(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    with pytest.raises(error, match=f"^cross_entropy: .*{message}"):
        F.cross_entropy(**arguments)


def test_a_wrong_label_is_named_with_its_position():
    t = np.zeros((2, 3, 4), int)
    t[1, 2, 3] = -7
    with pytest.raises(ValueError, match=r"label -7 at \(1, 2, 3\), needs 0 to 4 or ignore_index"):
        F.cross_entropy(Tensor(np.ones((2, 5, 3, 4))), Tensor(t))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_kernels_equal_numpy(kind, smoothing, dtype):
    x, t, ignored = case(kind, (3, 5, 7, 20))
    w = np.array([0.5, 1, 2, 0.1, 3], dtype)
    grad = np.random.default_rng(1).standard_normal((3, 7, 20)).astype(dtype)

    def results():
        given = t if kind == "indices" else t.astype(dtype)
        inputs = [Tensor(x.astype(dtype), True), Tensor(given, kind == "probabilities")]
        how = {"ignore_index": ignored, "reduction": "none", "label_smoothing": smoothing}
        y = F.cross_entropy(*inputs, Tensor(w), **how)
        y.backward(grad)
        return [y.data, *(i.grad.data for i in inputs if i.requires_grad)]

    expected = results()
    with minseg.use_kernels("emulator"):
        got = results()
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_at_the_edges(dtype):
    with minseg.use_kernels("emulator"):
        test_large_scores(dtype)
        test_a_class_that_a_score_rules_out(dtype)
        test_all_pixels_ignored(0.1)
        test_an_ignored_pixel_has_no_influence_whatever_its_scores()


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_kernels_are_sound(kind):
    x, t, ignored = case(kind, (2, 5, 13, 12))
    inputs = [Tensor(x, True), Tensor(t, kind == "probabilities")]
    with minseg.use_kernels("emulator"), sanitized() as findings:
        how = {"ignore_index": ignored, "reduction": "sum", "label_smoothing": 0.1}
        F.cross_entropy(*inputs, **how).backward()
    assert not findings
