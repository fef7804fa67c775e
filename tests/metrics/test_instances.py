"""Connected components and AP, on maps small enough to be counted by hand."""

from fractions import Fraction

import numpy as np
import pytest

from minseg import Tensor
from minseg.metrics import InstanceAP, connected_components, match_instances


def drawn(*rows: str) -> np.ndarray:
    """ "11.2" -> [1, 1, 0, 2]"""
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows])


@pytest.mark.parametrize(
    "numbered",
    [
        drawn("1.1", "1.1", "111"),  # a U is one part, though it begins as two
        drawn("1.1.1", "11111"),
        drawn("11.", "..2"),  # a corner does not connect
        drawn("1", ".", "2"),
        drawn("111", "1.1", "111"),  # a hole
        drawn("1.2.3", "1.2.3", "1..33"),
        drawn("..1.1", "2.1.1", "2.111", "2....", "22222"),
        drawn("...", "..."),
    ],
)
def test_components_by_hand(numbered):
    found = connected_components(numbered > 0)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, numbered)


def test_components_against_a_flood():
    """A random mask, half full, has parts of every form; a flood from each pixel finds them."""
    mask = np.random.default_rng(0).random((23, 31)) < 0.55
    expected = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        if expected[start]:
            continue
        number, edge = expected.max() + 1, [start]
        while edge:
            y, x = edge.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not expected[y, x]:
                expected[y, x] = number
                edge += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    np.testing.assert_array_equal(connected_components(mask), expected)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
def test_components_of_little(shape):
    assert connected_components(np.ones(shape, bool)).shape == shape


def test_components_of_a_tensor():
    mask = Tensor(np.eye(2)) > 0
    np.testing.assert_array_equal(connected_components(mask), [[1, 0], [0, 2]])


def test_components_say_what_they_need():
    with pytest.raises(ValueError, match=r"connected_components: mask has shape \(2,\)"):
        connected_components(np.ones(2, bool))
    with pytest.raises(TypeError, match="mask is int64, needs bool"):
        connected_components(np.ones((2, 2), np.int64))


def test_matches_by_hand():
    """1: found, 3 of 4 pixels. 2: half of it, which is not more than half. 3: missed. 5: made up"""
    target = drawn("11.22.3", "11.22.3", ".......")
    predicted = drawn("44.66..", "4..6...", "..55...")  # 6: 3 of 4 + 0 outside
    found = match_instances(predicted, target)
    assert (found.tp, found.fp, found.fn) == (2, 1, 1)
    assert found.ap == 2 / 4
    assert found.f1 == 4 / 6

    half = drawn("44.6...", "4..6...", "..55...")  # now 6 has 2 of 4: IoU 1/2
    found = match_instances(half, target)
    assert (found.tp, found.fp, found.fn) == (1, 2, 2)
    assert match_instances(predicted, target, threshold=0.75).tp == 0  # 3/4 is not above 3/4


@pytest.mark.parametrize("threshold", [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
def test_an_iou_equal_to_the_threshold_is_not_above_it(threshold):
    """A predicted part of a true object: k of n pixels, their quotient in exact fractions."""
    exact = Fraction(str(threshold))
    for n in range(exact.denominator, 200, exact.denominator):
        k = int(exact * n)
        target, row = np.ones((1, n), int), np.arange(n)[None]
        assert match_instances((row < k).astype(int), target, threshold).tp == 0
        assert match_instances((row < k + 1).astype(int), target, threshold).tp == 1


def test_two_that_touch_are_one_component():
    target = drawn("1122", "1122")
    one = match_instances(connected_components(target > 0), target)
    assert (one.tp, one.fp, one.fn) == (0, 1, 2)  # IoU with either is 1/2


def test_the_mean_is_over_images_and_empty_ones_do_not_count():
    metric = InstanceAP()
    assert np.isnan(metric.ap)
    target = drawn("11.22", "11.22")
    metric.update(target, target)
    metric.update(np.zeros_like(target), target)
    metric.update(np.zeros_like(target), np.zeros_like(target))
    assert metric.ap == (1 + 0) / 2
    assert metric.f1 == (1 + 0) / 2
    metric.update(drawn("1"), drawn("."))  # what is made up counts, where nothing is
    assert metric.ap == 1 / 3
    metric.reset()
    assert np.isnan(metric.f1)


def test_matches_say_what_they_need():
    maps = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match=r"prediction has shape \(2, 3\), target \(3, 2\)"):
        match_instances(maps, maps.T)
    with pytest.raises(TypeError, match="float64 and int64, needs integers"):
        match_instances(maps.astype(float), maps)
    with pytest.raises(ValueError, match=r"threshold is 0\.4"):
        match_instances(maps, maps, 0.4)
