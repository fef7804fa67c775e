"""Colour augmentation against its definitions."""

import numpy as np
import pytest

from minseg.data import ColorJitter, Normalize, RandomGamma, Sample, Standardize, Street


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def sample():
    return Street(1, (48, 64))[0]


def test_colour_jitter_leaves_labels_and_grey_alone(sample):
    after = ColorJitter(0.5, 0.5, 0.5, 0.2)(sample, generator())
    np.testing.assert_array_equal(after.mask, sample.mask)
    assert 0 <= after.image.min() < after.image.max() <= 1
    assert np.abs(after.image - sample.image).max() > 0.05
    unchanged = ColorJitter(0, 0, 0, 0)(sample, generator())
    np.testing.assert_allclose(unchanged.image, sample.image, atol=1e-6)
    grey = np.repeat(generator().random((8, 9, 1)).astype(np.float32), 3, axis=2)
    turned = ColorJitter(0, 0, 0.9, 0.5)(Sample(grey, np.zeros((8, 9), int)), generator())
    np.testing.assert_allclose(turned.image, grey, atol=1e-6)


def test_colour_jitter_definitions():
    class Upwards:  # each change at its upper end
        def uniform(self, low, high, count):
            return np.full(count, high)

    image = np.array([[[0.2, 0.4, 0.6], [0.4, 0.4, 0.4]]], np.float32)
    sample = Sample(image, np.zeros((1, 2), int))
    luma = image @ np.array([0.299, 0.587, 0.114])
    bright = ColorJitter(0.5, 0, 0, 0)(sample, Upwards()).image
    np.testing.assert_allclose(bright, image * 1.5, atol=1e-6)
    contrast = ColorJitter(0, 0.5, 0, 0)(sample, Upwards()).image
    np.testing.assert_allclose(contrast, luma.mean() + 1.5 * (image - luma.mean()), atol=1e-6)
    strong = ColorJitter(0, 0, 0.5, 0)(sample, Upwards()).image
    np.testing.assert_allclose(strong, luma[..., None] + 1.5 * (image - luma[..., None]), atol=1e-6)
    opposite = ColorJitter(0, 0, 0, 0.5)(sample, Upwards()).image  # half a turn mirrors at grey
    np.testing.assert_allclose(opposite, 2 * luma[..., None] - image, atol=1e-6)
    yellow = Sample(np.array([[[0.9, 0.9, 0.1]]], np.float32), np.zeros((1, 1), int))
    turned = ColorJitter(0, 0, 0, 0.5)(yellow, Upwards()).image  # its blue would be 1.5176
    np.testing.assert_allclose(turned, [[[0.7176, 0.7176, 1]]], atol=1e-4)


def test_normalize():
    image = generator().random((4, 5, 3)).astype(np.float32)
    sample = Sample(image, np.zeros((4, 5), int))
    after = Normalize((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))(sample, generator())
    np.testing.assert_allclose(after.image, (image - [0.1, 0.2, 0.3]) / [0.5, 1, 2], atol=1e-6)
    imagenet = Normalize()(sample, generator()).image  # by torchvision's numbers
    expected = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(imagenet, expected, atol=1e-5)
    grey = Sample(image[:, :, :1], np.zeros((4, 5), int), name="slice")
    assert Normalize((0.5,), (0.5,))(grey, generator()).image.shape == (4, 5, 1)
    with pytest.raises(ValueError, match="'slice' has 1 channels"):
        Normalize()(grey, generator())


def test_standardize():
    image = (100 + 7 * generator().random((40, 50, 3))).astype(np.float32)
    sample = Sample(image, np.zeros((40, 50), int))
    after = Standardize()(sample, generator()).image
    assert after.dtype == np.float32
    expected = (image - image.mean(axis=(0, 1))) / image.std(axis=(0, 1))
    np.testing.assert_allclose(after, expected, atol=1e-3)
    brighter = Sample(3 * image + 5, sample.mask)  # another exposure of the same scene
    np.testing.assert_allclose(Standardize()(brighter, generator()).image, after, atol=1e-3)
    flat = Sample(np.full((4, 5, 1), 0.3, np.float32), np.zeros((4, 5), int))
    assert abs(Standardize()(flat, generator()).image).max() < 1e-4  # rounding of 0.3


def test_upright_images_have_bright_things():
    image = np.full((20, 20, 3), 0.2, np.float32)
    image[3:8, 4:9] = (0.9, 0.5, 0.7)
    for picture in (image, 1 - image):
        after = Standardize(upright=True)(Sample(picture, np.zeros((20, 20), int)), generator())
        assert (after.image[3:8, 4:9] > 0).all()
        assert (after.image[0] < 0).all()
    darker = Standardize()(Sample(1 - image, np.zeros((20, 20), int)), generator())
    assert (darker.image[3:8, 4:9] < 0).all()


def test_random_gamma():
    image = generator().random((4, 5, 3)).astype(np.float32)
    sample = Sample(image, np.zeros((4, 5), int))
    np.testing.assert_allclose(RandomGamma(2, 2)(sample, generator()).image, image**2, rtol=1e-5)
    drawn = [RandomGamma(0.5, 2)(sample, generator(seed)).image for seed in range(200)]
    gammas = np.log([np.log(d[0, 0, 0]) / np.log(image[0, 0, 0]) for d in drawn]) / np.log(2)
    assert gammas.min() > -1 - 1e-3
    assert gammas.max() < 1 + 1e-3
    assert abs(gammas.mean()) < 4 / np.sqrt(3 * 200)  # four deviations of the mean of 200
    with pytest.raises(ValueError, match="RandomGamma"):
        RandomGamma(0, 1)
