"""The synthetic scenes: what the issue promises of them, seen from the outside."""

import numpy as np
import pytest

from minseg.data import Shapes, Street, open_dataset
from minseg.data import painter as paint
from minseg.data.painter import Painter

BOTH = pytest.mark.parametrize("kind", [Shapes, Street])


def luminance(sample):
    return sample.image.mean()


@BOTH
@pytest.mark.parametrize("size", [(48, 64), (40, 32), (96, 128)])
def test_what_a_sample_holds(kind, size):
    data = kind(6, size)
    assert len(data) == 6
    assert data.palette.shape == (len(data.classes), 3)
    assert data.palette.dtype == np.uint8
    for sample in data:
        assert (sample.image.shape, sample.image.dtype) == ((*size, 3), np.float32)
        assert 0 <= sample.image.min() < sample.image.max() <= 1
        assert (sample.mask.shape, sample.mask.dtype) == (size, np.int64)
        assert 0 <= sample.mask.min() <= sample.mask.max() < len(data.classes)
        assert (sample.instances.shape, sample.instances.dtype) == (size, np.int32)


@BOTH
def test_instances_are_the_things_and_have_one_class_each(kind):
    data = kind(20, (48, 64))
    things = [data.classes.index(name) for name in data.things]
    for sample in data:
        np.testing.assert_array_equal(sample.instances > 0, np.isin(sample.mask, things))
        numbers = np.unique(sample.instances[sample.instances > 0])
        assert numbers.tolist() == list(range(1, len(numbers) + 1))
        for number in numbers:
            assert len(np.unique(sample.mask[sample.instances == number])) == 1


@BOTH
def test_the_seed_and_the_index_decide(kind):
    a, b, other = kind(4, (48, 64), 3), kind(9, (48, 64), 3), kind(4, (48, 64), 4)
    backwards = [b[i] for i in (3, 2, 1, 0)][::-1]
    for i, again in enumerate(backwards):  # neither n nor the order of asking matters
        assert a[i].image.tobytes() == again.image.tobytes()
        assert a[i].mask.tobytes() == again.mask.tobytes()
        assert a[i].instances.tobytes() == again.instances.tobytes()
    assert len({s.image.tobytes() for s in [*a, *other]}) == 8
    assert len({s.name for s in [*a, *other]}) == 8


@BOTH
def test_indices_are_a_sequence_s(kind):
    data = kind(3, (48, 64))
    assert data[-1].name == data[2].name
    for index in (3, -4):
        with pytest.raises(IndexError):
            data[index]


@BOTH
def test_train_and_val_are_apart(kind):
    train, val = (
        open_dataset(kind.__name__.lower(), s, n=5, size=(48, 64)) for s in ("train", "val")
    )
    assert not {s.image.tobytes() for s in train} & {s.image.tobytes() for s in val}


def test_every_class_and_overlaps_occur():
    for data in (Shapes(40), Street(20)):
        seen = np.bincount(
            np.concatenate([s.mask.ravel() for s in data]), minlength=len(data.classes)
        )
        assert (seen > 0).all()
        touching = 0
        for sample in data:
            a, b = sample.instances[:, 1:], sample.instances[:, :-1]
            touching += bool(((a != b) & (a > 0) & (b > 0)).any())
        assert touching > len(data) / 10  # objects in front of each other


def test_a_circle_s_area():
    # Pixels whose centre lies in a circle of radius r: pi r^2, up to the border's share (about r
    # pixels each of whose membership is a coin toss at most).
    for sample in Shapes(40, (64, 64), most=1):
        if sample.mask.max() != 1:
            continue
        rows, columns = np.nonzero(sample.mask == 1)
        radius = (np.ptp(columns) + 1) / 2
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)
        assert len(rows) == pytest.approx(np.pi * radius**2, abs=2 * np.pi * radius)


def test_a_shape_differs_from_the_background_around_it():
    # Colours are 0.35 apart in some channel, before a gradient of at most 0.1 on either side.
    for sample in Shapes(40, (64, 64), most=1):
        inside, outside = (sample.image[sample.mask == 0], sample.image[sample.mask > 0])
        assert np.abs(inside.mean(0) - outside.mean(0)).max() > 0.1


def test_mask_and_image_agree_on_where_the_edge_is():
    # Without noise, one pixel to either side of an object's edge the image already shows the
    # object or the background, so a shift of the mask by two pixels fits the image worse.
    def misfit(image, mask):
        groups = [image[mask == label] for label in np.unique(mask)]
        return sum(((pixels - pixels.mean(0)) ** 2).sum() for pixels in groups)

    for sample in Shapes(10, (64, 64), most=1, noise=0.0):
        best = misfit(sample.image, sample.mask)
        for shift in ((2, 0), (-2, 0), (0, 2), (0, -2)):
            assert best < misfit(sample.image, np.roll(sample.mask, shift, (0, 1)))


def test_day_is_brighter_than_dusk():
    day, dusk = Street(5, (48, 64), light="day"), Street(5, (48, 64), light="dusk")
    assert min(map(luminance, day)) > max(map(luminance, dusk))
    mixed = [luminance(sample) for sample in Street(40, (24, 32))]
    assert np.ptp(mixed) > 0.15


def test_sky_is_above_road():
    for sample in Street(10, (48, 64)):
        rows = {name: np.nonzero(sample.mask == i)[0] for i, name in enumerate(Street.classes)}
        assert rows["sky"].size == 0 or rows["sky"].max() < rows["road"].min()
        assert (sample.mask[-1] == Street.classes.index("road")).any()


def test_the_pinhole_camera():
    painter = Painter((48, 64), False, np.random.default_rng(0))
    painter.camera_x, painter.focal = 0.5, 100.0
    painter.middle, painter.horizon = 90.0, 70.0
    points = [(0.5, paint.CAMERA_HEIGHT, 5.0), (2.5, 0.0, 10.0), (2.5, 0.0, 20.0)]
    # x and y over z, times the focal length; eye height lies on the horizon at every distance.
    assert painter.project(points) == [(90.0, 70.0), (110.0, 85.0), (100.0, 77.5)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Shapes, {"size": (8, 64)}),
        (Shapes, {"most": 0}),
        (Street, {"size": (16, 64)}),
        (Street, {"light": "noon"}),
        (Street, {"n": -1}),
    ],
)
def test_bad_options(kind, options):
    with pytest.raises(ValueError, match=kind.__name__):
        kind(**options)
