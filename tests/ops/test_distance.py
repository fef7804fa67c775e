import numpy as np
import pytest

from minseg.ops.distance import distance_definition, distance_transform, signed_distance


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 12), (20, 13)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_distances_equal_the_definition(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    np.testing.assert_allclose(distance_transform(mask), distance_definition(mask), rtol=1e-15)


def test_masks_in_a_batch_are_independent():
    masks = np.random.default_rng(1).random((2, 3, 8, 9)) < 0.1
    got = distance_transform(masks)
    for n, c in np.ndindex(2, 3):
        np.testing.assert_array_equal(got[n, c], distance_transform(masks[n, c]))


def test_signed_distance_by_hand():
    mask = np.zeros((5, 7), bool)
    mask[1:4, 1:6] = True
    expected = [
        [2**0.5, 1, 1, 1, 1, 1, 2**0.5],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 0, -1, -1, -1, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [2**0.5, 1, 1, 1, 1, 1, 2**0.5],
    ]
    np.testing.assert_allclose(signed_distance(mask), expected)


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_an_edge_has_distance_0(value):
    np.testing.assert_array_equal(signed_distance(np.full((3, 4), value)), 0)
