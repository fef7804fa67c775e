import math

import numpy as np
import pytest

from minseg.data.class_weights import (
    class_frequencies,
    inverse_log_weights,
    median_frequency_weights,
)

# image 0: six pixels of class 0, two of 1; image 1: one of 0, three of 2, four ignored; 3 is absent
MASKS = [
    np.array([[0, 0, 0, 0], [0, 0, 1, 1]]),
    np.array([[0, 2, 2, 2], [255, 255, 255, 255]], np.uint8),
]


def test_frequencies_by_hand():
    pixels, of_images = class_frequencies(MASKS, 4)
    assert pixels.tolist() == [7, 2, 3, 0]
    assert of_images.tolist() == [12, 8, 4, 0]


def test_median_frequency_by_hand():
    # frequencies 7/12, 1/4, 3/4: their median is 7/12
    got = median_frequency_weights(MASKS, 4)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.data, [1, 7 / 3, 7 / 9, 0], rtol=1e-6)


def test_inverse_log_by_hand():
    expected = [1 / math.log(1.02 + n / 12) for n in (7, 2, 3, 0)]
    np.testing.assert_allclose(inverse_log_weights(MASKS, 4).data, expected, rtol=1e-6)


def test_nothing_but_ignored_pixels():
    nothing = [np.full((2, 2), 255)]
    np.testing.assert_array_equal(median_frequency_weights(nothing, 2).data, 0)
    np.testing.assert_allclose(inverse_log_weights(nothing, 2).data, 1 / math.log(1.02), rtol=1e-6)


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_out_of_range_is_named(label):
    with pytest.raises(ValueError, match=f"mask 1 has label {label}, needs 0 to 3"):
        class_frequencies([MASKS[0], np.array([[0, label]])], 4)


def test_labels_are_integers():
    with pytest.raises(TypeError, match="mask 1 is float64, needs integer labels"):
        class_frequencies([MASKS[0], np.array([[0.5, 1.0]])], 4)
