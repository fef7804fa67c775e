"""The permutohedral lattice: Gaussian sums in d dimensions, almost for free.

The plain sum has N^2 terms. Here N values are spread onto the points of a lattice (splat), these
are mixed with their neighbours (blur), and N results are read off (slice). A grid of cubes would
do, but its cells have 2^d corners; the cells of this lattice are simplices, with d + 1 corners.

The lattice lies in the hyperplane H of R^(d+1) where coordinates sum to 0. The integer coordinates
of a point all have the same remainder modulo d + 1: its "colour", 0 to d. A simplex has one corner
of each colour. Which simplex a place x is in follows from rounding and sorting:

    the corner of colour 0:  round x's coordinates to multiples of d + 1; if they then sum to
                             s (d + 1) instead of 0, move the |s| coordinates that were rounded
                             furthest back by d + 1
    the rank of coordinate i: how many others have a larger difference x - corner
    the corner of colour k:  adds k to coordinates of rank 0 .. d - k, k - (d + 1) to the others
    the weights of corners:  the steps from one of the sorted differences to the next, over d + 1

Blurring along each of the d + 1 directions (1, .., 1, -d, 1, .., 1) with taps 1/4, 1/2, 1/4 gives,
splat and slice included, the variance 2 (d + 1)^2 / 3: so the features are scaled to match it.

Only few points of the lattice are stored: the corners of simplices with pixels in them, and the
points between two such corners. The paper stores the corners alone, and values that a blur would
pass through a missing point are lost. With both, labels of busy photos err by a third to a half
less.

Shapes: values (K, N), features (N, d) -> (K, N)
Source: Adams, Baek, Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
        sections 3.1 to 3.3
"""

import numpy as np

from minseg.parallel import parallel_for


class Permutohedral:
    """The lattice of given features, and the filter on it.

    Built once (sorting N (d + 1) corners), used for every plane of values. It takes 12 bytes per
    corner and 16 (d + 1) bytes per point; there are at most a few points for each corner. Raises
    ValueError where features lie too far apart for 63-bit keys of the points.
    """

    def __init__(self, features: np.ndarray) -> None:
        corners, weights, strides = simplices(features)
        steps = _steps(strides)
        points = _with_those_between(np.unique(corners), steps)
        self.index = np.searchsorted(points, corners)  # (d + 1, N): the point at each corner
        self.weights = weights.astype(np.float32)  # (d + 1, N)
        self.neighbours = [_neighbours(points, step) for step in steps]
        # Splat, blur and slice keep the sum of the values: they are a kernel whose integral is the
        # volume of a point's cell, sqrt(3/2)^d / sqrt(d + 1). The Gaussian's is sqrt(2 pi)^d.
        d = features.shape[1]
        self.scale = (4 * np.pi / 3) ** (d / 2) * (d + 1) ** 0.5

    def __call__(self, values: np.ndarray) -> np.ndarray:
        sums = np.empty_like(values)

        def one_plane(k: int) -> None:
            sums[k] = self._slice(self._blur(self._splat(values[k])))
            sums[k] *= self.scale

        parallel_for(one_plane, len(values))
        return sums

    def _splat(self, plane: np.ndarray) -> np.ndarray:
        """(N,) -> (M + 1,): each pixel's value goes to its d + 1 corners; the last is always 0."""
        spread = (self.weights * plane).ravel()
        sums = np.bincount(self.index.ravel(), spread, self.neighbours[0].shape[1] + 1)
        return sums.astype(plane.dtype)

    def _blur(self, points: np.ndarray) -> np.ndarray:
        quarter, half = points.dtype.type(0.25), points.dtype.type(0.5)
        for before, after in self.neighbours:
            mixed = points.take(before)
            mixed += points.take(after)
            mixed *= quarter
            mixed += half * points[:-1]
            points[:-1] = mixed
        return points

    def _slice(self, points: np.ndarray) -> np.ndarray:
        """(M + 1,) -> (N,): each pixel is read from its corners, with the weights of the splat."""
        plane = np.zeros(self.index.shape[1], points.dtype)
        for index, weight in zip(self.index, self.weights, strict=True):
            plane += weight * points.take(index)
        return plane


def simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The simplex that each pixel is in: its corners (d + 1, N), their weights, the strides.

    A corner is stored as its key, an integer: its first d coordinates (the last follows from them)
    times `strides`. Keys are linear: a step on the lattice adds the key of the step.
    """
    n, d = features.shape
    x = elevate(features)
    corner = np.rint(x / (d + 1)).astype(np.int64)  # in units of d + 1
    difference = x - (d + 1) * corner
    excess = corner.sum(axis=0)
    order = np.argsort(-difference, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[:, None], axis=0)

    # Where the coordinates sum to too much, the last in rank go down by one and become the first;
    # where to too little, the first go up and become the last.
    rank += excess
    move = (rank < 0).astype(np.int64) - (rank > d)
    corner += move
    rank += (d + 1) * move
    difference -= (d + 1) * move

    t = np.empty_like(difference)
    np.put_along_axis(t, rank, difference / (d + 1), axis=0)  # sorted, the largest first
    weights = np.empty_like(t)
    weights[0] = 1 + t[d] - t[0]
    weights[1:] = t[d - 1 :: -1] - t[d:0:-1]

    strides = _strides((d + 1) * corner[:d], d + 1)
    zero = strides @ ((d + 1) * corner[:d])
    keys = np.empty((d + 1, n), np.int64)
    for colour in range(d + 1):
        keys[colour] = zero + strides @ (colour - (d + 1) * (rank[:d] > d - colour))
    return keys, weights, strides


def elevate(features: np.ndarray) -> np.ndarray:
    """(N, d) -> (d + 1, N): into the hyperplane, scaled from variance 1 to 2 (d + 1)^2 / 3."""
    d = features.shape[1]
    basis = np.zeros((d + 1, d))  # orthonormal, and orthogonal to (1, .., 1)
    for k in range(d):
        basis[: k + 1, k], basis[k + 1, k] = 1, -(k + 1)
        basis[:, k] /= np.sqrt((k + 1) * (k + 2))
    return np.sqrt(2 / 3) * (d + 1) * (basis @ features.T.astype(np.float64))


def _strides(coordinates: np.ndarray, margin: int) -> np.ndarray:
    """The place values of a mixed-radix number, so that no two points share a key.

    The margin leaves room for the neighbours of the outermost points.
    """
    sides = [int(np.ptp(c)) + 1 + 4 * margin for c in coordinates]
    strides = [1]
    for side in sides:
        strides.append(strides[-1] * side)
    if strides[-1] >= 2**62:
        raise ValueError(
            f"permutohedral lattice: features span {' x '.join(map(str, sides))} points, more than "
            "keys can tell apart: a standard deviation is too small"
        )
    return np.array(strides[:-1])


def _steps(strides: np.ndarray) -> list[int]:
    """The keys of the d + 1 directions: (1, .., 1) with -d at one place, the last one left out."""
    d, ones = len(strides), int(strides.sum())
    return [ones - (d + 1) * int(stride) for stride in strides] + [ones]


def _with_those_between(points: np.ndarray, steps: list[int]) -> np.ndarray:
    """The points and those between two of them along a step, sorted."""
    around = np.concatenate([points + sign * step for step in steps for sign in (-1, 1)])
    others, count = np.unique(around, return_counts=True)
    return np.union1d(points, others[count >= 2])


def _neighbours(points: np.ndarray, step: int) -> np.ndarray:
    """For each point, the number of the one before and the one after, (2, M); M without one."""
    place = np.searchsorted(points, points + step)
    found = points.take(place, mode="clip") == points + step
    pair = np.full((2, len(points)), len(points))
    pair[1, found] = place[found]
    pair[0, place[found]] = np.flatnonzero(found)
    return pair
