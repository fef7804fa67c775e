"""Transforms: image, mask and instances stay together; each against its direct definition."""

import numpy as np
import pytest
from PIL import Image

from minseg.data import (
    ColorJitter,
    Compose,
    ElasticDeformation,
    Flip,
    Mirror,
    Normalize,
    Pad,
    RandomCrop,
    RandomGamma,
    RandomRotate90,
    RandomScale,
    Resize,
    Rotate,
    Sample,
    Standardize,
    Street,
)
from minseg.data.transforms import warp

GEOMETRIC = [
    Flip(1.0, 1.0),
    RandomRotate90(),
    RandomCrop((20, 24)),
    RandomCrop((60, 30)),
    Pad((60, 80)),
    Mirror(5, 40),
    Resize((25, 70)),
    RandomScale(0.5, 2.0),
    Rotate(25),
    ElasticDeformation("unet", 3.0),
    ElasticDeformation("simard", 4.0, alpha=40.0),
]
PHOTOMETRIC = [ColorJitter(), RandomGamma(), Normalize(), Standardize()]
ALL = [*GEOMETRIC, *PHOTOMETRIC, Compose([Flip(), Rotate(), ColorJitter(), RandomCrop((24, 24))])]


def named(transform):
    return type(transform).__name__


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def sample():
    return Street(1, (48, 64))[0]


def copy_of(sample):
    return Sample(sample.image.copy(), sample.mask.copy(), sample.instances.copy(), sample.name)


def same(a, b):
    parts = zip((a.image, a.mask, a.instances), (b.image, b.mask, b.instances), strict=True)
    return all(np.array_equal(x, y) for x, y in parts) and a.name == b.name


@pytest.mark.parametrize("transform", ALL, ids=named)
def test_shapes_dtypes_and_the_input_are_kept(transform, sample):
    before = copy_of(sample)
    after = transform(sample, generator())
    assert same(sample, before)
    for array in (after.image, after.mask, after.instances):
        assert not np.shares_memory(array, sample.image)
        assert not np.shares_memory(array, sample.mask)
        assert not np.shares_memory(array, sample.instances)
    assert after.image.shape == (*after.mask.shape, 3)
    assert after.instances.shape == after.mask.shape
    dtypes = (after.image.dtype, after.mask.dtype, after.instances.dtype)
    assert dtypes == (np.float32, np.int64, np.int32)
    assert same(after, transform(sample, generator()))
    without = Sample(sample.image, sample.mask, None, "x")
    assert transform(without, generator()).instances is None


@pytest.mark.parametrize("transform", GEOMETRIC, ids=named)
@pytest.mark.parametrize("seed", range(4))
def test_an_image_that_is_its_mask_stays_it(transform, seed):
    # Half planes: where all four neighbours agree, bilinear and nearest must give the same.
    y, x = np.mgrid[:41, :53]
    mask = ((y > 13) + 2 * (x > 30)).astype(np.int64)
    image = np.repeat((mask / 4 + 0.25).astype(np.float32)[:, :, None], 3, axis=2)
    after = transform(Sample(image, mask, (mask + 1).astype(np.int32)), generator(seed))
    outside = after.mask == 255
    np.testing.assert_array_equal(outside, after.instances == 0)
    np.testing.assert_array_equal(outside, (after.image == 0).all(axis=2))
    np.testing.assert_array_equal(after.instances[~outside], after.mask[~outside] + 1)
    shown = after.image[~outside][:, 0] * 4 - 1
    labels = after.mask[~outside]
    pure = np.isclose(shown, np.round(shown), atol=1e-5)
    assert pure.mean() > 0.7
    # A mixture of 0 and 2 that happens to be 1 is possible, right on an edge only.
    assert (np.round(shown[pure]) == labels[pure]).mean() > 0.99
    # Bilinear weighs the other row and the other column by at most a half each: steps 1 and 2.
    assert np.abs(shown - labels).max() <= 1.5 + 1e-5


def test_flip():
    image = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    mask = np.arange(8).reshape(2, 4)
    sample = Sample(image, mask)
    across = Flip(1.0, 0.0)(sample, generator())
    np.testing.assert_array_equal(across.mask, [[3, 2, 1, 0], [7, 6, 5, 4]])
    np.testing.assert_array_equal(across.image, image[:, ::-1])
    down = Flip(0.0, 1.0)(sample, generator())
    np.testing.assert_array_equal(down.mask, [[4, 5, 6, 7], [0, 1, 2, 3]])
    stream = generator()
    flips = [Flip(0.25)(sample, stream).mask[0, 0] == 3 for _ in range(400)]
    assert abs(np.mean(flips) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)  # 4 standard errors


def test_a_mirrored_frame():
    mask = np.array([[0, 1, 2], [3, 4, 5]])
    framed = Mirror(1, 2)(Sample(np.repeat(mask[:, :, None], 3, 2) / 5, mask), generator())
    one, other = [2, 1, 0, 1, 2, 1, 0], [5, 4, 3, 4, 5, 4, 3]  # the border is not repeated
    np.testing.assert_array_equal(framed.mask, [other, one, other, one])
    np.testing.assert_array_equal(framed.image[:, :, 2] * 5, framed.mask)
    with pytest.raises(ValueError, match="Mirror: got -1, 0"):
        Mirror(-1, 0)


def test_random_crop_reaches_every_place_and_no_other():
    mask = np.arange(20).reshape(4, 5)
    sample = Sample(np.repeat(mask[:, :, None], 3, 2).astype(np.float32), mask)
    stream = generator()
    corners = {int(RandomCrop((3, 3))(sample, stream).mask[0, 0]) for _ in range(200)}
    assert corners == {0, 1, 2, 5, 6, 7}


def test_random_crop_pads_what_is_too_small():
    mask = np.arange(6).reshape(2, 3)
    sample = Sample(np.ones((2, 3, 3), np.float32), mask)
    stream = generator()
    rows = set()
    for _ in range(100):
        after = RandomCrop((5, 2))(sample, stream)  # padded in height, cut in width
        assert after.mask.shape == (5, 2)
        inside = np.flatnonzero((after.mask != 255).all(axis=1))
        assert len(inside) == 2
        assert (after.image[after.mask == 255] == 0).all()
        assert (after.image[after.mask != 255] == 1).all()
        rows.add(int(inside[0]))
    assert rows == {0, 1, 2, 3}


def test_pad_centres():
    sample = Sample(np.ones((2, 3, 1), np.float32), np.zeros((2, 3), np.int64))
    after = Pad((4, 2))(sample, generator())
    np.testing.assert_array_equal(after.mask, np.array([[255], [0], [0], [255]]).repeat(3, 1))


@pytest.mark.parametrize("size", [(7, 9), (14, 9), (23, 31)])
def test_enlarging_is_pillow_s_bilinear(size):
    # Pillow's bilinear filter is the plain one wherever it enlarges; its 8-bit weights are not
    # used for mode F. Values below 1, 4 products each: a few ulp of float32.
    image = generator().random((7, 9)).astype(np.float32)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    after = Resize(size)(Sample(image[:, :, None], np.zeros((7, 9), np.int64)), generator())
    np.testing.assert_allclose(after.image[:, :, 0], expected, rtol=0, atol=8 * 2**-24)


def test_resizing_takes_the_nearest_label():
    mask = np.array([[1, 2]])
    sample = Sample(np.zeros((1, 2, 3), np.float32), mask)
    assert Resize((1, 6))(sample, generator()).mask.tolist() == [[1, 1, 1, 2, 2, 2]]
    wide = Sample(np.zeros((1, 9, 3), np.float32), np.arange(9)[None])
    assert Resize((1, 3))(wide, generator()).mask.tolist() == [[1, 4, 7]]  # the blocks' middles


def test_random_scale_range():
    sample = Sample(np.zeros((100, 50, 3), np.float32), np.zeros((100, 50), np.int64))
    stream = generator()
    sizes = np.array([RandomScale(0.5, 2.0)(sample, stream).mask.shape for _ in range(200)])
    assert 50 <= sizes[:, 0].min() < 60
    assert 180 < sizes[:, 0].max() <= 200
    assert np.abs(sizes[:, 0] - 2 * sizes[:, 1]).max() <= 1
    # Smaller as often as larger, within 4 standard errors.
    assert abs((sizes[:, 0] < 100).mean() - 0.5) < 4 * np.sqrt(0.25 / 200)


def test_warp_against_its_definition():
    stream = generator()
    image = stream.random((5, 6, 2)).astype(np.float32)
    mask = stream.integers(0, 9, (5, 6))
    from_y, from_x = stream.uniform(-1.5, 6, (2, 40, 40))
    after = warp(Sample(image, mask), from_y, from_x)

    def at(y, x):  # beyond the border's pixel centres its colour goes on
        return image[min(max(y, 0), 4), min(max(x, 0), 5)].astype(np.float64)

    for i, j in np.ndindex(40, 40):
        y, x = from_y[i, j], from_x[i, j]
        if not (-0.5 <= y <= 4.5 and -0.5 <= x <= 5.5):
            assert after.mask[i, j] == 255
            assert (after.image[i, j] == 0).all()
            continue
        y0, x0 = int(np.floor(y)), int(np.floor(x))
        a, b = y - y0, x - x0
        expected = (1 - a) * ((1 - b) * at(y0, x0) + b * at(y0, x0 + 1))
        expected += a * ((1 - b) * at(y0 + 1, x0) + b * at(y0 + 1, x0 + 1))
        np.testing.assert_allclose(after.image[i, j], expected, rtol=0, atol=8 * 2**-24)
        nearest = min(max(round(y), 0), 4), min(max(round(x), 0), 5)
        assert after.mask[i, j] == mask[nearest]


@pytest.mark.parametrize("shape", [(8, 8), (7, 9)])
def test_rotation_by_a_quarter_is_exact(shape):
    class Quarter:
        def uniform(self, low, high):
            return high

    mask = generator().integers(0, 9, shape)
    image = np.repeat(mask[:, :, None], 3, 2).astype(np.float32)
    after = Rotate(90)(Sample(image, mask), Quarter())
    if shape[0] == shape[1]:
        np.testing.assert_array_equal(after.mask, np.rot90(mask))  # counter-clockwise
        np.testing.assert_allclose(after.image[:, :, 0], np.rot90(mask), atol=1e-5)
    else:  # the columns that have nothing above them are void
        assert (after.mask[:, 0] == 255).all()
        np.testing.assert_array_equal(after.mask[:, 1:-1], np.rot90(mask)[1:-1])


@pytest.mark.parametrize("transform", GEOMETRIC, ids=named)
def test_a_mask_of_another_size_is_refused(transform):
    sample = Sample(np.zeros((40, 50, 3), np.float32), np.zeros((80, 100), np.int64), name="odd")
    with pytest.raises(ValueError, match=r"'odd'.*\(40, 50\).*\(80, 100\)"):
        transform(sample, generator())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Flip(1.5), "Flip"),
        (lambda: RandomCrop((0, 4)), "RandomCrop"),
        (lambda: Pad((4, -1)), "Pad"),
        (lambda: Resize((4,)), "Resize"),
        (lambda: RandomScale(2.0, 1.0), "RandomScale"),
        (lambda: ColorJitter(hue=0.7), "ColorJitter"),
        (lambda: ColorJitter(brightness=-1), "ColorJitter"),
        (lambda: Normalize(std=(1.0, 0.0, 1.0)), "Normalize"),
        (lambda: ElasticDeformation("rubber"), "ElasticDeformation"),
        (lambda: ElasticDeformation(sigma=0), "ElasticDeformation"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        make()
