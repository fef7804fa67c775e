"""The painter of street scenes: a pinhole camera, light and haze, and the things along a street.

World coordinates are metres: x to the right of the road's middle, y up from the ground, z away
from the camera. Scenes are painted from far to near, so nearer things hide those behind.

Everything is painted twice, at `SCALE` times the image's size: colours on one canvas, codes (which
object is it?) on the other. The mean of each block of colours gives a smooth image; the middle of
each block of codes gives the label of each pixel's centre.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

SCALE = 3  # odd, so that a block has a middle
NEAR = 0.7  # anything nearer to the camera than this is cut off
CAMERA_HEIGHT = 1.5

SKY, BUILDING, ROAD, PAVEMENT, TREE = range(5)  # codes of the stuff; things count on from 5

Points = list[tuple[float, float, float]]
Colour = np.ndarray | list[float]  # red, green, blue in 0..1
_Generator = np.random.Generator


class Painter:
    """size: (H, W) of the image to be. dusk: the sun is down, windows and lamps are lit."""

    def __init__(self, size: tuple[int, int], dusk: bool, generator: _Generator) -> None:
        self.height, self.width = SCALE * size[0], SCALE * size[1]
        self.dusk = dusk
        self.focal: float = generator.uniform(0.65, 0.85) * max(self.width, self.height)
        self.horizon = generator.uniform(0.42, 0.52) * self.height
        self.middle = generator.uniform(0.4, 0.6) * self.width  # the column straight ahead
        self.camera_x = generator.uniform(-1.5, 1.5)
        light = (0.52, 0.46, 0.58) if dusk else (1.0, 0.98, 0.94)
        strength = generator.uniform(0.85, 1.08)
        self.light = tuple(strength * channel for channel in light)
        self.haze = (0.62, 0.47, 0.46) if dusk else (0.80, 0.85, 0.90)
        self.sunny_side = int(generator.choice([-1, 1]))
        self.colours = Image.new("RGB", (self.width, self.height))
        self.codes = Image.new("L", (self.width, self.height))
        self._colour_pen = ImageDraw.Draw(self.colours)
        self._code_pen = ImageDraw.Draw(self.codes)

    def project(self, points: Points) -> list[tuple[float, float]]:
        """World points to (column, row) on the canvas. Plain floats: the polygons are small."""
        scaled = [(x, y, self.focal / max(z, NEAR)) for x, y, z in points]
        return [
            (self.middle + scale * (x - self.camera_x), self.horizon + scale * (CAMERA_HEIGHT - y))
            for x, y, scale in scaled
        ]

    def face(self, points: Points, colour: Colour, code: int, lamp: bool = False) -> None:
        """A flat polygon, given by its corners. A lamp shines as bright at dusk as by day."""
        corners = self.project(points)
        self._colour_pen.polygon(corners, fill=self._shaded(colour, points[0][2], lamp))
        self._code_pen.polygon(corners, fill=code)

    def disc(self, centre: tuple, radii: tuple, colour: Colour, code: int) -> None:
        """An ellipse that faces the camera; radii: horizontal and vertical, in metres."""
        x, y, z = centre
        box = [(x - radii[0], y + radii[1], z), (x + radii[0], y - radii[1], z)]
        corners = self.project(box)
        self._colour_pen.ellipse(corners, fill=self._shaded(colour, z, False))
        self._code_pen.ellipse(corners, fill=code)

    def _shaded(self, colour: Colour, z: float, lamp: bool) -> tuple[int, ...]:
        clear = math.exp(-max(z, NEAR) / 110)  # share of light that the haze lets through
        light = (1.0, 1.0, 1.0) if lamp else self.light
        seen = [
            clear * float(c) * k + (1 - clear) * h
            for c, k, h in zip(colour, light, self.haze, strict=True)
        ]
        return tuple(int(255 * min(max(value, 0.0), 1.0)) for value in seen)


def upright(x: float, z: float, left: float, right: float, low: float, high: float) -> Points:
    """The corners of a rectangle that faces the camera, around x."""
    return [(x + left, low, z), (x + right, low, z), (x + right, high, z), (x + left, high, z)]


def along(x: float, z0: float, z1: float, low: float, high: float) -> Points:
    """The corners of an upright rectangle that runs along the street, from z0 to z1."""
    return [(x, low, z0), (x, low, z1), (x, high, z1), (x, high, z0)]


def ground(x0: float, x1: float, z0: float, z1: float) -> Points:
    """The corners of a rectangle on the ground."""
    return [(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)]


def paint_building(painter: Painter, x: float, z0: float, z1: float, generator: _Generator) -> None:
    """A house whose front stands at x along the pavement, from z0 to z1."""
    side = math.copysign(1, x)
    floors = int(generator.integers(2, 7))
    floor_height = generator.uniform(2.9, 3.4)
    top = floors * floor_height + 0.8
    warm = generator.uniform(-0.07, 0.12)
    wall = generator.uniform(0.38, 0.82) + np.array([warm, 0.2 * warm, -warm])
    if generator.random() < 0.25:
        wall = np.array([0.58, 0.33, 0.27]) * generator.uniform(0.8, 1.15)  # brick
    front = wall * (1.0 if side != painter.sunny_side else 0.78)
    z0 = max(z0, NEAR)

    painter.face(upright(x, z0, 0, 9 * side, 0, top), wall * 0.68, BUILDING)  # end wall
    painter.face(along(x, z0, z1, 0, top), front, BUILDING)
    painter.face(along(x, z0, z1, top - 0.5, top), front * 0.7, BUILDING)  # cornice
    painter.face(along(x, z0, z1, 0, 0.5), front * 0.6, BUILDING)  # base
    glass = np.array([0.25, 0.32, 0.40]) * generator.uniform(0.7, 1.2)
    lit_share = generator.uniform(0.2, 0.7) if painter.dusk else 0.0
    shop = generator.random() < 0.5
    awning = generator.uniform(0.15, 0.7, 3)
    columns = max(1, int((z1 - z0) / generator.uniform(2.3, 3.2)))
    pitch = (z1 - z0) / columns
    starts = z0 + pitch * np.arange(columns)
    lights = generator.random((floors, columns)) < lit_share
    lamp = np.array([1.0, 0.82, 0.45]) * generator.uniform(0.75, 1.0)
    for floor in range(floors):
        low, high = floor * floor_height + 1.0, floor * floor_height + 2.7
        margin = 0.28 * pitch
        if floor == 0 and shop:
            low, high, margin = 0.5, 2.6, 0.08 * pitch
        for start, lit in zip(starts, lights[floor], strict=True):
            window = along(x, start + margin, start + pitch - margin, low, high)
            painter.face(window, lamp if lit else glass, BUILDING, lit)
    if shop:
        reach = x - 1.1 * side
        roof = [(x, 3.1, z0), (x, 3.1, z1), (reach, 2.7, z1), (reach, 2.7, z0)]
        painter.face(roof, awning, BUILDING)
        painter.face(along(reach, z0, z1, 2.45, 2.7), awning * 0.8, BUILDING)


def paint_tree(painter: Painter, x: float, z: float, generator: _Generator) -> None:
    crown = generator.uniform(1.1, 1.9)
    height = generator.uniform(3.4, 4.6)
    bark = np.array([0.33, 0.25, 0.18])
    green = np.array([0.25, 0.42, 0.16]) * generator.uniform(0.75, 1.15)
    green = green + np.array([generator.uniform(-0.03, 0.12), 0, 0])  # towards autumn
    painter.face(upright(x, z, -0.16, 0.16, 0, height), bark, TREE)
    for _ in range(26):  # leaves: dark below, light above and towards the sun
        angle, distance = generator.uniform(0, 2 * np.pi), np.sqrt(generator.random())
        dx, dy = crown * distance * np.cos(angle), 1.15 * crown * distance * np.sin(angle)
        shade = 0.85 + 0.22 * dy / crown - 0.12 * painter.sunny_side * dx / crown
        leaf = (generator.uniform(0.35, 0.55) * crown, generator.uniform(0.3, 0.45) * crown)
        painter.disc((x + dx, height + 0.6 * crown + dy, z), leaf, green * shade, TREE)


def paint_car(
    painter: Painter, x: float, z: float, oncoming: bool, code: int, generator: _Generator
) -> None:
    """A car whose nearer end is at z: its tail, or its front if it is oncoming."""
    half, length = generator.uniform(0.84, 0.95), generator.uniform(3.8, 4.7)
    waist, top = generator.uniform(0.8, 0.95), generator.uniform(1.38, 1.65)
    paint = _car_paint(generator)
    glass, tyre = np.array([0.14, 0.17, 0.21]), np.array([0.07, 0.07, 0.08])
    hood = 1.1 if oncoming else 0.45  # from the near end to the cabin
    side = x - half if x > painter.camera_x else x + half  # the side that the camera sees
    inner = side + 0.14 * math.copysign(1, x - side)  # the cabin leans inwards
    far = z + length

    painter.face(ground(x - half - 0.1, x + half + 0.1, z - 0.15, far), [0.12, 0.12, 0.13], ROAD)
    painter.face(along(side, z, far, 0.3, waist), paint * 0.8, code)
    cabin = [(side, waist, z + hood), (side, waist, far - 0.7), (inner, top, far - 1.4),
             (inner, top, z + hood + 0.5)]  # fmt: skip
    painter.face(cabin, glass, code)
    for axle in (z + 0.8, far - 0.8):
        turn = np.linspace(0, 2 * np.pi, 14)
        for radius, colour in ((0.33, tyre), (0.17, np.array([0.5, 0.5, 0.52]))):
            rim = [(side, 0.33 + radius * np.sin(a), axle + radius * np.cos(a)) for a in turn]
            painter.face(rim, colour, code)

    for wheel in (-half, half - 0.24):
        painter.face(upright(x, z + 0.1, wheel, wheel + 0.24, 0, 0.4), tyre, code)
    near, back = z + hood, z + hood + 0.5
    deck = [(x - half, waist, z), (x + half, waist, z), (x + half, waist, near),
            (x - half, waist, near)]  # fmt: skip
    screen = [(x - half, waist, near), (x + half, waist, near),
              (x + half - 0.14, top, back), (x - half + 0.14, top, back)]  # fmt: skip
    painter.face(screen, paint, code)
    pane = [(px + 0.1 * math.copysign(1, x - px), py + (0.06 if py < top else -0.1), pz)
            for px, py, pz in screen]  # fmt: skip
    painter.face(pane, glass, code)
    painter.face(deck, paint * 1.05, code)
    painter.face(upright(x, z, -half, half, 0.28, waist), paint, code)
    painter.face(upright(x, z, -half, half, 0.28, 0.42), paint * 0.45, code)  # bumper
    painter.face(upright(x, z, -0.26, 0.26, 0.44, 0.56), [0.85, 0.85, 0.8], code)  # plate
    lamp = np.array([1.0, 0.96, 0.82]) if oncoming else np.array([0.85, 0.08, 0.06])
    for left in (-half + 0.06, half - 0.36):
        lights = upright(x, z, left, left + 0.3, waist - 0.24, waist - 0.08)
        painter.face(lights, lamp, code, lamp=painter.dusk)


def _car_paint(generator: _Generator) -> np.ndarray:
    if generator.random() < 0.5:  # white to black
        return np.full(3, generator.choice([0.9, 0.72, 0.45, 0.2])) + generator.uniform(
            -0.03, 0.03, 3
        )
    return generator.permutation([generator.uniform(0.5, 0.8), generator.uniform(0.1, 0.3), 0.15])


def paint_person(painter: Painter, x: float, z: float, code: int, generator: _Generator) -> None:
    size = generator.uniform(0.88, 1.06)  # 1: 1.75 m tall
    stride = generator.uniform(0.04, 0.24)
    coat, trousers = generator.uniform(0.12, 0.85, 3), generator.uniform(0.08, 0.4, 3)
    skin = np.array([0.86, 0.66, 0.53]) * generator.uniform(0.45, 1.05)
    hair = np.array([0.3, 0.22, 0.15]) * generator.uniform(0.2, 1.6)

    def part(points: list[tuple[float, float]], colour: np.ndarray) -> None:
        painter.face([(x + size * px, size * py, z) for px, py in points], colour, code)

    for foot, shade in ((-stride, 0.8), (stride, 1.0)):
        part([(-0.1, 0.9), (0.1, 0.9), (foot + 0.08, 0.05), (foot - 0.08, 0.05)], trousers * shade)
        part([(foot - 0.09, 0.08), (foot + 0.13, 0.08), (foot + 0.13, 0), (foot - 0.09, 0)],
             np.full(3, 0.1))  # fmt: skip
    for hand in (-0.22 - stride, 0.22 + stride):
        shoulder = 0.19 * math.copysign(1, hand)
        part([(shoulder - 0.06, 1.42), (shoulder + 0.06, 1.42), (hand + 0.05, 0.85),
              (hand - 0.05, 0.85)], coat * 0.8)  # fmt: skip
    part([(-0.15, 0.82), (0.15, 0.82), (0.24, 1.38), (0.12, 1.47), (-0.12, 1.47), (-0.24, 1.38)],
         coat)  # fmt: skip
    part([(-0.05, 1.45), (0.05, 1.45), (0.05, 1.55), (-0.05, 1.55)], skin * 0.85)
    painter.disc((x, size * 1.63, z), (size * 0.105, size * 0.135), skin, code)
    painter.disc((x, size * 1.69, z), (size * 0.11, size * 0.085), hair, code)
