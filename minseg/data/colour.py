"""Augmentation of colours: the image changes, its mask and instances stay.

As in `transforms`, the sample that a transform is given stays unchanged.
"""

import numpy as np

from minseg.data.dataset import Sample

_FAINT = 1e-3  # a quarter of an 8-bit grey level: an image of less spread shows nothing


class ColorJitter:
    """Change brightness, contrast, saturation and hue of an image in 0..1, in this order.

    The first three are factors, uniform in 1 - value..1 + value, by which these are multiplied: the
    colour, its distance from the image's mean grey, its distance from its own grey. hue turns the
    colour about the grey axis (in YIQ) by up to that share of a full circle. A grey image gets the
    first two only.
    """

    def __init__(
        self,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        hue: float = 0.03,
    ) -> None:
        values = (brightness, contrast, saturation)
        if not all(0 <= value <= 1 for value in values) or not 0 <= hue <= 0.5:
            raise ValueError(
                f"ColorJitter: got {values} and hue {hue}, needs values in 0..1 and hue in 0..0.5"
            )
        self.ranges = np.array([*values, 2 * np.pi * hue])

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        change = self.ranges * generator.uniform(-1, 1, 4)
        brightness, contrast, saturation = (1 + change[:3]).astype(np.float32)
        image = np.clip(sample.image * brightness, 0, 1)
        image = _mix(_grey(image).mean(), image, contrast)
        if image.shape[2] == 3:
            image = _mix(_grey(image), image, saturation)
            image = np.clip(image @ _hue_matrix(change[3]).T, 0, 1)
        return Sample(image, sample.mask.copy(), _copy(sample.instances), sample.name)


class RandomGamma:
    """Raise an image in 0..1 to a power, uniform in low..high in its logarithm.

    A power below 1 brightens the dark parts, one above 1 darkens them. No change of brightness or
    contrast does that, and no normalisation by mean and deviation can undo it.
    """

    def __init__(self, low: float = 0.7, high: float = 1.4) -> None:
        if not 0 < low <= high:
            raise ValueError(f"RandomGamma: got {low}..{high}, needs 0 < low <= high")
        self.low = low
        self.high = high

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        gamma = np.float32(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))
        image = np.clip(sample.image, 0, 1) ** gamma
        return Sample(image, sample.mask.copy(), _copy(sample.instances), sample.name)


class Normalize:
    """Subtract the mean and divide by the standard deviation of each channel.

    The defaults are ImageNet's, which published backbones expect.
    """

    def __init__(
        self,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> None:
        self.mean = np.array(mean, np.float32)
        self.std = np.array(std, np.float32)
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: std: got {std}, needs values > 0")

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        channels = sample.image.shape[2]
        if {self.mean.size, self.std.size} - {1, channels}:
            raise ValueError(
                f"Normalize: mean and std have {self.mean.size} and {self.std.size} values, but "
                f"sample {sample.name!r} has {channels} channels"
            )
        image = (sample.image - self.mean) / self.std
        return Sample(image, sample.mask.copy(), _copy(sample.instances), sample.name)


class Standardize:
    """Subtract each channel's own mean over the image and divide by its own standard deviation.

    For images whose exposures or stains differ, as those of several microscopes. A channel of a
    single value becomes zero.

    upright: negate an image of dark things on a bright ground, so that things are always bright. As
        things cover less than the ground, it is recognised by grey values that are skewed to the
        left (their third moment is negative).
    """

    def __init__(self, upright: bool = False) -> None:
        self.upright = upright

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        image = sample.image - sample.image.mean(axis=(0, 1))
        std = np.sqrt(np.square(image).mean(axis=(0, 1)))
        image /= np.maximum(std, _FAINT)
        if self.upright and (image.mean(axis=2) ** 3).sum() < 0:
            image = -image
        return Sample(image, sample.mask.copy(), _copy(sample.instances), sample.name)


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma, (H, W, 1), by the weights of ITU-R BT.601."""
    if image.shape[2] == 1:
        return image
    return image @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _mix(base: np.ndarray | np.floating, image: np.ndarray, factor: np.float32) -> np.ndarray:
    return np.clip(base + factor * (image - base), 0, 1)


def _hue_matrix(angle: float) -> np.ndarray:
    """RGB to RGB (3, 3): turns the plane of I and Q in YIQ, keeps Y."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return (np.linalg.inv(to_yiq) @ turn @ to_yiq).astype(np.float32)


def _copy(labels: np.ndarray | None) -> np.ndarray | None:
    return None if labels is None else labels.copy()
