"""Augmentation: what happens to an image happens to its mask and instances.

A transform is called as transform(sample, generator) and returns a new sample; the given one stays
unchanged. Images are interpolated bilinearly, labels by nearest neighbour. Places outside the image
are black in the image, 255 (void) in the mask and 0 in the instances.
"""

from collections.abc import Callable

import numpy as np

from minseg.data.dataset import IGNORE_INDEX, Sample

Transform = Callable[[Sample, np.random.Generator], Sample]


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: list[Transform]) -> None:
        self.transforms = transforms

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, generator)
        return sample


class Flip:
    """Mirror left to right, and top to bottom, each with its probability."""

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        _need(0 <= horizontal <= 1 and 0 <= vertical <= 1, "Flip: probabilities lie in 0..1")
        self.horizontal = horizontal
        self.vertical = vertical

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        flip_columns, flip_rows = generator.random(2) < np.array([self.horizontal, self.vertical])
        window = (slice(None, None, -1 if flip_rows else 1),
                  slice(None, None, -1 if flip_columns else 1))  # fmt: skip
        return _each(sample, lambda array, outside: array[window].copy())


class RandomRotate90:
    """Turn by 0, 90, 180 or 270 degrees, with equal probability; no pixel is interpolated."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        turns = int(generator.integers(4))
        return _each(sample, lambda array, outside: np.rot90(array, turns).copy())


class RandomCrop:
    """Cut out (H, W) at a random place. A smaller image is padded, at a random place too."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = _size("RandomCrop", size)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        slack = np.subtract(sample.image.shape[:2], self.size)  # negative where it must be padded
        top, left = generator.integers(np.minimum(slack, 0), np.maximum(slack, 0), endpoint=True)
        return crop(sample, int(top), int(left), self.size)


class Pad:
    """Pad to at least (H, W), the image in the middle; larger sides stay."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = _size("Pad", size)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        height, width = np.maximum(sample.image.shape[:2], self.size).tolist()
        top = (sample.image.shape[0] - height) // 2
        left = (sample.image.shape[1] - width) // 2
        return crop(sample, top, left, (height, width))


class Mirror:
    """A frame around the image that mirrors it, `rows` high above and below, `columns` wide."""

    def __init__(self, rows: int, columns: int) -> None:
        _need(min(rows, columns) >= 0, f"Mirror: got {rows}, {columns}, needs at least 0")
        self.frame = ((rows, rows), (columns, columns))

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        def framed(array: np.ndarray, outside: float) -> np.ndarray:
            return np.pad(array, (*self.frame, (0, 0))[: array.ndim], mode="reflect")

        return _each(sample, framed)


class Resize:
    """Scale to (H, W)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = _size("Resize", size)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        return resize(sample, self.size)


class RandomScale:
    """Scale both sides by a factor in low..high, whose logarithm is uniform: 1/2 as often as 2."""

    def __init__(self, low: float = 0.5, high: float = 2.0) -> None:
        _need(0 < low <= high, f"RandomScale: got {low}..{high}, needs 0 < low <= high")
        self.low = low
        self.high = high

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        factor = np.exp(generator.uniform(np.log(self.low), np.log(self.high)))
        height, width = (max(1, round(side * factor)) for side in sample.image.shape[:2])
        return resize(sample, (height, width))


class Rotate:
    """Turn about the image's middle, by an angle uniform in -degrees..degrees; the size stays."""

    def __init__(self, degrees: float = 10.0) -> None:
        self.degrees = degrees

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        angle = np.deg2rad(generator.uniform(-self.degrees, self.degrees))
        height, width = sample.image.shape[:2]
        y = np.arange(height)[:, None] - (height - 1) / 2
        x = np.arange(width)[None, :] - (width - 1) / 2
        # Where does the pixel at (y, x) come from? From itself, turned back. Rows run downwards,
        # so a positive angle turns the image counter-clockwise.
        from_y = np.sin(angle) * x + np.cos(angle) * y + (height - 1) / 2
        from_x = np.cos(angle) * x - np.sin(angle) * y + (width - 1) / 2
        return warp(sample, from_y, from_x)


def crop(sample: Sample, top: int, left: int, size: tuple[int, int]) -> Sample:
    """The window of `size` (H, W) whose first pixel is (top, left); it may reach outside."""

    def cut(array: np.ndarray, outside: float) -> np.ndarray:
        window = np.full((*size, *array.shape[2:]), outside, array.dtype)
        y0, x0 = max(top, 0), max(left, 0)
        part = array[y0 : max(top + size[0], 0), x0 : max(left + size[1], 0)]
        window[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
        return window

    return _each(sample, cut)


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Scaled to `size` (H, W), with pixel centres at half-integers (align_corners=False)."""
    from_y, from_x = (
        np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)  # never outside
        for new, old in zip(size, sample.image.shape[:2], strict=True)
    )
    return warp(sample, from_y[:, None], from_x[None, :])


def warp(sample: Sample, from_y: np.ndarray, from_x: np.ndarray) -> Sample:
    """The sample whose pixel (y, x) comes from (from_y[y, x], from_x[y, x]) of the given one.

    from_y and from_x broadcast to the new (H, W). Pixel (0, 0) covers -0.5..0.5 in both; places
    within half a pixel of the border take the border's colour, others come from outside.
    """
    height, width = sample.image.shape[:2]
    inside = (from_y >= -0.5) & (from_y <= height - 0.5)
    inside = inside & (from_x >= -0.5) & (from_x <= width - 0.5)
    from_y, from_x = np.clip(from_y, 0, height - 1), np.clip(from_x, 0, width - 1)

    # One plane at a time, by indices into the flattened plane: NumPy's fastest way to gather.
    y0, x0 = from_y.astype(int), from_x.astype(int)
    right = np.where(x0 < width - 1, 1, 0)
    down = np.where(y0 < height - 1, width, 0)
    corner = y0 * width + x0
    wy, wx = (from_y - y0).astype(np.float32), (from_x - x0).astype(np.float32)
    bilinear = np.empty((*corner.shape, sample.image.shape[2]), sample.image.dtype)
    for channel in range(sample.image.shape[2]):
        plane = sample.image[:, :, channel].copy()
        above = (1 - wx) * plane.take(corner) + wx * plane.take(corner + right)
        below = (1 - wx) * plane.take(corner + down) + wx * plane.take(corner + down + right)
        bilinear[:, :, channel] = ((1 - wy) * above + wy * below) * inside

    nearest = np.floor(from_y + 0.5).astype(int) * width + np.floor(from_x + 0.5).astype(int)

    def pick(array: np.ndarray, outside: int) -> np.ndarray:
        return np.where(inside, array.take(nearest), array.dtype.type(outside))

    return Sample(
        bilinear,
        pick(_fitting(sample).mask, IGNORE_INDEX),
        None if sample.instances is None else pick(sample.instances, 0),
        sample.name,
    )


def _each(sample: Sample, change: Callable[[np.ndarray, float], np.ndarray]) -> Sample:
    """`change(array, what lies outside)` of the image, the mask and the instances."""
    instances = _fitting(sample).instances
    return Sample(
        change(sample.image, 0.0),
        change(sample.mask, IGNORE_INDEX),
        None if instances is None else change(instances, 0),
        sample.name,
    )


def _fitting(sample: Sample) -> Sample:
    """The sample itself. Raises ValueError if mask and image differ in size."""
    for labels in (sample.mask, sample.instances):
        if labels is not None and labels.shape != sample.image.shape[:2]:
            raise ValueError(
                f"transform: sample {sample.name!r} has an image of {sample.image.shape[:2]} and "
                f"labels of {labels.shape}, needs one size"
            )
    return sample


def _size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    _need(len(size) == 2 and min(size) > 0, f"{name}: size: got {size}, needs (H, W), both > 0")
    return size


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
