"""What the arms of a study must have in common, and the scenes that are drawn for claims."""

import os

import numpy as np
import pytest

from minseg import get_num_threads, manual_seed, nn, set_num_threads
from minseg.models import DeepLabV2, SegNet
from minseg.studies import study
from minseg.studies.claims import aspp, atrous, concat_or_add, image_pooling, noisy_masks, unpooling
from minseg.studies.claims.skips import JoinedUNet
from minseg.studies.scenes import Signs, Specks, Wires
from minseg.summary import summary


def number_of_weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_arms_have_the_same_number_of_weights():
    beside = number_of_weights(JoinedUNet("concat", concat_or_add.CONCATENATED))
    added = number_of_weights(JoinedUNet("add", concat_or_add.ADDED))
    assert abs(added / beside - 1) < 0.005
    pairs = [
        (JoinedUNet("concat"), JoinedUNet("none")),
        (atrous.Stack(7, False), atrous.Stack(7, True)),
        (image_pooling.Net(False), image_pooling.Net(True)),
        (
            DeepLabV2(5, width=4, depth=18, rates=aspp.ONE),
            DeepLabV2(5, width=4, depth=18, rates=aspp.SEVERAL),
        ),
    ]
    for one, other in pairs:
        assert number_of_weights(one) == number_of_weights(other)


def test_atrous_and_pooling_see_as_far():
    """Two 3x3 and a 3x3 pooling three times, distances doubling: 1 + (2 + 2) + 2 + ... = 35."""
    far = 1 + (2 + 2) + 2 * (1 + 2 + 2) + 4 * (2 + 2) + 2 + 2
    for holes in (False, True):
        layers = summary(atrous.Stack(7, holes), (3, 48, 64)).layers
        assert layers[-1].receptive_field == (far, far)


def test_without_image_pooling_the_sign_is_out_of_reach():
    layers = summary(image_pooling.Net(False), (2, 1, 64, 80)).layers
    reach = max(layer.receptive_field[0] for layer in layers) // 2
    signs = Signs(100, 0)
    for index in range(100):
        sample = signs[index]
        discs = np.nonzero(sample.mask)[1]
        gap = min(abs(column - discs).min() for column in sign_columns(sample))
        assert gap > reach + 4  # and what bilinear upsampling adds


def sign_columns(sample):
    """Where, in the outer 16 columns opposite the discs, the sign differs from the ground."""
    left = np.nonzero(sample.mask)[1].mean() > sample.mask.shape[1] / 2
    strip = sample.image[:, :16, 0] if left else sample.image[:, -16:, 0]
    columns = np.nonzero(abs(strip - np.median(strip)) > 0.3)[1]
    return columns if left else sample.mask.shape[1] - 16 + columns


def test_the_bilinear_arm_ignores_the_places():
    manual_seed(0)
    model = SegNet(5, width=2, depth=11)
    weights = number_of_weights(model)
    model.add_module("unpool", unpooling.Bilinear())
    assert number_of_weights(model) == weights
    assert "Bilinear" in {layer.type for layer in summary(model, (2, 3, 37, 50)).layers}


@pytest.mark.parametrize("scenes", [Wires, Specks, Signs])
def test_scenes_depend_on_seed_and_index_alone(scenes):
    first, again, other = scenes(3, 0), scenes(2, 0), scenes(3, 1)
    assert first[1].image.shape == (*scenes.size, 1)
    np.testing.assert_array_equal(first[1].image, again[1].image)
    np.testing.assert_array_equal(first[-2].mask, again[1].mask)
    assert not np.array_equal(first[0].image, other[0].image)
    assert set(np.unique(np.stack([first[i].mask for i in range(3)]))) <= {0, 1, 2}


def test_specks_are_one_percent():
    specks = Specks(200, 0)
    share = np.mean([specks[index].mask.mean() for index in range(200)])
    assert 0.005 < share < 0.02


def test_signs_come_in_both_kinds_and_discs_look_alike():
    signs = [Signs(200, 0)[index] for index in range(200)]
    kinds = np.array([sample.mask.max() for sample in signs])
    assert set(kinds) == {1, 2}
    brightness = [
        np.concatenate([s.image[s.mask > 0].ravel() for s in signs if s.mask.max() == kind])
        for kind in (1, 2)
    ]
    assert abs(brightness[0].mean() - brightness[1].mean()) < 0.02  # deviation of a ground: 0.06


def test_corrupted_masks_are_those_of_other_images():
    clean = Wires(20, 0)
    masks = [clean[index].mask for index in range(20)]
    changed = noisy_masks.corrupted(clean, 0.3, seed=0)
    wrong = [i for i in range(20) if not np.array_equal(changed[i].mask, masks[i])]
    assert len(wrong) == 6
    for index in wrong:
        assert any(np.array_equal(changed[index].mask, masks[other]) for other in wrong)
    for index in range(20):
        np.testing.assert_array_equal(changed[index].image, clean[index].image)
    assert len(noisy_masks.corrupted(clean, 0.0, seed=0)) == 20


def test_the_same_seed_gives_the_same_score():
    training = study("rare-class").trainings["Dice"]
    found, before = [], get_num_threads()
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            manual_seed(3)
            found.append(training(3, 2))
    finally:
        set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.skipif("MINSEG_DATA" not in os.environ, reason="needs real images")
@pytest.mark.parametrize("name", ["elastic", "unpooling"])
def test_studies_of_real_images(name):
    """A step of one training, to the scores of its arms."""
    one = study(name)
    manual_seed(0)
    found = list(one.trainings.values())[-1](0, 1)
    scores = found.values() if isinstance(found, dict) else [found]
    assert all(0 <= score <= 1 for score in scores)
