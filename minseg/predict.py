"""From a trained network and a picture of any size to a labelled picture.

A network is used at the scale it was trained at: where training shrank whole images to one size,
a photo is shrunk to as many pixels, and the probabilities are scaled back up; published weights
have the size that their publisher scales to. Otherwise the picture stays as it is, and a large one
is cut into overlapping windows, whose probabilities are blended. A fully connected CRF can then
move the borders of the labels to those of the picture.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minseg import nn, viz
from minseg.crf import ITERATIONS
from minseg.data import Sample
from minseg.data.resized import Size, resize_image
from minseg.files import PathLike, write_atomically
from minseg.inference import (
    PIXEL_BUDGET,
    as_batch,
    at_most,
    evaluating,
    forward,
    in_windows,
    refine,
    resize_maps,
    windows,
)
from minseg.network import Network
from minseg.pipeline import normalisation
from minseg.suggest import suggest


def segment(
    network: Network,
    image: np.ndarray,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | None = None,
    size: Size | None = None,
    crf: bool = False,
    on_progress: Callable[[float], None] = lambda share: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The labels (H, W) uint8 of an image (H, W, C), and the probability (H, W) of each.

    scales, flip: average the probabilities over scaled and mirrored copies.
    window: cut copies that are larger into windows of this side.
    size: the (H, W) to work at; default: the scale of the training.
    crf: refine the probabilities by a fully connected CRF (`minseg.crf`).
    on_progress: called after each window, and each iteration of the CRF, with the share that it is
        of all of these.
    """
    if not np.isfinite(image).all():
        raise ValueError("segment: the image has values that are NaN or infinite")
    if size is None:
        size = working_size(network, image.shape[:2])
    sizes = [(max(1, round(size[0] * scale)), max(1, round(size[1] * scale))) for scale in scales]
    pieces = (1 + flip) * sum(len(windows(*scaled, window)) for scaled in sizes) + crf * ITERATIONS
    advance = partial(on_progress, 1 / pieces)
    total = None
    for scaled in sizes:
        copy = _normalised(network, resize_image(image, scaled))
        for mirrored in (False, True)[: 1 + flip]:
            seen = copy[:, ::-1] if mirrored else copy
            probabilities = in_windows(network.model, seen, window, advance)
            probabilities = resize_maps(
                probabilities[:, :, ::-1] if mirrored else probabilities, size
            )
            # Of a photo, K planes are a good part of the memory: no more of them than must be.
            total = probabilities if total is None else np.add(total, probabilities, out=total)
            del probabilities, seen
        del copy
    if total is None:
        raise ValueError("segment: scales: got none, needs at least one")
    total /= len(scales) * (1 + flip)
    if crf:
        total = refine(total, image, on_iteration=advance)
    return _winners(total, image.shape[:2])


def write_prediction(network: Network, image: np.ndarray, stem: PathLike, **options: Any) -> list:
    """Segment an image and write STEM_mask.png, _overlay, _confidence and _figure.

    options: as for `segment`. Returns the files' paths; raises OSError if one cannot be written.
    """
    labels, confidence = segment(network, image, **options)
    shown = viz.overlay(image, labels, network.palette)
    pictures = {
        "mask": viz.palette_png(labels, network.palette),
        "overlay": viz.image_png(shown),
        "confidence": viz.image_png((255 * np.clip(confidence, 0, 1) + 0.5).astype(np.uint8)),
    }
    paths = [Path(f"{stem}_{kind}.png") for kind in (*pictures, "figure")]
    for path, data in zip(paths, pictures.values(), strict=False):
        write_atomically(path, data)
    figure = viz.prediction_figure(image, labels, confidence, network.classes, network.palette)
    viz.save(figure, paths[-1])
    return paths


def working_size(network: Network, size: Size) -> Size:
    """The size at which the network sees an image of this size."""
    seen = network.published_size or network.config.size
    if seen is None:
        return size
    factor = math.sqrt(math.prod(seen) / math.prod(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def find_layer(network: Network, layer: str) -> nn.Module:
    """The layer of that name. Raises ValueError, with those that exist, for an unknown one."""
    layers = {name: module for name, module in network.model.named_modules() if name}
    if layer not in layers:
        hint = suggest(layer, layers)
        raise ValueError(f"features: no layer {layer!r}{hint}; there are: {', '.join(layers)}")
    return layers[layer]


def feature_maps(network: Network, image: np.ndarray, layer: str) -> np.ndarray:
    """The output (C, h, w) of a layer, "contract.0" for example, for an image.

    An image above the pixel budget is shrunk to it.
    Raises ValueError for an unknown layer, with those that exist, and for one without maps.
    """
    seen: list[Any] = []
    handle = find_layer(network, layer).register_forward_hook(lambda *call: seen.append(call[2]))
    try:
        size = at_most(PIXEL_BUDGET, working_size(network, image.shape[:2]))
        copy = _normalised(network, resize_image(image, size))
        with evaluating(network.model):
            forward(network.model, as_batch(copy), size)
    finally:
        handle.remove()
    output = seen[-1].numpy() if seen else np.zeros(0)
    if output.ndim != 4:
        what = f"gives {output.shape}, no" if seen else "only holds other layers: it gives no"
        raise ValueError(f"features: layer {layer!r} {what} maps (C, H, W)")
    return output[0]


def _normalised(network: Network, image: np.ndarray) -> np.ndarray:
    """The image (H, W, C) as the network wants it."""
    normalise = normalisation(network.config, network.channels)
    sample = Sample(image, np.zeros(image.shape[:2], np.int64))
    return normalise(sample, np.random.default_rng(0)).image  # a normalisation draws nothing


def _winners(probabilities: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class at `size`, and its probability.

    Class by class, since all of them at the size of a photo would fill the memory.
    """
    labels = np.zeros(size, np.uint8)
    confidence = np.full(size, -1, np.float32)
    for label, plane in enumerate(probabilities):
        larger = np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize(
                (size[1], size[0]), Image.Resampling.BILINEAR
            )
        )
        better = larger > confidence
        labels[better] = label
        confidence = np.maximum(confidence, larger)
    return labels, confidence
