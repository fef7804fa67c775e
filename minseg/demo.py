"""`minseg demo`: a U-Net that learns to read drawn street scenes within half a minute."""

from typing import TYPE_CHECKING

import numpy as np

from minseg import viz
from minseg.config import Config, configure
from minseg.evaluate import predict_labels
from minseg.train import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def demo_config(data: str, seconds: float, seed: int) -> Config:
    """The demo's run: 180 steps, or on a slow machine as many as fit into `seconds`."""
    size = {"street": (72, 96), "shapes": (64, 64)}[data]
    return configure(
        "unet", data, size=size, images=200, steps=180, minutes=seconds / 60, batch_size=8,
        lr=1e-2, class_weights="invlog", seed=seed, options={"width": 8, "depth": 3},
    )  # fmt: skip


def demo_figure(trainer: Trainer) -> "Figure":
    """Image, truth, prediction, errors for three unseen scenes, and the curves."""
    indices = np.linspace(0, len(trainer.val_data) - 1, 3).astype(int)
    samples = [trainer.val_data[int(index)] for index in indices]
    return viz.samples_figure(
        [sample.image for sample in samples],
        [sample.mask for sample in samples],
        [predict_labels(trainer.model, sample, trainer.normalise) for sample in samples],
        trainer.data.classes,
        trainer.data.palette,
        trainer.history,
        f"U-Net after {trainer.seconds:.0f} s and {trainer.step} steps, on scenes it never saw: "
        f"mean IoU {trainer.history[-1]['val_mIoU']:.3f}",
    )
