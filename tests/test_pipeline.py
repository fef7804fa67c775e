"""What a network is fed: batches of changed images, as the record of the run says."""

import numpy as np
import pytest

from minseg.config import AUGMENTATIONS, Config, configure
from minseg.data import Sample, Shapes
from minseg.pipeline import augmentation, open_split, open_splits, training_loader

MEAN, DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])  # ImageNet's
GENERATOR = np.random.default_rng(0)
SHAPE = (12, 18)
MASK = np.arange(12 * 18).reshape(SHAPE)


def changed(image, mask=MASK, seed=0, **how):
    transform = augmentation(Config(epochs=1, **how), image.shape[2])
    return transform(Sample(image, mask), np.random.default_rng(seed))


@pytest.mark.parametrize(("images", "count"), [(9, 2), (1, 1)])
def test_a_quarter_as_many_images_are_drawn_to_validate_on(images, count):
    config = Config(data="shapes", images=images, size=(16, 24), epochs=1)
    train, val = open_splits(config)
    assert (len(train), len(val), len(open_split(config, "val"))) == (images, count, count)
    assert train[0].image.shape == val[0].image.shape == (16, 24, 3)
    assert not np.array_equal(train[0].image, val[0].image)


def test_training_batches_are_full_and_in_another_order_each_epoch():
    data = Shapes(7, (16, 16))
    loader = training_loader(configure("unet", "shapes", batch_size=3), data, 3)
    epochs = [[name for batch in loader.epoch(e) for name in batch.names] for e in (0, 1)]
    assert [len(set(names)) for names in epochs] == [6, 6]
    stored = [sample.name for sample in data][:6]
    assert len({tuple(names) for names in (stored, *epochs)}) == 3
    for batch_size in (7, 8):  # fewer images than a batch are one all the same
        config = configure("unet", "shapes", batch_size=batch_size)
        assert [len(batch) for batch in training_loader(config, data, 3).epoch(0)] == [7]


def test_what_images_are_normalised_by():
    image = GENERATOR.random((*SHAPE, 3)).astype(np.float32)
    plain = changed(image, augment="none")
    np.testing.assert_allclose(plain.image, (image - MEAN) / DEVIATION, atol=1e-5)
    np.testing.assert_array_equal(plain.mask, MASK)
    grey = image[:, :, :1]
    np.testing.assert_allclose(changed(grey, augment="none").image, 4 * grey - 2, atol=1e-5)
    skewed = 1 - image**3  # dark things on a bright ground
    own = (skewed - skewed.mean((0, 1))) / skewed.std((0, 1))
    for normalize, expected in (("image", own), ("upright", -own)):
        result = changed(skewed, augment="none", normalize=normalize).image
        np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_colours_change_before_the_normalisation(augment):
    colour = np.float32([0.3, 0.5, 0.6])
    flat = np.full((*SHAPE, 3), colour)
    seen = np.array([changed(flat, seed=s, augment=augment).image.max((0, 1)) for s in range(8)])
    steady = np.abs(seen - (colour - MEAN) / DEVIATION).max(axis=1) < 1e-5
    assert steady.all() if augment in ("none", "flip") else not steady.any()
    assert (seen < (1 - MEAN) / DEVIATION + 1e-5).all()  # still in 0..1, before it


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_places_change_after_the_normalisation(augment):
    """So that what comes from outside is the mean, and void."""
    image = GENERATOR.random((*SHAPE, 3)).astype(np.float32)
    masks = []
    for seed in range(8):
        whole = changed(image, seed=seed, augment=augment)
        masks.append(whole.mask)
        part = changed(image, np.zeros(SHAPE, int), seed, augment=augment, crop=(30, 16))
        assert part.image.shape == (30, 16, 3)
        assert (part.mask == 255).any()
        np.testing.assert_array_equal(part.mask == 255, (part.image == 0).all(axis=2))
    mirrored = [np.array_equal(mask, MASK[:, ::-1]) for mask in masks]
    stayed = [np.array_equal(mask, MASK) for mask in masks]
    sizes = {mask.shape for mask in masks}
    if augment == "none":
        assert all(stayed)
    elif augment == "flip":
        assert any(stayed)
        assert any(mirrored)
        assert all(np.logical_or(stayed, mirrored))
    elif augment == "scene":
        assert len(sizes) > 3
        rows = [size[0] / SHAPE[0] for size in sizes]
        assert 0.74 < min(rows) < 1 < max(rows) < 1.51
    else:
        assert not any(np.logical_or(stayed, mirrored))
        assert sizes == ({SHAPE} if augment == "elastic" else {SHAPE, SHAPE[::-1]})
