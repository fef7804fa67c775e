"""The two displacement fields against direct definitions."""

import numpy as np
import pytest

from minseg.data import ElasticDeformation, Sample
from minseg.data.elastic import bicubic_field, simard_field


def cubic(distance):
    """Keys' kernel, a = -1/2."""
    d = abs(distance)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


@pytest.mark.parametrize(("grid", "size"), [(3, (11, 14)), (2, (5, 5)), (5, (23, 9))])
def test_the_bicubic_field_is_the_sum_over_all_nodes(grid, size):
    coarse = np.random.default_rng(0).normal(size=(2, grid, grid))
    field = bicubic_field(coarse, size)
    assert field.shape == (2, *size)
    padded = np.pad(coarse, [(0, 0), (2, 2), (2, 2)], mode="edge")
    for i, j in np.ndindex(*size):
        y, x = i * (grid - 1) / (size[0] - 1), j * (grid - 1) / (size[1] - 1)
        expected = np.zeros(2)
        for a, b in np.ndindex(grid + 4, grid + 4):
            expected += padded[:, a, b] * cubic(y - (a - 2)) * cubic(x - (b - 2))
        np.testing.assert_allclose(field[:, i, j], expected, rtol=0, atol=1e-13)


def test_the_bicubic_field_passes_through_its_nodes_and_keeps_constants():
    coarse = np.random.default_rng(1).normal(size=(2, 3, 3))
    field = bicubic_field(coarse, (21, 31))
    np.testing.assert_allclose(field[:, ::10, ::15], coarse, atol=1e-13)
    np.testing.assert_allclose(bicubic_field(np.full((2, 3, 3), 7.0), (20, 33)), 7.0, atol=1e-13)
    assert bicubic_field(coarse, (1, 1)).shape == (2, 1, 1)


def test_the_smooth_field_is_a_gaussian_sum_of_the_noise():
    sigma, alpha, size = 1.5, 20.0, (6, 9)
    field = simard_field(size, sigma, alpha, np.random.default_rng(5))
    reach = 6  # 4 sigma
    noise = np.random.default_rng(5).uniform(-1, 1, (2, size[0] + 12, size[1] + 12))
    offsets = np.arange(-reach, reach + 1)
    dy, dx = np.meshgrid(offsets, offsets, indexing="ij")
    weights = np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
    weights *= alpha / weights.sum()
    for i, j in np.ndindex(*size):
        expected = (weights * noise[:, i : i + 13, j : j + 13]).sum(axis=(1, 2))
        np.testing.assert_allclose(field[:, i, j], expected, rtol=0, atol=1e-12)


def test_the_smooth_field_s_strength():
    # Variance of the noise: 1/3. A Gaussian of weight 1 multiplies it by the sum of its squared
    # weights, 1 / (4 pi sigma^2); the border is as strong as the middle.
    sigma, alpha = 3.0, 50.0
    fields = np.stack(
        [simard_field((60, 70), sigma, alpha, np.random.default_rng(i)) for i in range(60)]
    )
    expected = alpha / np.sqrt(3) / np.sqrt(4 * np.pi * sigma**2)
    # About 60 fields x 2 x 4200 pixels / (4 pi sigma^2) independent values: 2 % is > 5 errors.
    assert fields.std() == pytest.approx(expected, rel=0.02)
    border = np.concatenate([fields[:, :, 0].ravel(), fields[:, :, :, -1].ravel()])
    assert border.std() == pytest.approx(expected, rel=0.08)


def test_the_transform_follows_its_field():
    y, x = np.mgrid[:40, :50].astype(np.float32)
    image = np.stack([y, x], axis=2)  # the image says where it comes from
    sample = Sample(np.concatenate([image, image[:, :, :1]], 2), np.zeros((40, 50), np.int64))
    after = ElasticDeformation("unet", 3.0)(sample, np.random.default_rng(3))
    field = bicubic_field(np.random.default_rng(3).normal(0, 3.0, (2, 3, 3)), (40, 50))
    inner = after.mask == 0
    came = after.image[:, :, :2] - image
    moved = np.moveaxis(field, 0, 2)
    limits = np.array([39, 49])
    clipped = np.clip(image + moved, 0, limits) - image
    # Coordinates below 64 in float32: half an ulp is 2^-19, a few operations each.
    np.testing.assert_allclose(came[inner], clipped[inner], rtol=0, atol=2**-16)
    wanted = image + moved
    np.testing.assert_array_equal(inner, ((wanted >= -0.5) & (wanted <= limits + 0.5)).all(axis=2))
