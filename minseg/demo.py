"""`minseg demo`: a U-Net that learns to read drawn street scenes in under a minute."""

import time
from typing import Any

from minseg import recipe, viz
from minseg.config import configure
from minseg.files import PathLike
from minseg.train import Trainer


class Demo(Trainer):
    """The demo's run: 160 steps, or on a slow machine as many as fit into `seconds`.

    data: "street" or "shapes". The figure is `out`/demo.png.
    """

    def __init__(self, data: str, seconds: float, seed: int, out: PathLike) -> None:
        self.started = time.monotonic()
        config = configure(
            "unet", data, {"width": 8, "depth": 3}, images=160, steps=160, minutes=seconds / 60,
            batch_size=8, lr=1e-2, class_weights="invlog", seed=seed,
            size={"street": (72, 96), "shapes": (64, 64)}[data],
        )  # fmt: skip
        super().__init__(config, out)
        self.figure = self.run / "demo.png"

    def fit(self, progress: Any = None) -> bool:
        """As Trainer's, on a clock that counts from the demo's start: drawing the scenes, too."""
        self._set_class_weights(recipe.count_class_weights(self.data, "invlog"))
        budget = 60 * (self.config.minutes or 0)
        self.seconds = min(time.monotonic() - self.started, budget / 2)  # the rest is for training
        return super().fit(progress)

    def draw(self) -> None:
        """Image, truth, prediction, errors for three unseen scenes, and the curves."""
        if not self.history:
            return
        title = (
            f"U-Net after {self.seconds:.0f} s and {self.step} steps, on scenes it never saw: "
            f"mean IoU {self.history[-1]['val_mIoU']:.3f}"
        )
        viz.save(self.samples_figure(title, with_curves=True), self.figure)
