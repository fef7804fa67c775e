"""From the record of a run to its parts: network, optimizer, schedule, loss, class weights."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import models, nn, optim
from minseg.config import Config
from minseg.data import IGNORE_INDEX, Dataset
from minseg.data.border_weights import border_weights
from minseg.data.class_weights import inverse_log_weights, median_frequency_weights
from minseg.models.fcn import FCN, copy_coarser
from minseg.ops.weighted_sum import WeightedSum
from minseg.tensor import Tensor

LossFunction = Callable[..., Tensor]  # of a network's output, masks, and perhaps instances

AUXILIARY_WEIGHT = 0.4  # of the loss at an auxiliary head (Zhao et al. 2017, PSPNet, section 4)


def build_model(config: Config, num_classes: int, channels: int) -> nn.Module:
    """The network with fresh weights. Raises ValueError and TypeError for what does not exist."""
    model = models.build(
        config.model, num_classes=num_classes, in_channels=channels, **config.options
    )
    return model.to(config.device)


def start_from(model: nn.Module, trained: nn.Module) -> None:
    """Give a fresh network the weights of a trained one: the same, or an FCN of twice the stride.

    Raises ValueError where they do not fit.
    """
    if isinstance(model, FCN) and isinstance(trained, FCN) and model.stride != trained.stride:
        copy_coarser(model, trained)
    else:
        model.load_state_dict(trained.state_dict())


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


# The terms that a loss can be made of, and the argument of each that takes class weights.
_TERMS: dict[str, tuple[Callable[..., Tensor], str | None]] = {
    "cross_entropy": (F.cross_entropy, "weight"),
    "focal": (F.focal_loss, "alpha"),
    "dice": (F.dice_loss, None),
    "lovasz": (F.lovasz_softmax, None),
}


def build_loss(config: Config, weights: np.ndarray | None = None) -> LossFunction:
    """The loss of a network's output and the masks (N, H, W), as config.loss has it.

    The logits of auxiliary heads count too, each with AUXILIARY_WEIGHT. The term "border" is
    cross-entropy with the weights of `minseg.data.border_weights`, and needs the instances
    (N, H, W). weights: of the classes, (K,) float32, for the terms that take them.

    Raises what `parse_loss` raises.
    """
    class_weights = None if weights is None else Tensor(weights).to(config.device)

    def term(name: str) -> Callable[..., Tensor]:
        function, takes_weights = _TERMS[name]
        if class_weights is None or takes_weights is None:
            return function
        return partial(function, **{takes_weights: class_weights})

    terms = parse_loss(config.loss)
    border = sum(factor for factor, name in terms if name == "border")
    others = [(factor, term(name)) for factor, name in terms if name != "border"]
    weighted_sum = WeightedSum(*others, ignore_index=IGNORE_INDEX)

    def loss(out: Any, masks: np.ndarray, instances: np.ndarray | None = None) -> Tensor:
        if border and instances is None:
            raise ValueError("loss: border needs instances, which this data set does not have")

        def of_head(logits: Tensor) -> Tensor:
            size = logits.shape[2:]
            labels = Tensor(centre(masks, size)).to(config.device)
            total = weighted_sum(logits, labels)
            if border and instances is not None:
                pixel_weights = centre(np.stack([*map(border_weights, instances)]), size)
                total = total + border * border_loss(logits, labels, pixel_weights)
            return total

        if not isinstance(out, dict):
            return of_head(out)
        total = of_head(out["out"])
        for logits in [logits for name, logits in out.items() if name != "out"]:
            total = total + AUXILIARY_WEIGHT * of_head(logits)
        return total

    return loss


def parse_loss(text: str) -> list[tuple[float, str]]:
    """The (factor, name) of each term: of "focal + 0.5 * dice" [(1.0, "focal"), (0.5, "dice")].

    Raises ValueError for a term that does not exist, and for "border" without another term.
    """
    parts = [term.rpartition("*") for term in text.replace(" ", "").split("+")]
    try:
        terms = [(float(factor or 1), name) for factor, _, name in parts]
    except ValueError:  # a factor that is no number
        terms = []
    names = {name for _, name in terms}
    if names <= {"border"} or not names <= {"border", *_TERMS}:
        raise ValueError(
            f"loss: got {text!r}, needs a sum of {', '.join(_TERMS)}, each with a factor if "
            f'wanted: "cross_entropy + 0.5 * dice"'
        )
    return terms


def border_loss(logits: Tensor, labels: Tensor, weights: np.ndarray) -> Tensor:
    """Cross-entropy with a weight for each pixel, over the number of pixels that have a class."""
    each = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    weighted = each * Tensor(weights.astype(each.dtype)).to(each.device)
    return weighted.sum() / float((labels.data != IGNORE_INDEX).sum())


def centre(masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The middle (N, *size) of masks (N, H, W): what a network without padding has logits for."""
    top, left = (masks.shape[1] - size[0]) // 2, (masks.shape[2] - size[1]) // 2
    return masks[:, top : top + size[0], left : left + size[1]]


def count_class_weights(dataset: Dataset, kind: str) -> np.ndarray:
    """A weight for each class, (K,) float32, the rarer the larger, from all masks of a data set.

    kind: "median" or "invlog", see `minseg.data.class_weights`.
    """
    weigh = median_frequency_weights if kind == "median" else inverse_log_weights
    masks = (dataset[index].mask for index in range(len(dataset)))
    return weigh(masks, len(dataset.classes), IGNORE_INDEX).numpy()
