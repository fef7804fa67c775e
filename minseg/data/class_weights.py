"""Class weights, by which rare classes count more: from their frequency in the training masks.

    median frequency  w_c = median(f) / f_c,  f_c = pixels of c / pixels of the images that show c
    inverse log       w_c = 1 / log(1.02 + p_c),  p_c = pixels of c / all pixels

Ignored pixels are not counted.

Source: Eigen & Fergus, "Predicting depth, surface normals and semantic labels", 2015, section 6.3;
        Paszke et al., "ENet", 2016, section 5.2
"""

from collections.abc import Iterable

import numpy as np

from minseg.tensor import Tensor


def class_frequencies(
    masks: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each class, and pixels of the images that show it: both (num_classes,), int64.

    Raises ValueError for a label outside 0 .. num_classes - 1 that is not `ignore_index`, TypeError
    for labels that are not integers.
    """
    pixels = np.zeros(num_classes, np.int64)
    of_images = np.zeros(num_classes, np.int64)
    for number, mask in enumerate(masks):
        labels = np.asarray(mask)
        if labels.dtype.kind not in "iub":
            raise TypeError(
                f"class_frequencies: mask {number} is {labels.dtype}, needs integer labels"
            )
        labels = labels[labels != ignore_index].astype(np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"class_frequencies: mask {number} has label {wrong}, needs 0 to "
                f"{num_classes - 1} or ignore_index ({ignore_index})"
            )
        count = np.bincount(labels, minlength=num_classes)
        pixels += count
        of_images += np.where(count > 0, labels.size, 0)
    return pixels, of_images


def median_frequency_weights(
    masks: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> Tensor:
    """Median frequency balancing, (num_classes,), float32; 0 for a class that never occurs."""
    pixels, of_images = class_frequencies(masks, num_classes, ignore_index)
    occurs = pixels > 0
    frequency = pixels / np.maximum(of_images, 1)
    median = np.median(frequency[occurs]) if occurs.any() else 0.0
    weights = np.divide(median, frequency, out=np.zeros(num_classes), where=occurs)
    return Tensor(weights.astype(np.float32))


def inverse_log_weights(
    masks: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> Tensor:
    """ENet's weights, (num_classes,), float32: from 1.42 (the only class) to 50.5 (never seen)."""
    pixels, _ = class_frequencies(masks, num_classes, ignore_index)
    share = pixels / max(pixels.sum(), 1)
    return Tensor((1 / np.log(1.02 + share)).astype(np.float32))
