import math

import numpy as np
import pytest

from minseg.metrics import BoundaryF, BoundaryIoU


def square(size, top, left, side):
    mask = np.zeros((size, size), np.int64)
    mask[top : top + side, left : left + side] = 1
    return mask


def blobs(seed, classes=4, size=(29, 37), void=True):
    """A patchwork of labels, some of it void."""
    generator = np.random.default_rng(seed)
    labels = np.kron(generator.integers(0, classes, (5, 5)), np.ones((6, 8), np.int64))
    labels = labels[: size[0], : size[1]]
    if void:
        labels[10:14, 5:20] = 255
    return labels


def eroded(mask, times):
    """Erosion by a 3x3 square, in loops; nothing belongs to the mask beyond the edge."""
    for _ in range(times):
        before, mask = np.pad(mask, 1), mask.copy()
        for y, x in np.ndindex(mask.shape):
            mask[y, x] = before[y : y + 3, x : x + 3].all()
    return mask


def contour_points(labels, label):
    """Pixels of a class with a neighbour of another one, in loops."""
    points = []
    for y, x in np.argwhere(labels == label).tolist():
        for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= ny < labels.shape[0] and 0 <= nx < labels.shape[1]
            if inside and labels[ny, nx] not in (label, 255):
                points.append((y, x))
                break
    return points


def test_boundary_iou_of_shifted_squares_by_hand():
    # Diagonal of 50x50: 70.7, so d = round(1.41) = 1: each square of 10 keeps its outline of 36
    # pixels. Shifted by one to the right, the upper and lower sides share 9 pixels each; the left
    # and right sides lie apart: 18 of 36 + 36 - 18.
    metric = BoundaryIoU(2)
    metric.update(square(50, 20, 20, 10), square(50, 20, 21, 10))
    assert metric.compute()[1] == pytest.approx(18 / 54)


@pytest.mark.parametrize("ratio", [0.02, 0.05, 0.1])
def test_boundary_iou_is_its_definition(ratio):
    metric = BoundaryIoU(4, dilation_ratio=ratio)
    intersection, union = np.zeros(4), np.zeros(4)
    for seed in range(2):
        target, prediction = blobs(seed), blobs(seed + 10, void=False)
        metric.update(prediction, target)
        prediction = np.where(target == 255, 255, prediction)
        times = max(1, round(ratio * math.hypot(29, 37)))
        for label in range(4):
            p, t = prediction == label, target == label
            p, t = p & ~eroded(p, times), t & ~eroded(t, times)
            intersection[label] += (p & t).sum()
            union[label] += (p | t).sum()
    np.testing.assert_allclose(metric.compute(), intersection / union)


@pytest.mark.parametrize("theta", [0.0075, 0.05, 0.11])
def test_boundary_f_is_its_definition(theta):
    metric = BoundaryF(4, theta=theta)
    scores = [[] for _ in range(4)]
    pairs = [(blobs(seed + 10, void=False), blobs(seed)) for seed in range(2)]
    metric.update(np.stack([p for p, _ in pairs]), np.stack([t for _, t in pairs]))
    for prediction, target in pairs:
        prediction = np.where(target == 255, 255, prediction)
        reach = theta * math.hypot(*target.shape)
        for label in range(4):
            ours, true = contour_points(prediction, label), contour_points(target, label)
            precision = np.mean([min(math.dist(a, b) for b in true) < reach for a in ours])
            recall = np.mean([min(math.dist(a, b) for b in ours) < reach for a in true])
            scores[label].append(2 * precision * recall / max(precision + recall, 1e-9))
    np.testing.assert_allclose(metric.compute(), np.mean(scores, axis=1), atol=1e-9)


@pytest.mark.parametrize("kind", [BoundaryIoU, BoundaryF])
def test_perfect_is_one_and_absent_is_nan(kind):
    metric = kind(["a", "b", "c", "d", "e"])
    target = blobs(0)
    metric.update(np.where(target == 255, 3, target), target)
    score = metric.compute()
    np.testing.assert_array_equal(score.values, [1, 1, 1, 1, np.nan])
    assert "absent: e" in str(score)


@pytest.mark.parametrize("kind", [BoundaryIoU, BoundaryF])
def test_a_missed_class_scores_zero(kind):
    metric = kind(2)
    metric.update(np.zeros((20, 20), int), square(20, 5, 5, 6))
    assert metric.compute()[1] == 0


def test_boundary_f_forgives_what_lies_within_theta():
    # 100x100: theta = 0.0075 * 141.4 = 1.06 pixels, so a shift by one pixel costs nothing.
    metric = BoundaryF(2)
    metric.update(square(100, 20, 20, 30), square(100, 20, 21, 30))
    assert metric.compute()[1] == 1
    metric = BoundaryF(2)
    metric.update(square(100, 20, 20, 30), square(100, 20, 25, 30))
    assert 0.2 < metric.compute()[1] < 0.9


def test_boundary_f_s_theta_itself_is_not_closer():
    # 10x10: theta is 2^0.5, as far as the squares' corners lie apart; so do they with the default
    # theta of 2000x2000 if 15 pixels apart. The others of the 11 true points have one at 1.
    assert 0.1 * math.hypot(10, 10) == math.dist((4, 4), (5, 5))
    metric = BoundaryF(2, theta=0.1)
    metric.update(square(10, 0, 0, 5), square(10, 0, 0, 6))
    recall = 10 / 11
    assert metric.compute()[1] == pytest.approx(2 * recall / (1 + recall))


@pytest.mark.parametrize("kind", [BoundaryIoU, BoundaryF])
def test_errors(kind):
    with pytest.raises(ValueError, match=r"target has shape \(4,\), needs \(N, H, W\)"):
        kind(2).update(np.zeros(4, int), np.zeros(4, int))
    with pytest.raises(ValueError, match="prediction has label 2"):
        kind(2).update(np.full((4, 4), 2), np.zeros((4, 4), int))
    name = {BoundaryIoU: "dilation_ratio", BoundaryF: "theta"}[kind]
    with pytest.raises(ValueError, match=f"{kind.__name__}: {name} is -0.1, needs at least 0"):
        kind(2, 255, -0.1)


@pytest.mark.parametrize("kind", [BoundaryIoU, BoundaryF])
def test_images_one_by_one_are_a_batch_and_nothing_counts_for_nothing(kind):
    targets = np.stack([blobs(1), blobs(2)])
    predictions = np.where(targets == 255, 0, np.roll(targets, 2, axis=2) % 4)
    batch, single = kind(5), kind(5)
    batch.update(predictions, targets)
    for prediction, target in zip(predictions, targets, strict=True):
        single.update(prediction, target)
        for empty in ((0, 3, 4), (2, 0, 4), (0, 0)):
            single.update(np.zeros(empty, int), np.zeros(empty, int))
        single.update(np.zeros((9, 9), int), np.full((9, 9), 255))
    np.testing.assert_array_equal(single.compute().values, batch.compute().values)
    assert np.isnan(batch.compute()[4])
    batch.reset()
    assert np.isnan(batch.compute()).all()
    assert np.isnan(batch.compute().mean)
