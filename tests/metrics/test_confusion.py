from contextlib import nullcontext

import numpy as np
import pytest

import minseg
from minseg import Tensor
from minseg.emulator.sanitize import sanitized
from minseg.metrics import ConfusionMatrix
from minseg.metrics.confusion import confusion_definition

# By hand: 10 pixels, the last ignored. Classes: a has 4 true pixels, b 3, c 2, d none.
TARGET = np.array([[0, 0, 0, 0, 1], [1, 1, 2, 2, 255]])
PREDICTION = np.array([[0, 0, 0, 1, 1], [1, 0, 2, 0, 3]])


@pytest.fixture
def matrix():
    matrix = ConfusionMatrix(["a", "b", "c", "d"])
    matrix.update(PREDICTION, TARGET)
    return matrix


def test_matrix_counts_true_rows_and_predicted_columns(matrix):
    expected = [[3, 1, 0, 0], [1, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(matrix.matrix, expected)


def test_scores_by_hand(matrix):
    assert matrix.pixel_accuracy() == 6 / 9
    np.testing.assert_allclose(matrix.class_accuracy(), [3 / 4, 2 / 3, 1 / 2, np.nan])
    assert matrix.mean_pixel_accuracy() == pytest.approx((3 / 4 + 2 / 3 + 1 / 2) / 3)
    np.testing.assert_allclose(matrix.iou(), [3 / 6, 2 / 4, 1 / 2, np.nan])
    assert (matrix.iou()["b"], matrix.iou()[1]) == (2 / 4, 2 / 4)
    assert matrix.mean_iou() == pytest.approx(1 / 2)
    np.testing.assert_allclose(matrix.dice(), [6 / 9, 4 / 6, 2 / 3, np.nan])
    assert matrix.mean_dice() == pytest.approx(2 / 3)
    assert matrix.frequency_weighted_iou() == pytest.approx((4 * 0.5 + 3 * 0.5 + 2 * 0.5) / 9)


def test_the_frequency_weighted_mean_weighs():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(matrix.iou(), [3 / 4, 1 / 2])
    assert matrix.frequency_weighted_iou() == pytest.approx((3 * 3 / 4 + 2 * 1 / 2) / 5)


def test_an_absent_class_is_nan_left_out_and_named(matrix):
    iou = matrix.iou()
    assert np.isnan(iou["d"])
    assert iou.absent == ("d",)
    assert str(iou) == "mean IoU 0.5000 (mean over 3 of 4 classes; absent: d)"


def test_a_class_that_is_only_predicted_scores_zero(matrix):
    matrix.update(np.array([3]), np.array([0]))
    assert matrix.iou()["d"] == 0
    assert np.isnan(matrix.class_accuracy()["d"])  # none to be found
    assert str(matrix.iou()).endswith("(mean over all 4 classes)")


def test_batches_add_up(matrix):
    halves = ConfusionMatrix(4)
    for row in range(2):
        halves.update(Tensor(PREDICTION[row]), Tensor(TARGET[row]))
    np.testing.assert_array_equal(halves.matrix, matrix.matrix)
    halves.reset()
    assert halves.matrix.sum() == 0


def test_nothing_counted_is_nan_everywhere():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[7]]), np.array([[255]]))
    assert np.isnan([matrix.pixel_accuracy(), matrix.mean_iou(), matrix.mean_dice()]).all()
    assert np.isnan(matrix.frequency_weighted_iou())
    assert "mean over 0 of 2 classes; absent: class 0, class 1" in str(matrix.iou())


def test_another_ignore_index():
    matrix = ConfusionMatrix(2, ignore_index=-100)
    matrix.update(np.array([0, 1]), np.array([0, -100]))
    np.testing.assert_array_equal(matrix.matrix, [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("prediction", "target", "error", "says"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), ValueError, r"\(2, 3\), target \(3, 2\)"),
        (np.zeros((1, 4, 2, 2)), np.zeros((1, 2, 2), int), TypeError, "float64.*argmax"),
        (np.array([0]), np.array([0.0]), TypeError, "target is float64"),
        (np.array([4]), np.array([0]), ValueError, r"prediction has label 4, needs 0\.\.3"),
        (np.array([0]), np.array([-1]), ValueError, r"target has label -1.*255 \(ignored\)"),
    ],
)
def test_errors_name_the_culprit(matrix, prediction, target, error, says):
    with pytest.raises(error, match=says):
        matrix.update(prediction, target)


def test_no_classes():
    with pytest.raises(ValueError, match="classes"):
        ConfusionMatrix([])
    with pytest.raises(TypeError, match="classes: got a float, needs their number or names"):
        ConfusionMatrix(2.0)
    assert len(ConfusionMatrix(np.int64(3)).iou()) == 3
    with pytest.raises(KeyError, match="IoU: no class 'sky', only class 0, class 1"):
        ConfusionMatrix(2).iou()["sky"]
    with pytest.raises(TypeError, match="classes: got a str, needs their number or names"):
        ConfusionMatrix("cell")  # not c, e, l and l


@pytest.mark.parametrize("classes", [2, 7, 150])  # 150: more than shared memory holds
def test_kernels_equal_the_definition(classes):
    rng = np.random.default_rng(0)
    # Labels as pictures hold them: their codes, up to 150^2, are more than a byte.
    prediction, target = rng.integers(0, classes, (2, 3, 40, 50), np.uint8)
    target[0, :5] = 255
    expected = confusion_definition(prediction, target, classes, 255)
    for where in (nullcontext(), minseg.use_kernels("emulator")):
        matrix = ConfusionMatrix(classes)
        with where:
            matrix.update(prediction, np.asfortranarray(target))
            matrix.update(prediction[:0], target[:0])
        np.testing.assert_array_equal(matrix.matrix, expected)


@pytest.mark.parametrize("classes", [3, 150])
def test_the_kernel_is_sound(classes):
    labels = np.random.default_rng(0).integers(0, 3, (60, 80))
    with minseg.use_kernels("emulator"), sanitized() as findings:
        ConfusionMatrix(classes).update(labels, labels[::-1])
    assert not findings
