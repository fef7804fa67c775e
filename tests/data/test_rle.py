"""COCO's masks against answers of pycocotools (golden_coco.json) and small cases by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from minseg.data import rle

GOLDEN = json.loads(Path(__file__).with_name("golden_coco.json").read_text())


@pytest.mark.parametrize("case", range(len(GOLDEN["masks"])))
def test_run_lengths_as_pycocotools_writes_them(case):
    rows, text = GOLDEN["masks"][case]
    mask = np.array([[value == "1" for value in row] for row in rows])
    counts = rle.mask_to_counts(mask)
    assert rle.counts_to_text(counts) == text
    assert rle.text_to_counts(text) == counts
    for stored in (text, counts):
        decoded = rle.decode({"size": list(mask.shape), "counts": stored}, mask.shape)
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("case", range(len(GOLDEN["polygons"])))
def test_polygons_as_pycocotools_draws_them(case):
    polygon, size, text = GOLDEN["polygons"][case]
    size = tuple(size)
    np.testing.assert_array_equal(
        rle.decode([polygon], size), rle.counts_to_mask(rle.text_to_counts(text), size)
    )


def test_columns_come_first_and_zeros_begin():
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)  # columns: 11, 01, 00
    assert rle.mask_to_counts(mask) == [0, 2, 1, 1, 2]
    np.testing.assert_array_equal(rle.counts_to_mask([0, 2, 1, 1, 2], (2, 3)), mask)


def test_a_rectangle_covers_the_centres_inside_it():
    mask = rle.polygon_mask([1, 2, 5, 2, 5, 4, 1, 4], (6, 7))
    expected = np.zeros((6, 7), bool)
    expected[2:4, 1:5] = True
    np.testing.assert_array_equal(mask, expected)


def test_polygons_of_one_object_unite():
    left, right = [0, 0, 2, 0, 2, 2, 0, 2], [1, 0, 3, 0, 3, 2, 1, 2]
    assert rle.decode([left, right], (2, 4)).tolist() == [[True, True, True, False]] * 2
    assert not rle.decode([], (2, 4)).any()


@pytest.mark.parametrize("value", [0, 1, 15, 16, 31, 32, 1023, 1024, 10**6, 2**40])
def test_numbers_survive_the_text(value):
    counts = [1, 2, 3, value, 5, 0, value, value]  # differences of both signs
    assert rle.text_to_counts(rle.counts_to_text(counts)) == counts


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="sum to 5, needs 2 x 3"):
        rle.counts_to_mask([2, 3], (2, 3))
    with pytest.raises(ValueError, match="sum to"):
        rle.counts_to_mask([8, -2], (2, 3))
    with pytest.raises(ValueError, match="ends within a number"):
        rle.text_to_counts(rle.counts_to_text([1000])[:-1])
    with pytest.raises(ValueError, match="character"):
        rle.text_to_counts("1 2")
    with pytest.raises(ValueError, match="at least 3 corners"):
        rle.polygon_mask([1, 2, 3, 4], (5, 5))
    for far in (float("nan"), 1e30, -1e7):
        with pytest.raises(ValueError, match="further off than"):
            rle.polygon_mask([1, 2, 3, 4, 5, far], (5, 5))
    with pytest.raises(ValueError, match="whole numbers"):
        rle.counts_to_mask([2.0, 4.0], (2, 3))
    with pytest.raises(ValueError, match="size"):
        rle.decode({"size": [3, 2], "counts": [6]}, (2, 3))
