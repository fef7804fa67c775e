"""Scoring a network on a data set: one confusion matrix over all pixels of all images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.config import resize_image
from minseg.crf import dense_crf
from minseg.data import Batch, Dataset, Sample, collate
from minseg.data.dataset import check_sample
from minseg.metrics import BoundaryF, BoundaryIoU, ConfusionMatrix, PerClass
from minseg.tape import no_grad
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
            logits = forward(model, batch.images, batch.masks.shape[1:])
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


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, the network is in evaluation mode and nothing is recorded."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(was_training)


def predict_labels(model: Any, sample: Sample, normalise: Callable[[Sample, Any], Sample]) -> Any:
    """The labels (H, W) of one sample, at the size of its mask."""
    with evaluating(model):
        image = normalise(sample, None).image
        logits = forward(model, as_batch(image), sample.mask.shape)
        return logits.argmax(1).numpy()[0]


def as_batch(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) as a batch of one, (1, C, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))[None]


def forward(model: Any, images: np.ndarray, size: tuple[int, ...]) -> Tensor:
    """The logits (N, K, *size) of images (N, C, H, W), on the device of the model's weights.

    A network whose convolutions are "valid" gets the images in a mirrored frame, so that its
    smaller output covers them (Ronneberger et al. 2015, figure 2: the overlap-tile strategy).
    """
    height, width = images.shape[2:]
    frame = [(0, 0), (0, 0), *(_margin(model, side) for side in (height, width))]
    padded = np.pad(images, frame, mode="reflect") if any(map(any, frame)) else images
    device = next(model.parameters()).device
    out = model(Tensor(padded).to(device))
    logits = out["out"] if isinstance(out, dict) else out
    top, left = (logits.shape[2] - height) // 2, (logits.shape[3] - width) // 2
    if (top, left) != (0, 0) or logits.shape[2:] != (height, width):
        logits = logits[:, :, top : top + height, left : left + width]
    if logits.shape[2:] != tuple(size):
        logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    return logits


def output_size(model: Any, height: int, width: int) -> tuple[int, int]:
    """The size of the logits for an image: the same, unless the network says otherwise.

    Raises ValueError for a size that a network of "valid" convolutions does not allow.
    """
    if not hasattr(model, "output_size"):
        return height, width
    return model.output_size(height, width)


def lost_frame(model: Any, height: int, width: int) -> tuple[int, int]:
    """How many rows and columns of an image the logits lack on each side.

    Raises ValueError for a size that a network of "valid" convolutions does not allow.
    """
    rows, columns = output_size(model, height, width)
    return (height - rows) // 2, (width - columns) // 2


def _margin(model: Any, side: int) -> tuple[int, int]:
    """How many pixels to add on both sides so that as many as `side` come out."""
    for total in range(side, 4 * side + 2000):
        try:
            covered = output_size(model, total, total)[0]
        except ValueError:  # not a size for this network
            continue
        if covered >= side:
            before = (total - side) // 2
            return before, total - side - before
    raise ValueError(f"no frame makes the network's output cover {side} pixels")


def _refine(probabilities: np.ndarray, sample: Sample) -> np.ndarray:
    """(K, H, W) after the CRF on the sample's image, at the size of its mask."""
    return dense_crf(probabilities, resize_image(sample.image, probabilities.shape[1:]))


def _batches(dataset: Dataset, batch_size: int) -> Iterator[list[Sample]]:
    """The data set in its order; a batch ends early where the next image has another size."""
    samples: list[Sample] = []
    for index in range(len(dataset)):
        sample = dataset[index]
        check_sample(sample, len(dataset.classes))
        sizes = (sample.image.shape, sample.mask.shape)
        if samples and sizes != (samples[0].image.shape, samples[0].mask.shape):
            yield samples
            samples = []
        samples.append(sample)
        if len(samples) == batch_size:
            yield samples
            samples = []
    if samples:
        yield samples
