"""The fully connected CRF: its sums against their definition, its labels against exact ones."""

import os
from pathlib import Path

import numpy as np
import pytest

from minseg.crf import dense_crf
from minseg.crf.exact import ExactFilter, blur, filter_definition
from minseg.crf.mean_field import bilateral_features
from minseg.crf.permutohedral import Permutohedral, elevate, simplices
from minseg.data import read_image
from minseg.data.street import Street
from tests.witness import assert_agree

ROOT = Path(os.environ.get("MINSEG_DATA", "")) / "densecrf"
needs_data = pytest.mark.skipif(
    not os.environ.get("MINSEG_DATA") or not ROOT.is_dir(), reason="needs densecrf in MINSEG_DATA"
)
# Of the lattice of pydensecrf, whose points are the paper's, against exact sums.
MEAN_ERROR, AGREEMENT = 0.009, 0.984


def scene(height, width, seed=0):
    """A drawn street, and what a network might say of it: blurred, and noisy."""
    rng = np.random.default_rng(seed)
    sample = Street(n=1, size=(height, width), seed=seed)[0]
    truth = np.eye(sample.mask.max() + 1, dtype=np.float32)[sample.mask].transpose(2, 0, 1)
    noise = rng.random(truth.shape, np.float32)
    p = blur(truth, 3.0) / 56 + 0.3 * noise  # 56: the sum of the taps
    return sample, p / p.sum(axis=0)


# -- the sums --------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_sums(dtype):
    rng = np.random.default_rng(0)
    features = 30 + 1.5 * rng.standard_normal((61, 3))  # far from 0, where squares cancel
    values = rng.random((4, 61)).astype(dtype)
    assert_agree(ExactFilter(features)(values), filter_definition(features, values), dtype, 61)
    place = np.indices((7, 9)).reshape(2, -1).T / 1.3
    planes = rng.random((2, 7, 9)).astype(dtype)
    expected = filter_definition(place, planes.reshape(2, -1)).reshape(planes.shape)
    assert_agree(blur(planes, 1.3), expected, dtype, 63)


def test_exact_sums_do_not_depend_on_the_blocks(monkeypatch):
    from minseg.crf import exact

    rng = np.random.default_rng(0)
    features, values = rng.standard_normal((50, 5)), rng.random((3, 50))
    expected = filter_definition(features, values)
    monkeypatch.setattr(exact, "PAIRS_A_BLOCK", 150)  # 3 rows a block, 2 in the last
    assert_agree(ExactFilter(features)(values), expected, np.float64, 50)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_simplices_of_the_lattice(d):
    """A place is the mean of its corners, each with its weight; keys are linear in the places."""
    features = 4 * np.random.default_rng(d).standard_normal((300, d))
    keys, weights, strides = simplices(features)
    assert (weights >= -1e-12).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-12)
    place = strides @ elevate(features)[:d]
    np.testing.assert_allclose((weights * keys).sum(axis=0), place, atol=1e-13 * abs(keys).max())


def test_elevation_keeps_angles_and_lies_in_the_hyperplane():
    features = np.random.default_rng(0).standard_normal((20, 5))
    x = elevate(features)
    np.testing.assert_allclose(x.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.T @ x, 24 * features @ features.T, atol=1e-11)  # 2 / 3 * 6^2


@pytest.mark.parametrize("d", [2, 3, 5])
def test_lattice_sums_are_the_exact_ones_within_some_percent(d):
    """Where points are dense, so that nothing is lost."""
    rng = np.random.default_rng(0)
    features = 3 * rng.random((2500, d))
    values = rng.random((1, 2500))
    ratio = Permutohedral(features)(values) / ExactFilter(features)(values)
    assert abs(ratio.mean() - 1) < 0.05
    assert ratio.std() < 0.05


def test_lattice_is_linear_and_repeats():
    rng = np.random.default_rng(0)
    lattice = Permutohedral(2 * rng.standard_normal((400, 5)))
    a, b = rng.random((2, 3, 400))
    np.testing.assert_array_equal(lattice(a), lattice(a))
    np.testing.assert_allclose(lattice(a + 2 * b), lattice(a) + 2 * lattice(b), rtol=1e-12)
    assert lattice(a.astype(np.float32)).dtype == np.float32


def test_features_too_far_apart_for_keys():
    with pytest.raises(ValueError, match="a standard deviation is too small"):
        Permutohedral(np.array([[0.0] * 5, [1e4] * 5]))


# -- inference -------------------------------------------------------------------------------------
def test_mean_field_by_definition():
    """Algorithm 1 in loops, on a tiny image."""
    rng = np.random.default_rng(0)
    image, p = rng.random((3, 4, 3)), rng.random((3, 3, 4))
    p /= p.sum(axis=0)
    settings = {"bi_w": 4.0, "bi_xy": 2.0, "bi_rgb": 90.0, "pos_w": 3.0, "pos_xy": 1.5}
    place = np.indices((3, 4)).reshape(2, -1).T
    colour = image.reshape(-1, 3) * 255
    k = np.zeros((2, 12, 12))
    for i in range(12):
        for j in range(12):
            far = ((place[i] - place[j]) ** 2).sum()
            unlike = ((colour[i] - colour[j]) ** 2).sum()
            k[0, i, j] = np.exp(-far / (2 * 2.0**2) - unlike / (2 * 90.0**2))
            k[1, i, j] = np.exp(-far / (2 * 1.5**2))
    unary = -np.log(p.reshape(3, 12))
    q = np.exp(-unary)
    for _ in range(3):
        message = np.zeros((3, 12))
        for w, kernel in zip((4.0, 3.0), k, strict=True):
            n = kernel.sum(axis=1)
            for label in range(3):
                for i in range(12):
                    # Potts: what all other labels weigh is a cost
                    others = sum(q[m] for m in range(3) if m != label)
                    message[label, i] += w * (kernel[i] / np.sqrt(n[i] * n) * others).sum()
        q = np.exp(-unary - message)
        q /= q.sum(axis=0)
    got = dense_crf(p, image, iterations=3, **settings)
    np.testing.assert_allclose(got.reshape(3, 12), q, rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_lattice_s_labels_are_the_exact_ones(seed):
    sample, p = scene(36, 48, seed)
    exact = dense_crf(p, sample.image, method="exact")
    lattice = dense_crf(p, sample.image, method="lattice")
    assert abs(lattice - exact).mean() <= MEAN_ERROR
    assert (lattice.argmax(0) == exact.argmax(0)).mean() >= AGREEMENT


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_labels_find_the_border_of_the_colours(method):
    """A thin bar that the network has smeared, on a noisy image."""
    rng = np.random.default_rng(0)
    truth = np.zeros((32, 40), np.int64)
    truth[4:28, 18:21] = 1
    image = 0.4 + 0.3 * truth[..., None] + 0.01 * rng.standard_normal((32, 40, 3))
    p = blur(np.eye(2)[truth].transpose(2, 0, 1), 2.0)
    p[1] *= 4  # it sees the bar, and too wide
    p /= p.sum(axis=0)
    assert (p.argmax(0) == truth).mean() < 0.95
    assert (dense_crf(p, image, method=method).argmax(0) == truth).mean() > 0.995


def test_size_chooses_the_method(monkeypatch):
    from minseg.crf import mean_field

    sample, p = scene(24, 32)
    same = dense_crf(p, sample.image, iterations=2)
    exact = dense_crf(p, sample.image, iterations=2, method="exact")
    np.testing.assert_array_equal(same, exact)
    monkeypatch.setattr(mean_field, "EXACT_PIXELS", 24 * 32 - 1)
    same = dense_crf(p, sample.image, iterations=2)
    lattice = dense_crf(p, sample.image, iterations=2, method="lattice")
    np.testing.assert_array_equal(same, lattice)
    assert abs(lattice - exact).max() > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (90, 1), (70, 71)])
def test_any_size_any_channels_and_no_change_of_inputs(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 1), np.uint8)
    p = rng.random((2, *size), np.float32)
    p /= p.sum(axis=0)
    before = p.copy()
    calls = []
    q = dense_crf(p, image, iterations=2, on_iteration=lambda: calls.append(1))
    assert q.shape == p.shape
    assert q.dtype == np.float32
    assert len(calls) == 2
    np.testing.assert_allclose(q.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(p, before)
    floats = dense_crf(p, image.astype(np.float32) / 255, iterations=2)
    assert abs(floats - q).max() < 1e-3


def test_the_defaults_are_deeplab_v2_s():
    sample, p = scene(24, 32)
    v2 = {"iterations": 10, "bi_w": 4, "bi_xy": 67, "bi_rgb": 3, "pos_w": 3, "pos_xy": 1}
    np.testing.assert_array_equal(dense_crf(p, sample.image), dense_crf(p, sample.image, **v2))


def test_without_pairwise_terms_nothing_changes():
    sample, p = scene(24, 32)
    np.testing.assert_allclose(dense_crf(p, sample.image, bi_w=0, pos_w=0), p, atol=1e-4)


def test_wrong_arguments_are_named():
    p, image = np.full((2, 4, 5), 0.5, np.float32), np.zeros((4, 5, 3), np.float32)
    with pytest.raises(ValueError, match=r"probabilities \(2, 4, 5\) and image \(5, 4, 3\)"):
        dense_crf(p, image.transpose(1, 0, 2))
    for shape in ((2, 0, 5), (2, 4, 0), (0, 4, 5)):
        with pytest.raises(ValueError, match=r"of one size, not empty"):
            dense_crf(np.zeros(shape, np.float32), np.zeros((*shape[1:], 3), np.float32))
    with pytest.raises(ValueError, match=r"image \(4, 5, 0\), needs .*, not empty"):
        dense_crf(p, image[..., :0])
    with pytest.raises(ValueError, match="method is 'fast', needs auto, exact, lattice"):
        dense_crf(p, image, method="fast")
    with pytest.raises(ValueError, match="bi_xy is 0, needs to be above 0"):
        dense_crf(p, image, bi_xy=0)
    with pytest.raises(ValueError, match="pos_w is nan, needs to be finite"):
        dense_crf(p, image, pos_w=np.nan)
    with pytest.raises(TypeError, match="image is int64"):
        dense_crf(p, image.astype(np.int64))
    with pytest.raises(TypeError, match="probabilities is int64"):
        dense_crf(p.astype(np.int64), image)
    with pytest.raises(ValueError, match="image has values that are NaN"):
        dense_crf(p, image + np.nan)
    with pytest.raises(ValueError, match=r"from 0 to 255, needs floats in 0..1 or uint8; divide"):
        dense_crf(p, np.linspace(0, 255, 60, dtype=np.float32).reshape(4, 5, 3))
    with pytest.raises(ValueError, match=r"from -2 to 0, needs floats in 0..1 .* normalised"):
        dense_crf(p, np.linspace(-2, 0, 60).reshape(4, 5, 3))
    dense_crf(p, np.linspace(-0.9, 1.9, 60).reshape(4, 5, 3), iterations=0)  # a noisy image


@pytest.mark.parametrize("method", ["exact", "lattice"])
@pytest.mark.parametrize("name", ["bi_xy", "bi_rgb"])
def test_deviations_too_small_for_sums_are_refused(method, name):
    """Where |f_i - f_j|^2 is what is left of far larger squares, no rounding error is small."""
    sample, p = scene(24, 32)
    for deviation in (1e-4, 1e-9, 1e-100, 1e-320):
        with pytest.raises(ValueError, match=f"{name} is {deviation}, needs to be at least"):
            dense_crf(p, sample.image, method=method, **{name: deviation})


def test_the_smallest_deviations_and_the_largest():
    """In the limits a pixel is bound to those of its colour, or to all, or place does not count."""
    rng = np.random.default_rng(0)
    image, p = (rng.random((8, 9, 1)) < 0.5) + np.zeros(3), rng.random((2, 8, 9))
    p /= p.sum(axis=0)
    largest = {"bi_xy": 1e308, "pos_xy": 1e308}
    q = dense_crf(p, image, iterations=1, bi_rgb=0.01, **largest)
    one = image[..., 0] == 1
    alike = np.where(one, p[:, one].mean(1)[:, None, None], p[:, ~one].mean(1)[:, None, None])
    expected = p * np.exp(4 * alike + 3 * p.mean((1, 2), keepdims=True))
    np.testing.assert_allclose(q, expected / expected.sum(axis=0), rtol=1e-6)
    q = dense_crf(p, image, iterations=1, bi_rgb=0.01, bi_w=1e5, **largest)  # e^50000 is no float
    np.testing.assert_allclose(q, np.eye(2)[alike.argmax(0)].transpose(2, 0, 1), atol=1e-6)


# -- against pydensecrf's own pictures -------------------------------------------------------------
def scribbles(number):
    """One of its examples: the image, the unary of its annotation, the labels it gives."""
    image, notes, out = (read_image(ROOT / f"{part}{number}.png") for part in ("im", "anno", "out"))
    codes, expected = ((255 * a).round() @ [65536, 256, 1] for a in (notes, out))
    colours = np.unique(codes[codes > 0])  # black is unknown
    p = np.where(codes == colours[:, None, None], 0.7, 0.3 / (len(colours) - 1))
    p[:, codes == 0] = 1 / len(colours)
    return image, p.astype(np.float32), np.searchsorted(colours, expected)


# Of examples/inference.py of pydensecrf.
EXAMPLE = {"iterations": 5, "bi_w": 10, "bi_xy": 80, "bi_rgb": 13, "pos_w": 3, "pos_xy": 3}


@needs_data
@pytest.mark.parametrize("number", [1, 2])
def test_pydensecrf_s_output(number):
    image, p, expected = scribbles(number)
    labels = dense_crf(p, image, **EXAMPLE).argmax(0)
    assert (labels == expected).mean() > 0.999


@needs_data
@pytest.mark.parametrize("number", [1, 2])
def test_lattice_against_exact_on_photos(number):
    image, p, _ = scribbles(number)
    rows, columns = slice(80, 128), slice(120, 184)
    image, p = image[rows, columns], np.ascontiguousarray(p[:, rows, columns])
    exact = dense_crf(p, image, method="exact")
    lattice = dense_crf(p, image, method="lattice")
    assert abs(lattice - exact).mean() <= MEAN_ERROR
    assert (lattice.argmax(0) == exact.argmax(0)).mean() >= AGREEMENT


def test_features_are_in_units_of_their_deviations():
    image = np.zeros((2, 3, 1))
    image[1, 2] = 0.5
    last = bilateral_features(image, 4.0, 2.0)[-1]
    np.testing.assert_allclose(last, [1 / 4, 2 / 4, 127.5 / 2])
