"""Losses, dropout and scores on a GPU: the CPU's numbers, and nobody waits for them."""

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg.metrics import BoundaryF, BoundaryIoU, ConfusionMatrix
from minseg.tensor import Tensor
from tests.gpu import needs_gpu, waits_for_nothing
from tests.witness import assert_agree

pytestmark = needs_gpu

rng = np.random.default_rng(0)
N, C, H, W = 2, 4, 6, 7
SCORES, VALUES = rng.standard_normal((2, N, C, H, W))
LABELS, PREDICTED = rng.integers(0, C, (2, N, H, W))
LABELS[:, :2] = 255
YES = rng.integers(0, 2, SCORES.shape)
YES[0, 0] = 255
ONES = (YES == 1).astype(float)
WEIGHTS, CLASS_WEIGHTS = np.abs(rng.standard_normal(SCORES.shape)), rng.uniform(0.5, 2, C)

VOID, BY_CLASS, BY_PIXEL = {"ignore_index": 255}, {"weight": CLASS_WEIGHTS}, {"weight": WEIGHTS}

# name -> the loss, what it compares the scores with, its weights, other arguments
LOSSES = {
    "cross_entropy": (F.cross_entropy, LABELS, BY_CLASS, VOID),
    "cross_entropy, smooth": (F.cross_entropy, LABELS, {}, VOID | {"label_smoothing": 0.1}),
    "nll_loss": (F.nll_loss, LABELS, BY_CLASS, VOID),
    "focal_loss": (F.focal_loss, LABELS, {"alpha": CLASS_WEIGHTS}, VOID),
    "dice_loss": (F.dice_loss, LABELS, {}, VOID),
    "generalized_dice_loss": (F.generalized_dice_loss, LABELS, {}, VOID),
    "tversky_loss": (F.tversky_loss, LABELS, {}, VOID | {"per_image": True}),
    "lovasz_softmax": (F.lovasz_softmax, LABELS, {}, VOID),
    "lovasz_hinge": (F.lovasz_hinge, YES, {}, VOID | {"per_image": True}),
    "sigmoid_focal_loss": (F.sigmoid_focal_loss, YES, {}, VOID),
    "mse_loss": (F.mse_loss, VALUES, BY_PIXEL, {}),
    "l1_loss": (F.l1_loss, VALUES, BY_PIXEL, {}),
    "smooth_l1_loss": (F.smooth_l1_loss, VALUES, {}, {"beta": 0.5}),
    "huber_loss": (F.huber_loss, VALUES, BY_PIXEL, {}),
    "bce": (F.binary_cross_entropy_with_logits, ONES, BY_PIXEL, {}),
}


def moved(array, device, dtype):
    """The array as a Tensor there, integers as they are."""
    array = array if array.dtype.kind == "i" else array.astype(dtype)
    return Tensor(array).to(device)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss(name, dtype, monkeypatch):
    function, target, weights, options = LOSSES[name]
    found = {}
    for device in ("cpu", "cuda"):
        right = moved(target, device, dtype)
        given = {key: moved(array, device, dtype) for key, array in weights.items()} | options
        for _ in range(2):  # the first time, kernels are compiled
            x = moved(SCORES, device, dtype).requires_grad_()
            with waits_for_nothing(monkeypatch) as copied:
                function(x, right, **given).backward()
        assert copied == []
        assert x.grad.device == device
        found[device] = function(x, right, **given).numpy(), x.grad.numpy()
    for got, expected in zip(found["cuda"], found["cpu"], strict=True):
        assert_agree(got, expected, dtype, length=SCORES.size)


@pytest.mark.parametrize("dropout", [F.dropout, F.dropout2d])
def test_the_same_seed_drops_the_same_on_any_device(dropout, monkeypatch):
    found = []
    for device in ("cpu", "cuda"):
        for _ in range(2):
            minseg.manual_seed(0)
            x = moved(SCORES, device, np.float32).requires_grad_()
            with waits_for_nothing(monkeypatch) as copied:
                y = dropout(x, 0.3)
                y.backward(y)
        assert len(copied) == (device == "cuda")  # the draw: once, and not again for the gradient
        found.append((y.numpy(), x.grad.numpy()))
    for got, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("loss", [F.sigmoid_focal_loss, F.lovasz_hinge])
def test_yes_or_no_is_asked_where_the_scores_are(loss):
    with pytest.raises(ValueError, match=f"{loss.__name__}: target is on cpu but the input is on"):
        loss(Tensor(SCORES).to("cuda"), Tensor(YES), ignore_index=255)


@pytest.mark.parametrize("metric", [ConfusionMatrix, BoundaryIoU, BoundaryF])
def test_scores_take_arrays_and_tensors_of_a_gpu(metric):
    def score(prediction, target):
        result = metric(C)
        result.update(prediction, target)
        return (result.iou() if metric is ConfusionMatrix else result.compute()).values

    there = [Tensor(labels).to("cuda") for labels in (PREDICTED, LABELS)]
    expected = score(PREDICTED, LABELS)
    np.testing.assert_array_equal(score(*there), expected)
    np.testing.assert_array_equal(score(*(labels.data for labels in there)), expected)


def test_a_confusion_matrix_does_not_mix_devices():
    message = "ConfusionMatrix: prediction is on cuda, target on cpu"
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(C).update(Tensor(PREDICTED).to("cuda"), LABELS)
