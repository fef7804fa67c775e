"""The fully connected CRF and its inference by mean field.

A network's scores are smooth, and its borders miss those of the image. The CRF says how probable a
whole labelling is. Each pixel costs the more, the less the network believes in its label (unary).
Each *pair* of pixels with different labels costs the more, the nearer they are in place, and in
place and colour (pairwise). Every pixel is tied to every other: so thin parts survive, which ties
to the nearest neighbours alone would smooth away.

    E(x)      = sum_i U(x_i) + sum_{i<j} [x_i != x_j] k(f_i, f_j)      Potts; section 2, eq. 1 to 3
    k         = w1 exp(-|p_i - p_j|^2 / 2 alpha^2 - |I_i - I_j|^2 / 2 beta^2)         "bilateral"
              + w2 exp(-|p_i - p_j|^2 / 2 gamma^2)                                    "position"
    Q_i(l)    ~ exp(-U_i(l) + sum_j k(f_i, f_j) Q_j(l))                algorithm 1, repeated

The best labelling cannot be computed; mean field finds the independent Q_i that come nearest. Two
things differ from the paper, as in pydensecrf, which everybody uses. Each Gaussian is normalised on
both sides, k_ij / sqrt(n_i n_j) with n_i = sum_j k_ij, so that weights mean the same at the border,
in flat regions and in busy ones. And a pixel is among its own neighbours.

Source: Kraehenbuehl, Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials", arXiv:1210.5644. Default weights and deviations: DeepLab v2's.
"""

from collections.abc import Callable

import numpy as np

from minseg.array import FLOATS
from minseg.crf.exact import ExactFilter, blur
from minseg.crf.permutohedral import Permutohedral

EXACT_PIXELS = 2**12  # with so many, the exact sums of ten iterations take about a second
ITERATIONS = 10
LEAST = 1e-5  # the least probability of a class, so that its energy is finite
NOISE = 1.0  # how far beyond 0..1 noise may take a colour
FURTHEST = 1e5  # deviations between two pixels: the rounding error of larger squares would matter

METHODS: dict[str, Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "exact": ExactFilter,
    "lattice": Permutohedral,
}


def dense_crf(
    probabilities: np.ndarray,
    image: np.ndarray,
    *,
    iterations: int = ITERATIONS,
    bi_w: float = 4.0,
    bi_xy: float = 67.0,
    bi_rgb: float = 3.0,
    pos_w: float = 3.0,
    pos_xy: float = 1.0,
    method: str = "auto",
    on_iteration: Callable[[], None] | None = None,
) -> np.ndarray:
    """The marginals Q of a fully connected CRF over a network's probabilities.

    Args:
        probabilities: (K, H, W), float32 or float64; the unary energy is -log of them.
        image: (H, W, C): floats in 0..1 (noise may go beyond, by 1 at most), or uint8.
        bi_w, bi_xy, bi_rgb: w1, alpha (pixels) and beta (colour levels, 0..255) of the bilateral
            kernel.
        pos_w, pos_xy: w2 and gamma (pixels) of the position kernel.
        method: how the bilateral sums are computed: "exact", "lattice", or "auto": exact up to 4096
            pixels. Those of the position kernel are always exact.
        on_iteration: called after each iteration.

    Returns Q (K, H, W), of the probabilities' dtype. Raises ValueError and TypeError for shapes,
    dtypes and values that do not fit.
    """
    _check(probabilities, image)
    _check_kernels(image, {"bi_w": bi_w, "pos_w": pos_w}, bi_xy, bi_rgb, pos_xy)
    if method not in ("auto", *METHODS):
        raise ValueError(f"dense_crf: method is {method!r}, needs auto, {', '.join(METHODS)}")
    if method == "auto":
        method = "exact" if image[..., 0].size <= EXACT_PIXELS else "lattice"
    shape, dtype = probabilities.shape, probabilities.dtype
    bilateral = METHODS[method](bilateral_features(image, bi_xy, bi_rgb))

    def near(planes: np.ndarray) -> np.ndarray:
        return blur(planes, pos_xy)

    def alike(planes: np.ndarray) -> np.ndarray:
        return bilateral(planes.reshape(len(planes), -1)).reshape(planes.shape)

    ones = np.ones((1, *shape[1:]), dtype)
    kernels = [(w, k, k(ones) ** -0.5) for w, k in ((pos_w, near), (bi_w, alike)) if w]

    negative_energy = np.log(probabilities.clip(LEAST, 1))
    q = _softmax(negative_energy)
    for _ in range(iterations):
        exponent = negative_energy.copy()
        for weight, kernel, scale in kernels:
            exponent += dtype.type(weight) * scale * kernel(scale * q)
        q = _softmax(exponent)
        if on_iteration is not None:
            on_iteration()
    return q


def bilateral_features(image: np.ndarray, sigma_xy: float, sigma_rgb: float) -> np.ndarray:
    """Place and colour of each pixel in units of their deviations: (H, W, C) -> (H W, 2 + C)."""
    levels = image if image.dtype == np.uint8 else 255.0 * image
    rows, columns = np.indices(image.shape[:2])
    place = np.stack([rows, columns], axis=2) / sigma_xy
    return np.concatenate([place, levels / sigma_rgb], axis=2).reshape(rows.size, -1)


def _softmax(exponent: np.ndarray) -> np.ndarray:
    e = np.exp(exponent - exponent.max(axis=0))
    return e / e.sum(axis=0)


def _check(probabilities: np.ndarray, image: np.ndarray) -> None:
    if probabilities.dtype not in FLOATS:
        raise TypeError(
            f"dense_crf: probabilities is {probabilities.dtype}, needs float32 or float64"
        )
    if image.dtype != np.uint8 and image.dtype not in FLOATS:
        raise TypeError(f"dense_crf: image is {image.dtype}, needs floats in 0..1 or uint8")
    fit = probabilities.ndim == image.ndim == 3 and probabilities.shape[1:] == image.shape[:2]
    if not fit or 0 in (probabilities.size, image.size):
        raise ValueError(
            f"dense_crf: probabilities {probabilities.shape} and image {image.shape}, needs "
            "(K, H, W) and (H, W, C) of one size, not empty"
        )
    for name, array in (("probabilities", probabilities), ("image", image)):
        if not np.isfinite(array).all():
            raise ValueError(f"dense_crf: {name} has values that are NaN or infinite")
    low, high = image.min(), image.max()
    if image.dtype != np.uint8 and not -NOISE <= low <= high <= 1 + NOISE:
        raise ValueError(
            f"dense_crf: image has values from {low:g} to {high:g}, needs floats in 0..1 or uint8; "
            "divide levels of 0..255 by 255, and undo what normalised the image for the network"
        )


def _check_kernels(
    image: np.ndarray, weights: dict[str, float], bi_xy: float, bi_rgb: float, pos_xy: float
) -> None:
    for name, weight in weights.items():
        if not np.isfinite(weight):
            raise ValueError(f"dense_crf: {name} is {weight}, needs to be finite")
    deviations = {
        "bi_xy": (bi_xy, max(image.shape[:2]) / FURTHEST),
        "bi_rgb": (bi_rgb, 255 / FURTHEST),
        "pos_xy": (pos_xy, 0.0),
    }
    for name, (deviation, least) in deviations.items():
        if not 0 < deviation < np.inf:
            raise ValueError(f"dense_crf: {name} is {deviation}, needs to be above 0")
        if deviation < least:
            raise ValueError(f"dense_crf: {name} is {deviation}, needs to be at least {least:g}")
