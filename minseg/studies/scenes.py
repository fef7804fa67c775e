"""Scenes drawn for a claim: only the cue that it is about tells the classes apart.

Each is a data set like those of `minseg.data`: a sample depends on (seed, index) alone.
"""

import numpy as np
from PIL import Image, ImageDraw

from minseg.data import Dataset, Sample
from minseg.data.dataset import random_stream

_FINE = 4  # drawn at so many times the size


class _Scenes(Dataset):
    """`n` grey scenes of `size` (H, W)."""

    size = (64, 64)

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        index = range(self.n)[index]
        image, mask = self.draw(random_stream(self.seed, index))
        name = f"{type(self).__name__.lower()}-{self.seed}-{index}"
        return Sample(image[:, :, None].astype(np.float32), mask, None, name)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def ground(self, rng: np.random.Generator, noise: float) -> np.ndarray:
        """Uneven grey about 0.5 (H, W), with noise on each pixel."""
        coarse = rng.normal(0.5, 0.06, (5, 7)).astype(np.float32)
        picture = Image.fromarray(coarse).resize(self.size[::-1], Image.Resampling.BICUBIC)
        return np.asarray(picture) + rng.normal(0, noise, self.size)

    def canvas(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        canvas = Image.new("L", (_FINE * self.size[1], _FINE * self.size[0]))
        return canvas, ImageDraw.Draw(canvas)

    def share(self, canvas: Image.Image, label: int) -> np.ndarray:
        """Of each pixel, how much a label covers: (H, W), 0..1."""
        height, width = self.size
        drawn = np.asarray(canvas).reshape(height, _FINE, width, _FINE)
        return (drawn == label).mean(axis=(1, 3))

    def labels(self, canvas: Image.Image) -> np.ndarray:
        """What lies at each pixel's middle: (H, W) int64."""
        return np.asarray(canvas)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE].astype(np.int64)


class Wires(_Scenes):
    """Bright wires, one or two pixels wide, in front of large dark spots."""

    classes = ("ground", "spot", "wire")
    palette = np.array([[40, 44, 52], [42, 157, 143], [233, 196, 106]], np.uint8)
    size = (48, 64)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        canvas, pen = self.canvas()
        wide, high = canvas.size
        for _ in range(rng.integers(2, 4)):
            x, y, r = rng.uniform(0, wide), rng.uniform(0, high), rng.uniform(16, 32)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=1)
        for _ in range(rng.integers(3, 5)):
            turn = rng.uniform(0, np.pi)
            along = np.array([np.cos(turn), np.sin(turn)])
            t = np.linspace(-wide, wide, 60)[:, None]
            wave = rng.uniform(4, 20) * np.sin(rng.uniform(0, 6) + t / rng.uniform(16, 48))
            points = rng.uniform(0.1, 0.9, 2) * (wide, high) + t * along
            points = points + wave * along[::-1] * (-1, 1)
            pen.line([(x, y) for x, y in points.tolist()], fill=2, width=int(rng.integers(4, 9)))
        contrast = 0.15 * (self.share(canvas, 2) - self.share(canvas, 1))
        return self.ground(rng, 0.025) + contrast, self.labels(canvas)


class Specks(_Scenes):
    """Faint bright specks, about 1 % of the pixels, among equally bright blurs of background."""

    classes = ("ground", "speck")
    palette = np.array([[40, 44, 52], [233, 196, 106]], np.uint8)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        canvas, pen = self.canvas()
        wide, high = canvas.size
        for _ in range(3):
            x, y = rng.uniform(12, wide - 12), rng.uniform(12, high - 12)
            r = rng.uniform(6, 10)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=1)
        rows, columns = np.mgrid[: self.size[0], : self.size[1]]
        blurs = np.zeros(self.size)
        for _ in range(4):
            y, x = rng.uniform(0, self.size[0]), rng.uniform(0, self.size[1])
            blurs += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * rng.uniform(3, 5) ** 2))
        image = self.ground(rng, 0.08) + 0.2 * (self.share(canvas, 1) + blurs)
        return image, self.labels(canvas)


class Signs(_Scenes):
    """Discs that all look alike. Which kind they are is told far away: by a small sign.

    The sign, a square of 7x7 pixels, lighter or darker than the ground, stands near one side of the
    picture, the discs near the other; 30 pixels and more lie between.
    """

    classes = ("ground", "disc of a light sign", "disc of a dark sign")
    palette = np.array([[40, 44, 52], [42, 157, 143], [231, 111, 81]], np.uint8)
    size = (64, 80)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        canvas, pen = self.canvas()
        height, width = self.size
        for _ in range(3):
            r = rng.uniform(4, 7)
            y, x = rng.uniform(r, height - r), rng.uniform(52, width - r)
            pen.ellipse([_FINE * side for side in (x - r, y - r, x + r, y + r)], fill=1)
        image = self.ground(rng, 0.04) + 0.25 * self.share(canvas, 1)
        light = rng.random() < 0.5
        top, left = rng.integers(1, height - 8), rng.integers(1, 9)
        image[top : top + 7, left : left + 7] += 0.4 if light else -0.4
        mask = self.labels(canvas) * (1 if light else 2)
        if rng.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)
