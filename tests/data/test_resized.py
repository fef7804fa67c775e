"""Images in another size: of labels the nearest, of what shrinks the mean."""

import numpy as np
import pytest

from minseg.data import Sample, Shapes
from minseg.data.resized import Resized, resize_image


class Squares(Shapes):
    """One sample of 4 x 6 pixels, each with a label of its own."""

    def __getitem__(self, index):
        labels = np.arange(24).reshape(4, 6)
        return Sample(np.full((4, 6, 3), 0.25, np.float32), labels, labels.astype(np.int32), "one")


def test_labels_and_instances_are_those_at_the_middle_of_each_new_pixel():
    data = Resized(Squares(1), (6, 3))
    sample = data[0]
    rows, columns = [0, 1, 1, 2, 3, 3], [1, 3, 5]  # floor((i + 1/2) 4/6), floor((i + 1/2) 6/3)
    np.testing.assert_array_equal(sample.mask, np.arange(24).reshape(4, 6)[rows][:, columns])
    np.testing.assert_array_equal(sample.instances, sample.mask)
    assert sample.instances.dtype == np.int32
    np.testing.assert_allclose(sample.image, np.full((6, 3, 3), 0.25), atol=1e-6)
    assert (len(data), data.classes, sample.name) == (1, Shapes.classes, "one")
    full = Resized(Squares(1), (6, 3), full_labels=True)[0]
    assert full.image.shape == (6, 3, 3)
    assert full.mask.shape == full.instances.shape == (4, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_shrinks_is_averaged(channels):
    stripes = np.zeros((8, 12, channels), np.float32)
    stripes[:, ::2, 0] = 1  # every other column: the nearest of them would be all or nothing
    shrunk = resize_image(stripes, (4, 6))
    assert shrunk.shape == (4, 6, channels)
    np.testing.assert_allclose(shrunk[:, 1:-1, 0], 0.5, atol=1e-6)
    assert (shrunk[:, :, 1:] == 0).all()
    assert resize_image(stripes, (8, 12)) is stripes
