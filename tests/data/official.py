"""Small images and labels, drawn and written: what tests of official layouts share."""

import numpy as np
from PIL import Image

from minseg.data import VOC

GENERATOR = np.random.default_rng(0)
SIZE = (6, 8)


def pixels(*shape):
    return GENERATOR.integers(0, 256, shape, dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


def save_indices(path, array):
    """As VOC stores labels: a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", array.shape[::-1], array.astype(np.uint8).tobytes())
    image.putpalette(VOC.palette.tobytes())
    image.save(path)
    return array


def check(sample, image, mask, instances=None):
    shown = image if image.ndim == 3 else image[:, :, None]
    np.testing.assert_allclose(sample.image, shown / 255, rtol=0, atol=2**-24)
    np.testing.assert_array_equal(sample.mask, mask)
    assert (sample.image.dtype, sample.mask.dtype) == (np.float32, np.int64)
    if instances is None:
        assert sample.instances is None
    else:
        np.testing.assert_array_equal(sample.instances, instances)
        assert sample.instances.dtype == np.int32
