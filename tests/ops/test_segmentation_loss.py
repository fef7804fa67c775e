"""Dice, Tversky, focal, Lovasz and boundary losses: definitions in loops, and values by hand."""

import functools
import math

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.emulator.sanitize import sanitized
from minseg.ops import overlap_loss
from minseg.ops.boundary_loss import boundary_loss_definition
from minseg.ops.distance import signed_distance
from minseg.ops.lovasz_loss import lovasz_definition
from minseg.ops.overlap_loss import overlap_definition
from tests.witness import assert_agree

IGNORED = 255
OVERLAP = [F.dice_loss, F.tversky_loss, F.generalized_dice_loss, F.lovasz_softmax]
OF_CLASSES = [*OVERLAP, F.focal_loss, F.boundary_loss]
OF_YES_OR_NO = [F.sigmoid_focal_loss, F.lovasz_hinge]
PER_IMAGE = [*OVERLAP, F.lovasz_hinge]


def case(shape=(2, 4, 5, 3), seed=0):
    """Scores and labels with ignored pixels; the last class occurs nowhere, 1 in one image only."""
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal(shape) * 2, rng.integers(0, shape[1] - 1, (shape[0], *shape[2:]))
    t[0][t[0] == 1] = 0
    t[rng.random(t.shape) < 0.2] = IGNORED
    return x, t


def binary_case():
    x, t = case((2, 3, 5, 4))
    return x[:, 0], np.where(t == IGNORED, IGNORED, t > 0).astype(np.int64)


def softmax(x):
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def groups(x, t, per_image):
    """(p, t) of the whole batch, or of each image; p is (C, P), t is (P,)."""
    p = softmax(x)
    if per_image:
        return [(p[n].reshape(len(p[n]), -1), t[n].ravel()) for n in range(len(p))]
    return [(p.swapaxes(0, 1).reshape(p.shape[1], -1), t.ravel())]


def mean(values):
    return sum(values) / max(len(values), 1)


def by_definition(loss, x, t, per_image=False):
    values = []
    for p, labels in groups(x, t, per_image):
        valid = labels != IGNORED
        counts = {
            c: overlap_definition(p[c], labels == c, valid) for c in set(labels[valid].tolist())
        }
        if loss is F.dice_loss:
            values += [1 - 2 * tp / (2 * tp + fp + fn) for tp, fp, fn in counts.values()]
        elif loss is F.tversky_loss:
            values += [1 - tp / (tp + 0.3 * fp + 0.7 * fn) for tp, fp, fn in counts.values()]
        elif loss is F.generalized_dice_loss:
            w = {c: 1 / (labels == c).sum() ** 2 for c in counts}
            top = sum(w[c] * 2 * tp for c, (tp, fp, fn) in counts.items())
            bottom = sum(w[c] * (2 * tp + fp + fn) for c, (tp, fp, fn) in counts.items())
            values.append(1 - top / bottom)
        else:
            for c in counts:
                truth = labels[valid] == c
                m = np.where(truth, 1 - p[c, valid], p[c, valid])
                values.append(lovasz_definition(m, truth))
    return mean(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (3, 3, 7)])
@pytest.mark.parametrize("loss", OVERLAP)
def test_overlap_losses_equal_their_definitions(loss, shape, per_image, dtype):
    x, t = case(shape)
    x = x.astype(dtype)
    expected = by_definition(loss, x.astype(float), t, per_image)
    got = loss(Tensor(x), Tensor(t), ignore_index=IGNORED, per_image=per_image)
    assert got.dtype == dtype
    tolerance = 8 * float(np.finfo(dtype).eps) * math.sqrt(x.size)
    assert got.item() == pytest.approx(expected, rel=tolerance)


def test_smooth_is_added_above_and_below():
    x, t = case()
    (p, labels), valid = groups(x, t, False)[0], (t != IGNORED).ravel()
    dice, tversky = [], []
    for c in range(3):
        tp, fp, fn = overlap_definition(p[c], labels == c, valid)
        dice.append(1 - (2 * tp + 1.5) / (2 * tp + fp + fn + 1.5))
        tversky.append(1 - (tp + 1.5) / (tp + 0.2 * fp + 0.9 * fn + 1.5))
    how = {"ignore_index": IGNORED, "smooth": 1.5}
    assert F.dice_loss(Tensor(x), Tensor(t), **how).item() == pytest.approx(mean(dice))
    got = F.tversky_loss(Tensor(x), Tensor(t), 0.2, 0.9, **how)
    assert got.item() == pytest.approx(mean(tversky))


def test_dice_is_tversky_with_equal_halves():
    x, t = case()
    one = F.dice_loss(Tensor(x), Tensor(t), IGNORED).item()
    assert F.tversky_loss(Tensor(x), Tensor(t), 0.5, 0.5, IGNORED).item() == pytest.approx(one)


def test_by_hand():
    # four pixels, p = 1/2 everywhere, one of class 1: for class 1 tp = 1/2, fp = 3/2, fn = 1/2;
    # for class 0 tp = 3/2, fp = 1/2, fn = 3/2
    x, t = Tensor(np.zeros((1, 2, 2, 2))), Tensor(np.array([[[1, 0], [0, 0]]]))
    assert F.dice_loss(x, t).item() == pytest.approx(1 - (1 / 3 + 3 / 5) / 2)
    assert F.tversky_loss(x, t, 1, 1).item() == pytest.approx(1 - (1 / 5 + 3 / 7) / 2)
    assert F.generalized_dice_loss(x, t).item() == pytest.approx(1 - (1 + 3 / 9) / (3 + 5 / 9))
    # all errors are equal, so the extension is half of 1 - IoU of "all wrong", which is 1
    assert F.lovasz_softmax(x, t).item() == pytest.approx(0.5)
    assert F.focal_loss(x, t).item() == pytest.approx(math.log(2) / 4)
    # class 1 is pixel (0, 0): phi_1 = 0, 1, 1, sqrt 2; phi_0 = 1 there, 0 at its neighbours,
    # and 1 - sqrt 2 in the far corner
    assert F.boundary_loss(x, t).item() == pytest.approx((2 + math.sqrt(2) + 2 - math.sqrt(2)) / 16)


def test_yes_or_no_by_hand():
    x = Tensor(np.array([[0.0, 0.0, 0.0]]))
    t = Tensor(np.array([[1, 0, IGNORED]]))
    got = F.sigmoid_focal_loss(x, t, ignore_index=IGNORED, reduction="none")
    np.testing.assert_allclose(got.data, [[math.log(2) / 16, 3 * math.log(2) / 16, 0]])
    # errors 1.5 (false), 0.5 (true), 0; after the first J = 1 - 1/2, after the second J = 1
    x, t = Tensor(np.array([[0.5, 0.5, -3]])), Tensor(np.array([[0, 1, 0]]))
    assert F.lovasz_hinge(x, t).item() == pytest.approx(1.5 * 0.5 + 0.5 * 0.5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_focal_losses(reduction, gamma):
    x, t = case()
    p, valid = softmax(x), t != IGNORED
    alpha = np.array([0.5, 2, 1, 3])
    expected = np.zeros(t.shape)
    for at in np.argwhere(valid):
        n, *place = at
        pt = p[(n, t[tuple(at)], *place)]
        expected[tuple(at)] = alpha[t[tuple(at)]] * (1 - pt) ** gamma * -math.log(pt)
    count = {"mean": valid.sum(), "sum": 1, "none": 1}[reduction]
    expected = expected if reduction == "none" else expected.sum() / count
    got = F.focal_loss(Tensor(x), Tensor(t), Tensor(alpha), gamma, IGNORED, reduction)
    np.testing.assert_allclose(got.data, expected, rtol=1e-12)

    x, t = binary_case()
    expected = np.zeros(t.shape)
    for at in zip(*np.nonzero(t != IGNORED), strict=True):
        pt = 1 / (1 + math.exp(-x[at] if t[at] else x[at]))
        expected[at] = (0.25 if t[at] else 0.75) * (1 - pt) ** gamma * -math.log(pt)
    count = {"mean": (t != IGNORED).sum(), "sum": 1, "none": 1}[reduction]
    expected = expected if reduction == "none" else expected.sum() / count
    got = F.sigmoid_focal_loss(Tensor(x), Tensor(t), 0.25, gamma, IGNORED, reduction)
    np.testing.assert_allclose(got.data, expected, rtol=1e-12)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    x, t = (Tensor(a) for a in case())
    expected = F.cross_entropy(x, t, ignore_index=IGNORED).item()
    assert F.focal_loss(x, t, gamma=0, ignore_index=IGNORED).item() == pytest.approx(expected)


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_hinge_equals_its_definition(per_image):
    x, t = binary_case()
    values = []
    for scores, labels in zip(x, t, strict=True) if per_image else [(x, t)]:
        valid = labels != IGNORED
        truth = labels[valid] == 1
        m = np.maximum(0, np.where(truth, 1 - scores[valid], 1 + scores[valid]))
        values.append(lovasz_definition(m, truth))
    got = F.lovasz_hinge(Tensor(x), Tensor(t), IGNORED, per_image)
    assert got.item() == pytest.approx(mean(values), rel=1e-12)


@pytest.mark.parametrize("errors", range(2**4))
def test_the_lovasz_extension_of_whole_errors_is_the_jaccard_distance(errors):
    truth = np.array([1, 1, 0, 0], bool)
    wrong = np.array([errors >> i & 1 for i in range(4)], bool)
    prediction = truth ^ wrong
    expected = 1 - (truth & prediction).sum() / (truth | prediction).sum()
    x = np.where(prediction, 1e4, -1e4)
    scores = Tensor(np.stack([-x, x])[None])
    background = 1 - (~truth & ~prediction).sum() / (~truth | ~prediction).sum()
    got = F.lovasz_softmax(scores, Tensor(truth[None].astype(int)))
    assert got.item() == pytest.approx((expected + background) / 2)


def test_boundary_loss_equals_its_definition():
    x, t = case((2, 3, 6, 5))
    phi = signed_distance(np.stack([t == c for c in range(3)], axis=1))
    expected = boundary_loss_definition(softmax(x), phi, (t != IGNORED)[:, None])
    got = F.boundary_loss(Tensor(x), Tensor(t), IGNORED)
    assert got.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        *((loss, {}) for loss in [*OF_CLASSES, *OF_YES_OR_NO]),
        *((loss, {"per_image": True}) for loss in PER_IMAGE),
    ],
)
def test_gradient(loss, how):
    x, t = binary_case() if loss in OF_YES_OR_NO else case()
    ours = functools.partial(loss, target=Tensor(t), ignore_index=IGNORED, **how)
    assert gradcheck(lambda x: ours(x), [Tensor(x, requires_grad=True)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [*OF_CLASSES, *OF_YES_OR_NO])
def test_all_pixels_ignored_gives_zero_and_no_gradient(loss, dtype):
    shape = (2, 3, 4) if loss in OF_YES_OR_NO else (2, 5, 3, 4)
    for how in [{}, {"per_image": True}] if loss in PER_IMAGE else [{}]:
        x = Tensor(np.random.default_rng(0).standard_normal(shape).astype(dtype), True)
        y = loss(x, Tensor(np.full((2, 3, 4), IGNORED)), ignore_index=IGNORED, **how)
        y.backward()
        assert (y.item(), y.dtype) == (0, dtype)
        np.testing.assert_array_equal(x.grad.data, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [*OF_CLASSES, *OF_YES_OR_NO])
def test_scores_of_1e4(loss, dtype):
    x, t = binary_case() if loss in OF_YES_OR_NO else case()
    scores = Tensor((np.sign(x) * 1e4).astype(dtype), requires_grad=True)
    y = loss(scores, Tensor(t), ignore_index=IGNORED)
    y.backward()
    assert np.isfinite(y.item())
    assert np.isfinite(scores.grad.data).all()


@pytest.mark.parametrize("loss", [*OVERLAP, F.focal_loss])
def test_a_perfect_prediction_costs_nothing(loss):
    _, t = case()
    sure = np.where(t[:, None] == np.arange(4)[:, None, None], 1e4, -1e4)
    assert loss(Tensor(sure), Tensor(t), ignore_index=IGNORED).item() == 0


@pytest.mark.parametrize("loss", [*OF_CLASSES, *OF_YES_OR_NO])
def test_ignored_pixels_have_no_influence(loss):
    x, t = binary_case() if loss in OF_YES_OR_NO else case()
    first = loss(Tensor(x), Tensor(t), ignore_index=IGNORED).item()
    ignored = t == IGNORED if loss in OF_YES_OR_NO else (t == IGNORED)[:, None]
    other = np.where(ignored, 7 - 3 * x, x)
    assert loss(Tensor(other), Tensor(t), ignore_index=IGNORED).item() == first


@pytest.mark.parametrize("loss", [*OF_CLASSES, *OF_YES_OR_NO])
def test_an_empty_batch(loss):
    shape = (0, 3, 4) if loss in OF_YES_OR_NO else (0, 5, 3, 4)
    assert loss(Tensor(np.ones(shape)), Tensor(np.ones((0, 3, 4), int))).item() == 0


@pytest.mark.parametrize("loss", OF_CLASSES)
def test_errors_name_the_culprit(loss):
    name, x, t = loss.__name__, np.ones((2, 3, 4, 5)), np.zeros((2, 4, 5), int)
    with pytest.raises(
        ValueError, match=rf"{name}: target has shape \(2, 5, 4\), the input \(2, 3"
    ):
        loss(Tensor(x), Tensor(t.swapaxes(1, 2)))
    with pytest.raises(TypeError, match=f"{name}: target is float64"):
        loss(Tensor(x), Tensor(t.astype(float)))
    t[1, 2, 3] = 3
    with pytest.raises(
        ValueError, match=rf"{name}: target has label 3 at \(1, 2, 3\), needs 0 to 2"
    ):
        loss(Tensor(x), Tensor(t))
    for scores, labels in ((x[:, :1], t * 0), (x[0, :, 0, 0], t[0, 0, 0])):
        with pytest.raises(ValueError, match=f"{name}: input .*needs .*(classes|dimensions)"):
            loss(Tensor(scores), Tensor(labels))


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss, *OF_CLASSES, *OF_YES_OR_NO])
@pytest.mark.parametrize("several", [(254, IGNORED), [IGNORED], "void", 255.0])
def test_an_ignore_index_that_is_no_label_is_refused(loss, several):
    scores = np.ones((2, 4, 5) if loss in OF_YES_OR_NO else (2, 3, 4, 5))
    with pytest.raises(TypeError, match=rf"^{loss.__name__}: ignore_index is .*, needs an int"):
        loss(Tensor(scores), Tensor(np.ones((2, 4, 5), int)), ignore_index=several)


@pytest.mark.parametrize("loss", OF_YES_OR_NO)
def test_errors_of_yes_or_no(loss):
    x, t = np.ones((2, 3)), np.array([[0, 1, 0], [1, 2, 0]])
    with pytest.raises(ValueError, match=rf"{loss.__name__}: target has label 2 at \(1, 1\)"):
        loss(Tensor(x), Tensor(t))
    with pytest.raises(ValueError, match=rf"{loss.__name__}: target has shape \(2, 3\), the input"):
        loss(Tensor(x[:1]), Tensor(t))


def test_weights_out_of_range():
    x, t = Tensor(np.ones((2, 3, 4))), Tensor(np.zeros((2, 4), int))
    with pytest.raises(TypeError, match="focal_loss: alpha is a float, needs a Tensor"):
        F.focal_loss(x, t, alpha=0.25)
    with pytest.raises(ValueError, match=r"focal_loss: alpha has shape \(2,\), the input .* needs"):
        F.focal_loss(x, t, alpha=Tensor(np.ones(2)))
    x, t = (Tensor(a) for a in case())
    with pytest.raises(ValueError, match=r"tversky_loss: alpha is -0\.1"):
        F.tversky_loss(x, t, alpha=-0.1)
    with pytest.raises(ValueError, match="focal_loss: gamma is -1"):
        F.focal_loss(x, t, gamma=-1)
    with pytest.raises(ValueError, match="sigmoid_focal_loss: alpha is 2"):
        F.sigmoid_focal_loss(x, x, alpha=2)


def test_weighted_sum():
    x, t = case()
    x = Tensor(x, requires_grad=True)
    loss = F.WeightedSum((1.0, F.cross_entropy), (0.5, F.dice_loss), ignore_index=IGNORED)
    expected = F.cross_entropy(x, Tensor(t), ignore_index=IGNORED)
    expected = expected + 0.5 * F.dice_loss(x, Tensor(t), ignore_index=IGNORED)
    assert loss(x, Tensor(t)).item() == expected.item()
    assert gradcheck(lambda x: loss(x, Tensor(t)), [x])
    with pytest.raises(ValueError, match="at least one"):
        F.WeightedSum()
    for term in (F.dice_loss, (F.dice_loss, 1.0), (1.0,)):
        with pytest.raises(TypeError, match=r"WeightedSum: a term is .* needs .weight, loss."):
            F.WeightedSum((1.0, F.cross_entropy), term)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss", "how"),
    [
        *((loss, {"per_image": per}) for loss in OVERLAP[:3] for per in (False, True)),
        *((F.focal_loss, {"gamma": gamma}) for gamma in (0.0, 0.5, 2.0)),
    ],
)
def test_kernels_equal_numpy(loss, how, dtype, monkeypatch):
    monkeypatch.setattr(overlap_loss, "PIXELS_A_BLOCK", 300)  # several blocks share a sum
    x, t = case((2, 4, 30, 23))

    def results():
        input = Tensor(x.astype(dtype), requires_grad=True)
        y = loss(input, Tensor(t), ignore_index=IGNORED, **how)
        y.backward()
        return y.data, input.grad.data

    expected = results()
    with minseg.use_kernels("emulator"):
        got = results()
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=30 * 23)


@pytest.mark.parametrize("loss", [F.dice_loss, F.focal_loss])
def test_kernels_at_the_edges(loss):
    with minseg.use_kernels("emulator"):
        test_all_pixels_ignored_gives_zero_and_no_gradient(loss, np.float32)
        test_scores_of_1e4(loss, np.float32)
        test_an_empty_batch(loss)


@pytest.mark.parametrize("loss", [F.dice_loss, F.focal_loss])
def test_kernels_are_sound(loss):
    x, t = case((2, 4, 20, 23))
    with minseg.use_kernels("emulator"), sanitized() as findings:
        loss(Tensor(x, requires_grad=True), Tensor(t), ignore_index=IGNORED).backward()
    assert not findings


@pytest.mark.parametrize("number", [np.float64, np.int64])
def test_a_gamma_of_numpys_changes_no_dtype(number):
    x, t = case()
    scores = Tensor(x.astype(np.float32), requires_grad=True)
    plain, given = (F.focal_loss(scores, Tensor(t), None, two, IGNORED) for two in (2, number(2)))
    assert given.dtype == np.float32
    assert given.item() == plain.item()
