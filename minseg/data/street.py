"""Street: rendered street scenes, by day and at dusk, with semantic and instance labels.

Stuff (sky, building, road, pavement, tree) and things (cars, pedestrians) that hide each other:
enough for semantic, instance and panoptic segmentation to differ, without a download.
"""

from itertools import pairwise

import numpy as np
from PIL import Image

from minseg.data import painter as paint
from minseg.data.dataset import Dataset, Sample, random_stream
from minseg.data.painter import Painter, ground, upright

Generator = np.random.Generator

_FAR = 130.0  # the street's far end, in metres
_STRETCHES = np.geomspace(paint.NEAR, _FAR, 16)  # the road in parts: haze grows with distance
# Standard deviation of the grain on each class: asphalt and leaves are rough, the sky is not.
_GRAIN = np.array([0.004, 0.015, 0.022, 0.02, 0.045, 0.008, 0.012])


class Street(Dataset):
    """`n` scenes, drawn from (seed, index).

    size: (H, W), at least (24, 32). light: "day", "dusk", or None to draw it (one in three is
    dusk). noise: standard deviation of the camera's noise.

    A pixel's labels say what its centre shows; the image is anti-aliased. Instances are numbered
    from the farthest to the nearest.
    """

    classes = ("sky", "building", "road", "pavement", "tree", "car", "pedestrian")
    palette = np.array(
        [[70, 130, 180], [96, 92, 98], [128, 64, 128], [244, 35, 232], [107, 142, 35],
         [0, 60, 190], [220, 20, 60]], np.uint8)  # fmt: skip
    things = ("car", "pedestrian")

    def __init__(
        self,
        n: int = 200,
        size: tuple[int, int] = (96, 128),
        seed: int = 0,
        light: str | None = None,
        noise: float = 0.015,
    ) -> None:
        if n < 0 or size[0] < 24 or size[1] < 32 or light not in (None, "day", "dusk"):
            raise ValueError(
                f"Street: got n={n}, size={size}, light={light!r}; "
                f"needs n >= 0, size >= (24, 32), light None, 'day' or 'dusk'"
            )
        self.n = n
        self.size = size
        self.seed = seed
        self.light = light
        self.noise = noise

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        index = range(self.n)[index]  # negative indices, and IndexError past the end
        generator = random_stream(self.seed, index)
        dusk = generator.random() < 1 / 3
        if self.light is not None:
            dusk = self.light == "dusk"
        painter = Painter(self.size, dusk, generator)
        _paint_sky(painter, generator)
        labels = _paint_street(painter, generator)  # the class of each code
        return self._develop(painter, labels, generator, f"street-{self.seed}-{index}")

    def _develop(
        self, painter: Painter, labels: np.ndarray, generator: np.random.Generator, name: str
    ) -> Sample:
        """From canvas to sample: average colours, pick labels, add grain and noise."""
        height, width = self.size
        scale = paint.SCALE
        blocks = np.asarray(painter.colours, np.float32).reshape(height, scale, width, scale, 3)
        image = blocks.mean(axis=(1, 3)) / 255
        codes = np.asarray(painter.codes)[scale // 2 :: scale, scale // 2 :: scale]
        mask = labels[codes]
        grain = _GRAIN[mask] * generator.normal(size=self.size)
        grain += 0.03 * _smooth(self.size, (8, 12), generator) * (mask != paint.SKY)
        image = image * (1 + 2 * grain[:, :, None])
        image += generator.normal(0, self.noise, image.shape)
        things = codes * (codes > paint.TREE)
        _, dense = np.unique(things, return_inverse=True)  # hidden objects leave no gap
        offset = 0 if (things == 0).any() else 1
        instances = (dense.reshape(self.size) + offset).astype(np.int32)
        return Sample(np.clip(image, 0, 1).astype(np.float32), mask, instances, name)


def _paint_sky(painter: Painter, generator: Generator) -> None:
    if painter.dusk:
        zenith = np.array([0.16, 0.18, 0.36])
        low = np.array([0.93, 0.55, 0.33]) * generator.uniform(0.85, 1.05)
        cloud = np.array([0.62, 0.38, 0.42])
    else:
        zenith = np.array([0.30, 0.52, 0.82]) * generator.uniform(0.85, 1.1)
        low, cloud = np.array([0.80, 0.88, 0.94]), np.array([0.97, 0.97, 0.97])
    size = (painter.height, painter.width)
    down = np.clip(np.arange(painter.height) / painter.horizon, 0, 1)[:, None, None]
    sky = zenith + (low - zenith) * down**1.5
    clouds = _smooth(size, (9, 5), generator) + 0.6 * _smooth(size, (30, 14), generator)
    cover = np.clip(clouds, 0, 0.8)
    sky = sky + (cloud - sky) * cover[:, :, None]
    painter.colours.paste(Image.fromarray((255 * np.clip(sky, 0, 1)).astype(np.uint8)))


def _smooth(size: tuple[int, int], cells: tuple[int, int], generator: Generator) -> np.ndarray:
    """A random field (H, W), about -1..1, that is smooth within each of (rows, columns) cells."""
    coarse = generator.normal(0, 0.5, cells).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def _paint_street(painter: Painter, generator: Generator) -> np.ndarray:
    """Everything but the sky, from far to near. Returns the class of each code, (codes,)."""
    kerb = generator.uniform(4.0, 5.6)  # half the road's width
    front = kerb + generator.uniform(2.4, 4.0)  # where the houses start
    _paint_far_end(painter, front, generator)
    for side in (-1, 1):
        _paint_row(painter, side * front, generator)
    _paint_ground(painter, kerb, front, generator)

    cars = _place_cars(kerb, generator)
    people = _place_people(kerb, front, generator)
    trees = _place_trees(kerb, generator)
    labels = [*range(5)]  # stuff: the code is the class
    for kind, x, z in sorted(cars + people + trees, key=lambda item: -item[2]):
        if kind == "tree":
            paint.paint_tree(painter, x, z, generator)
            continue
        code = len(labels)
        if kind == "pedestrian":
            paint.paint_person(painter, x, z, code, generator)
        else:
            paint.paint_car(painter, x, z, kind == "oncoming", code, generator)
        labels.append(Street.classes.index("pedestrian" if kind == "pedestrian" else "car"))
    return np.array(labels)


def _paint_far_end(painter: Painter, front: float, generator: Generator) -> None:
    """The end of the view: a wooded hill, and often a row of houses across the street."""
    green = np.array([0.30, 0.40, 0.28])
    for _ in range(24):
        x = generator.uniform(-100, 100)
        painter.disc((x, 0, _FAR), (14, generator.uniform(4, 13)), green, paint.TREE)
    if generator.random() < 0.6:
        x = -2 * front
        while x < 2 * front:
            wide = generator.uniform(7, 14)
            wall = generator.uniform(0.4, 0.75) + np.array([0.05, 0, -0.05])
            house = upright(x, _FAR, 0, wide, 0, generator.uniform(8, 22))
            painter.face(house, wall, paint.BUILDING)
            x += wide


def _paint_row(painter: Painter, x: float, generator: Generator) -> None:
    """The houses along one side, some of them apart."""
    plots = []
    z = generator.uniform(-8, 0)
    while z < _FAR:
        length = generator.uniform(9, 19)
        if z + length > paint.NEAR:
            plots.append((z, z + length))
        z += length + (generator.uniform(3, 9) if generator.random() < 0.25 else 0)
    for z0, z1 in reversed(plots):
        paint.paint_building(painter, x, z0, z1, generator)


def _paint_ground(
    painter: Painter, kerb: float, front: float, generator: np.random.Generator
) -> None:
    near = paint.NEAR
    stone = generator.uniform(0.52, 0.64) + np.array([0.02, 0.01, -0.01])
    asphalt = generator.uniform(0.27, 0.36) + np.array([0, 0, 0.012])
    white = np.array([0.86, 0.86, 0.83])
    for side in (-1, 1):
        painter.face(ground(side * kerb, side * (front + 40), near, _FAR), stone, paint.PAVEMENT)
        for z in np.arange(2.0, 40.0, 2.0):  # joints between the slabs
            joint = ground(side * kerb, side * front, z, z + 0.06)
            painter.face(joint, stone * 0.85, paint.PAVEMENT)
    for z0, z1 in pairwise(_STRETCHES):
        painter.face(ground(-kerb, kerb, z0, z1)[::-1], asphalt, paint.ROAD)
    for side in (-1, 1):
        edge = side * (kerb + 0.2)
        painter.face(ground(side * kerb, edge, near, _FAR), stone * 1.2, paint.PAVEMENT)
    for z in np.arange(generator.uniform(0, 6), 80, 6.0):
        painter.face(ground(-0.07, 0.07, z, z + 3), white, paint.ROAD)
    if generator.random() < 0.4:
        z = generator.uniform(7, 16)
        for x in np.arange(-kerb + 0.4, kerb - 0.5, 1.0):
            painter.face(ground(x, x + 0.5, z, z + 3), white, paint.ROAD)


# Objects to be placed: ("tail" | "oncoming" | "pedestrian" | "tree", x, z).
_Placed = list[tuple[str, float, float]]


def _place_cars(kerb: float, generator: Generator) -> _Placed:
    """Cars in both lanes and, on a wide road, at the kerb; enough gap that none collide."""
    lanes = [(0.5 * kerb, "tail", 0.75), (-0.5 * kerb, "oncoming", 0.75)]
    if kerb > 4.8:
        lanes = [(0.32 * kerb, "tail", 0.5), (-0.32 * kerb, "oncoming", 0.5),
                 (kerb - 1.05, "tail", 0.7), (1.05 - kerb, "oncoming", 0.7)]  # fmt: skip
    cars: _Placed = []
    for x, kind, crowd in lanes:
        z = generator.uniform(4.5, 13)
        while z < 38:
            if generator.random() < crowd:
                cars.append((kind, x + generator.uniform(-0.25, 0.25), z))
            z += generator.uniform(6, 15)
    return cars


def _place_people(kerb: float, front: float, generator: Generator) -> _Placed:
    people: _Placed = []
    for _ in range(generator.integers(2, 8)):
        z = float(5 + 20 * generator.random() ** 1.5)
        x = float(generator.uniform(kerb + 0.5, front - 0.4) * generator.choice([-1, 1]))
        if generator.random() < 0.2:
            x = generator.uniform(-kerb, kerb)  # crosses the road
        people.append(("pedestrian", x, z))
        if generator.random() < 0.35:  # with company
            people.append(("pedestrian", x + generator.uniform(0.4, 0.6), z + 0.2))
    return people


def _place_trees(kerb: float, generator: Generator) -> _Placed:
    trees: _Placed = []
    for side in (-1, 1):
        if generator.random() < 0.75:
            first, step = generator.uniform(7, 14), generator.uniform(8, 15)
            for z in np.arange(first, 75, step):
                x = side * (kerb + generator.uniform(0.7, 1.0))
                trees.append(("tree", float(x), float(z + generator.uniform(-1, 1))))
    return trees
