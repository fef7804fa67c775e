"""Scoring a network on a data set: one confusion matrix over all pixels of all images."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.data import Batch, Dataset, Sample, collate
from minseg.data.dataset import check_sample
from minseg.data.resized import resize_image
from minseg.inference import (
    PIXEL_BUDGET,
    as_batch,
    evaluating,
    forward,
    in_windows,
    refine,
    resize_maps,
)
from minseg.metrics import BoundaryF, BoundaryIoU, ConfusionMatrix, PerClass
from minseg.tensor import Tensor

LossFunction = Callable[..., Tensor]  # of logits, masks, and the instances or None


@dataclass
class Evaluation:
    """What was measured; the boundary scores only where they were asked for."""

    confusion: ConfusionMatrix
    loss: float  # the mean over the images; NaN without a loss function
    boundary_iou: PerClass | None = None
    boundary_f: PerClass | None = None


def evaluate(
    model: Any,
    dataset: Dataset,
    normalise: Callable[[Sample, Any], Sample],
    loss: LossFunction | None = None,
    batch_size: int = 8,
    boundaries: bool = False,
    crf: bool = False,
    on_batch: Callable[[Batch, np.ndarray], None] | None = None,
) -> Evaluation:
    """Score `model` on a data set; void pixels do not count.

    Where a mask is larger than its image, the logits are upsampled bilinearly to the mask's size.
    So that photos fit into memory, a batch has at most PIXEL_BUDGET pixels, and an image with more
    goes through the network in windows, as in `minseg predict`.
    crf: refine what the network says by a fully connected CRF (`minseg.crf`).
    on_batch: called with each batch and its predicted labels (N, H, W).
    """
    confusion = ConfusionMatrix(dataset.classes, dataset.ignore_index)
    iou = BoundaryIoU(dataset.classes, dataset.ignore_index)
    f = BoundaryF(dataset.classes, dataset.ignore_index)
    total, images = 0.0, 0
    with evaluating(model):
        for samples in _batches(dataset, batch_size):
            batch = collate([normalise(sample, None) for sample in samples])
            logits = _logits(model, batch.images, batch.masks.shape[1:])
            if loss is not None and (batch.masks != dataset.ignore_index).any():
                total += loss(logits, batch.masks, batch.instances).item() * len(batch)
                images += len(batch)
            if crf:
                probabilities = F.softmax(logits, dim=1).numpy()
                logits = Tensor(np.stack([*map(_refine, probabilities, samples)]))
            prediction = logits.argmax(1).numpy()
            confusion.update(prediction, batch.masks)
            if boundaries:
                iou.update(prediction, batch.masks)
                f.update(prediction, batch.masks)
            if on_batch is not None:
                on_batch(batch, prediction)
    mean = total / images if images else float("nan")
    scores = (iou.compute(), f.compute()) if boundaries else (None, None)
    return Evaluation(confusion, mean, *scores)


def predict_labels(model: Any, sample: Sample, normalise: Callable[[Sample, Any], Sample]) -> Any:
    """The labels (H, W) of one sample, at the size of its mask."""
    with evaluating(model):
        image = normalise(sample, None).image
        logits = _logits(model, as_batch(image), sample.mask.shape)
        return logits.argmax(1).numpy()[0]


def _logits(model: Any, images: np.ndarray, size: tuple[int, ...]) -> Tensor:
    """The logits (N, K, *size) of images (N, C, H, W); above the pixel budget, N is 1.

    Such an image goes through in windows, which give probabilities p. Their logarithms serve as
    logits, since softmax(log p) = p.
    """
    if math.prod(images.shape[2:]) <= PIXEL_BUDGET:
        return forward(model, images, size)
    probabilities = in_windows(model, images[0].transpose(1, 2, 0))
    np.maximum(probabilities, np.finfo(np.float32).tiny, out=probabilities)
    logits = Tensor(np.log(probabilities, out=probabilities)[None])
    if logits.shape[2:] != tuple(size):
        logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    return logits.to(next(model.parameters()).device)


def _refine(probabilities: np.ndarray, sample: Sample) -> np.ndarray:
    """(K, H, W) after the CRF on the sample's image, at the size of its mask."""
    size = probabilities.shape[1:]
    return resize_maps(refine(probabilities, resize_image(sample.image, size)), size)


def _batches(dataset: Dataset, batch_size: int) -> Iterator[list[Sample]]:
    """The data set in its order, in batches of at most `batch_size`.

    A batch ends early where the next image has another size, or would exceed the pixel budget.
    """
    samples: list[Sample] = []
    for index in range(len(dataset)):
        sample = dataset[index]
        check_sample(sample, len(dataset.classes))
        sizes = (sample.image.shape, sample.mask.shape)
        if samples and sizes != (samples[0].image.shape, samples[0].mask.shape):
            yield samples
            samples = []
        samples.append(sample)
        pixels = max(math.prod(sample.image.shape[:2]), sample.mask.size)
        if len(samples) == batch_size or (len(samples) + 1) * pixels > PIXEL_BUDGET:
            yield samples
            samples = []
    if samples:
        yield samples
