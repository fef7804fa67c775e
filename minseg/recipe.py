"""From the record of a run to its parts: network, optimizer, schedule, loss, class weights."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import models, nn, optim
from minseg.config import Config
from minseg.data import IGNORE_INDEX, Dataset
from minseg.tensor import Tensor

LossFunction = Callable[[Any, np.ndarray], Tensor]

AUXILIARY_WEIGHT = 0.4  # of the loss at an auxiliary head (Zhao et al. 2017, PSPNet, section 4)


def build_model(config: Config, num_classes: int, channels: int) -> nn.Module:
    """The network with fresh weights. Raises ValueError and TypeError for what does not exist."""
    options: dict[str, Any] = {"width": config.width, "depth": config.depth, "norm": config.norm}
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("norm") == "none":
        given["norm"] = None
    model = models.build(config.model, num_classes=num_classes, in_channels=channels, **given)
    return model.to(config.device)


def build_optimizer(config: Config, model: nn.Module) -> Any:
    """The optimizer; biases and norms, which are vectors, are not decayed."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    kind = {"adamw": optim.AdamW, "adam": optim.Adam}[config.optimizer]
    return kind(groups, lr=config.lr)


def schedule(name: str, progress: float) -> float:
    """The learning rate as a share of its peak, at `progress` (0..1) of the training.

    onecycle: up from 1/25 over the first 30 %, then down to almost nothing, both along a cosine
    (Smith, Topin 2019). poly: (1 - progress)^0.9 (DeepLab). step: a tenth at 60 % and at 85 %.
    """
    if name == "onecycle":
        if progress < 0.3:
            return _cosine(1 / 25, 1, progress / 0.3)
        return _cosine(1, 1e-4, (progress - 0.3) / 0.7)
    if name == "poly":
        return (1 - progress) ** 0.9
    if name == "cosine":
        return _cosine(1, 0, progress)
    if name == "step":
        return 1.0 if progress < 0.6 else 0.1 if progress < 0.85 else 0.01
    return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


_TERMS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "cross_entropy": lambda x, t, w: F.cross_entropy(x, t, w, ignore_index=IGNORE_INDEX),
    "dice": lambda x, t, w: F.dice_loss(x, t, ignore_index=IGNORE_INDEX),
    "focal": lambda x, t, w: F.focal_loss(x, t, weight=w, ignore_index=IGNORE_INDEX),
    "lovasz": lambda x, t, w: F.lovasz_softmax(x, t, ignore_index=IGNORE_INDEX),
}


def build_loss(config: Config, weights: np.ndarray | None = None) -> LossFunction:
    """The loss of a network's output and the masks (N, H, W): a weighted sum of terms.

    config.loss: "cross_entropy", "focal + 0.5 * dice", ... weights: of the classes, (K,) float32,
    for the terms that know them. An output with an auxiliary head pays for that one too.

    Raises ValueError for a term that does not exist.
    """
    terms = []
    for text in config.loss.replace(" ", "").split("+"):
        factor, _, name = text.rpartition("*")
        try:
            terms.append((float(factor or 1), _TERMS[name]))
        except (ValueError, KeyError):
            raise ValueError(
                f"loss: got {config.loss!r}, needs a sum of {', '.join(_TERMS)}, each with a "
                f'factor if wanted: "cross_entropy + 0.5 * dice"'
            ) from None
    on_device = None if weights is None else Tensor(weights).to(config.device)

    def loss(out: Any, masks: np.ndarray) -> Tensor:
        heads = out if isinstance(out, dict) else {"out": out}
        total: Any = 0.0
        for head, share in (("out", 1.0), ("aux", AUXILIARY_WEIGHT)):
            if head in heads:
                target = Tensor(centre(masks, heads[head].shape[2:])).to(config.device)
                for factor, term in terms:
                    total = term(heads[head], target, on_device) * (share * factor) + total
        return total

    return loss


def centre(masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The middle (N, *size) of masks (N, H, W): what a network without padding has logits for."""
    top, left = (masks.shape[1] - size[0]) // 2, (masks.shape[2] - size[1]) // 2
    return masks[:, top : top + size[0], left : left + size[1]]


def count_class_weights(dataset: Dataset, kind: str) -> np.ndarray:
    """A weight for each class, (K,) float32, the rarer the larger, from all masks of a data set.

    "median": median frequency / frequency, a class's frequency being its share of the pixels of
    those images that show it (Eigen, Fergus 2015, section 5). "invlog": 1 / log(1.02 + share of all
    pixels) (Paszke et al. 2016, ENet, section 5.2). A class that no image shows gets 0.
    """
    count = len(dataset.classes)
    pixels, shown_in = np.zeros(count), np.zeros(count)
    for index in range(len(dataset)):
        mask = dataset[index].mask
        valid = mask[mask != IGNORE_INDEX]
        found = np.bincount(valid, minlength=count)
        pixels += found
        shown_in += (found > 0) * valid.size
    present = pixels > 0
    if kind == "median":
        frequency = pixels[present] / shown_in[present]
        values = np.median(frequency) / frequency
    else:
        values = 1 / np.log(1.02 + pixels[present] / pixels.sum())
    weights = np.zeros(count, np.float32)
    weights[present] = values
    return weights
