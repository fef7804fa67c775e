"""Shapes: circles, rectangles and triangles on a noisy, patterned background.

The simplest data that a segmentation network can learn something from: classes differ only in
outline, as all of them draw their colours and patterns from the same distributions.
"""

from collections.abc import Callable

import numpy as np

from minseg.data.dataset import Dataset, Sample, random_stream

# A shape is its signed distance: negative inside, in pixels, at every (x, y).
_Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Shapes(Dataset):
    """`n` images with up to `most` shapes, drawn from (seed, index).

    size: (H, W), at least (16, 16). most: objects in an image, at most; at least one is drawn.
    noise: standard deviation of the noise on each pixel.

    Later objects hide earlier ones. A pixel belongs to the object that covers its centre; the
    image shows edges anti-aliased.
    """

    classes = ("background", "circle", "rectangle", "triangle")
    palette = np.array([[40, 44, 52], [231, 111, 81], [42, 157, 143], [233, 196, 106]], np.uint8)
    things = ("circle", "rectangle", "triangle")

    def __init__(
        self,
        n: int = 200,
        size: tuple[int, int] = (64, 64),
        seed: int = 0,
        most: int = 5,
        noise: float = 0.03,
    ) -> None:
        if n < 0 or most < 1 or min(size) < 16:
            raise ValueError(
                f"Shapes: got n={n}, size={size}, most={most}; needs n >= 0, sides >= 16, most >= 1"
            )
        self.n = n
        self.size = size
        self.seed = seed
        self.most = most
        self.noise = noise

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        index = range(self.n)[index]  # negative indices, and IndexError past the end
        generator = random_stream(self.seed, index)
        height, width = self.size
        y, x = np.mgrid[:height, :width] + 0.5  # pixel centres
        colours = [generator.uniform(0.1, 0.9, 3)]
        image = _pattern(colours[0], x, y, generator)
        mask = np.zeros(self.size, np.int64)
        instances = np.zeros(self.size, np.int32)

        count = 0
        for _ in range(generator.integers(1, self.most, endpoint=True)):
            label = int(generator.integers(1, len(self.classes)))
            distance = _random_shape(label, self.size, generator)(x, y)
            colours.append(_distinct(colours, generator))
            surface = _pattern(colours[-1], x, y, generator)
            inside = distance < 0
            if _hides_much(inside, instances):
                continue  # only now, so that the random numbers that follow stay the same
            cover = np.clip(0.5 - distance, 0, 1)[:, :, None]  # about the share that is covered
            image = cover * surface + (1 - cover) * image
            count += 1
            mask[inside] = label
            instances[inside] = count

        image += generator.normal(0, self.noise, image.shape)
        return Sample(
            np.clip(image, 0, 1).astype(np.float32), mask, instances, f"shapes-{self.seed}-{index}"
        )


def _random_shape(label: int, size: tuple[int, int], generator: np.random.Generator) -> _Distance:
    height, width = size
    radius = generator.uniform(0.12, 0.28) * min(size)
    # The whole circle around the shape lies in the image, where the radius allows it.
    cx = generator.uniform(radius, width - radius)
    cy = generator.uniform(radius, height - radius)
    turn = generator.uniform(0, 2 * np.pi)
    aspect = generator.uniform(0.25, 0.65)
    if label == 1:
        return lambda x, y: np.hypot(x - cx, y - cy) - 0.85 * radius
    if label == 2:  # corners on the circle
        corners = np.array([aspect, np.pi - aspect, np.pi + aspect, -aspect])
    else:  # a triangle whose corners lie 120 degrees apart, about
        corners = 2 * np.pi / 3 * np.arange(3) + generator.uniform(-0.3, 0.3, 3)
    px = cx + radius * np.cos(corners + turn)
    py = cy + radius * np.sin(corners + turn)
    return lambda x, y: _convex_distance(px, py, x, y)


def _convex_distance(
    px: np.ndarray, py: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:  # (H, W)
    """Distance to the nearest edge's line, negative inside; the corners run counter-clockwise."""
    edges = []
    for i in range(len(px)):
        ex, ey = px[i] - px[i - 1], py[i] - py[i - 1]
        edges.append(((x - px[i]) * ey - (y - py[i]) * ex) / np.hypot(ex, ey))
    return np.max(edges, axis=0)


def _distinct(others: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """A colour that differs from the others even under patterns and noise.

    The first of 64 that is 0.35 away from each of them in some channel, else the farthest one.
    """
    colours = generator.uniform(0.05, 0.95, (64, 3))
    gaps = np.abs(colours[:, None] - np.array(others)).max(axis=2).min(axis=1)  # (64,)
    return colours[np.argmax(np.minimum(gaps, 0.35))]


def _pattern(
    colour: np.ndarray, x: np.ndarray, y: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(H, W, 3): the colour under a gradient and stripes, checks or dots."""
    height, width = x.shape
    angle = generator.uniform(0, np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    wave = 2 * np.pi / generator.uniform(4, 12)
    kind = generator.integers(4)
    if kind == 0:
        texture = np.zeros_like(x)
    elif kind == 1:
        texture = np.sin(wave * along)
    elif kind == 2:
        texture = np.sign(np.sin(wave * along) * np.sin(wave * across))
    else:
        texture = np.sin(wave * along) * np.sin(wave * across)
    gradient = (along - along.mean()) / (height + width)
    return colour + (0.08 * texture + generator.uniform(-0.2, 0.2) * gradient)[:, :, None]


def _hides_much(inside: np.ndarray, instances: np.ndarray) -> bool:
    """Would the new object hide more than a third of another one?"""
    before = np.bincount(instances.ravel())
    taken = np.bincount(instances[inside], minlength=len(before))
    return bool((taken[1:] > before[1:] / 3).any())
