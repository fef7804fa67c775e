"""Training: the loop, its run folder, and how it stops and goes on.

A run is a function of its record (`Config`) alone. What the loop carries from one step to the next
is all in `Trainer.state()`: weights, optimizer, random generator, the place in the data and the
scores so far. A checkpoint is this state, so a run that was stopped, by Ctrl-C or by `kill -9` at
any moment, goes on to the same weights, bit for bit, as one that was not: the learning rate is a
function of the step, and the loader's draws of (seed, epoch, index).

Except for `minutes`: there the learning rate is a function of the time spent, which no two runs
share; the time counts across interruptions.

    RUN/config.json       the record
    RUN/last.safetensors  the newest state        RUN/best.safetensors  the weights of the best mIoU
    RUN/metrics.csv, curves.png, samples.png      how it went
"""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minseg import checkpoint, optim, recipe, viz
from minseg.config import Config
from minseg.data import IGNORE_INDEX, Batch
from minseg.evaluate import Evaluation, evaluate, predict_labels
from minseg.files import PathLike, alone_in, write_atomically
from minseg.inference import lost_frame, output_size
from minseg.interrupt import StopRequest
from minseg.metrics import ConfusionMatrix
from minseg.network import load_network
from minseg.pipeline import normalisation, open_splits, training_loader
from minseg.random import get_rng_state, manual_seed, set_rng_state
from minseg.tensor import Tensor

_DRAW_EVERY = 60.0  # seconds between two drawings of the figures
_MAX_NORM = 10.0  # of the gradient: only what would throw the weights far off is clipped


class Diverged(RuntimeError):
    """The loss is no longer a number; the message says at which step, and the likely cause."""


class Stopped(Exception):
    """The user asked to stop."""


class Reporter:
    """Is told how a training goes on, and says nothing; progress.py has one that shows it."""

    def step(self, trainer: "Trainer", images: int) -> None:
        """After each step, with the number of images in its batch."""

    def validating(self, share: float) -> None:
        """After each batch of a validation, with the share of it that is done, 0..1."""

    def evaluated(self, trainer: "Trainer") -> None:
        """After each validation; its scores are the last of `trainer.history`."""


class Trainer:
    """A run: everything it needs, and the loop.

    on_progress: gets the share that is done of what opening the data takes; see `Folder`.

    Raises what opening the data and building the network raise. `Trainer.resume(run)` makes one
    from a run folder.
    """

    def __init__(
        self,
        config: Config,
        run: PathLike,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.config = config
        self.run = Path(run)
        manual_seed(config.seed)
        self.data, self.val_data = open_splits(config, on_progress)
        if len(self.data.classes) < 2:
            raise ValueError(
                f"{config.data}: {self.data.classes[0]!r} is its only class: there is nothing to "
                f"tell apart; do the masks hold what they should?"
            )
        self.channels = self.data[0].image.shape[2]
        self.normalise = normalisation(config, self.channels)
        self.model = recipe.build_model(config, len(self.data.classes), self.channels)
        frame = lost_frame(self.model, *config.crop) if config.crop else (0, 0)
        self.loader = training_loader(config, self.data, self.channels, frame)
        self.optimizer = recipe.build_optimizer(config, self.model)
        self.loss = recipe.build_loss(config)
        self.class_weights: np.ndarray | None = None  # counted when training starts

        self.step = self.epoch = self.batch = 0  # batch: how many of this epoch are done
        self.seconds = 0.0  # by the clock, which a study sets to CPU time
        self.clock: Callable[[], float] = time.monotonic
        self.loss_sum, self.loss_count = 0.0, 0  # since the last validation
        self.best = -1.0
        self.history: list[dict[str, float]] = []
        self.last_evaluation: Evaluation | None = None
        self.confusion = ConfusionMatrix(self.data.classes)  # of the training batches: for show
        self.stop = StopRequest()

    # -- stopping and going on ---------------------------------------------------------------------
    @classmethod
    def resume(
        cls,
        run: PathLike,
        on_progress: Callable[[float], None] = lambda share: None,
        **changes: Any,
    ) -> "Trainer":
        """Go on with the run in a folder. changes: fields of its Config to replace.

        Raises FileNotFoundError if there is no checkpoint, ValueError if it is broken.
        """
        path = Path(run) / "last.safetensors"
        state = checkpoint.load(path)
        try:
            config = Config.from_dict(state.get("config", {}))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: its config is broken: {error}") from error
        trainer = cls(replace(config, **changes), run, on_progress)
        trainer.load_state(state)
        return trainer

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            **self.description(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "class_weights": self.class_weights,
            "rng": get_rng_state(),
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "loss": [self.loss_sum, self.loss_count],
            "best": self.best,
            "history": self.history,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        try:
            if state["classes"] != list(self.data.classes):
                raise ValueError(
                    f"it was trained on the classes {', '.join(state['classes'])}, but "
                    f"{self.config.data} now has {', '.join(self.data.classes)}"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._set_class_weights(state["class_weights"])
            self.step, self.epoch = state["step"], state["epoch"]
            self.batch = min(state["batch"], len(self.loader))  # images may have been taken away
            self.seconds, self.best = state["seconds"], state["best"]
            (self.loss_sum, self.loss_count), self.history = state["loss"], state["history"]
            set_rng_state(state["rng"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{self.run}: its checkpoint does not fit what is to go on: {what}"
            ) from error

    def description(self) -> dict[str, Any]:
        """What the weights mean: enough to use them without the data set."""
        return {
            "config": self.config.to_dict(),
            "classes": list(self.data.classes),
            "palette": self.data.palette.tolist(),
            "channels": self.channels,
        }

    def save(self) -> None:
        """Write the state. Raises Diverged, and keeps what is there, if a weight is not finite."""
        for name, parameter in self.model.named_parameters():
            if not np.isfinite(parameter.numpy()).all():
                raise Diverged(f"step {self.step}: {name} is no longer finite: {self._too_fast()}")
        checkpoint.save(self.run / "last.safetensors", self.state())

    # -- the loop ----------------------------------------------------------------------------------
    def fit(self, reporter: Reporter | None = None) -> bool:
        """Train until the end (True) or until the user stops it (False); both leave a checkpoint.

        Raises Diverged for a loss that is not finite, ValueError for data that cannot be right and
        for weights to start from that do not fit, RuntimeError if this run is being trained.
        """
        if self.config.init is not None and self.step == 0:
            recipe.start_from(self.model, load_network(self.config.init, self.config.device).model)
        self.run.mkdir(parents=True, exist_ok=True)
        with alone_in(self.run):
            return self._fit(reporter or Reporter())

    def _fit(self, reporter: Reporter) -> bool:
        record = json.dumps(self.config.to_dict(), indent=1)
        write_atomically(self.run / "config.json", record.encode())
        self.save()  # a kill before the first step leaves something to resume, too
        if self.class_weights is None and self.config.class_weights != "none":
            kind = self.config.class_weights
            self._set_class_weights(recipe.count_class_weights(self.data, kind))
        self.model.train()
        finished = True
        # What is not finite is found, and said with its cause: NumPy need not warn of it as well.
        with self.stop.listening(), np.errstate(all="ignore"):
            try:
                self._loop(reporter)
            except Stopped:
                finished = False
            self.save()
            self.draw()
        return finished

    def _loop(self, reporter: Reporter) -> None:
        """Train to the end. Raises Stopped when the user asks to stop, the state being whole."""
        saved = drawn = time.monotonic()
        started = self.clock() - self.seconds
        while True:
            # Of a finished run that is resumed, no batch is left, only the validation.
            for batch in () if self.finished() else self.loader.epoch(self.epoch, self.batch):
                self._train_on(batch)
                self.seconds = self.clock() - started
                reporter.step(self, len(batch))
                if self.stop.asked:
                    raise Stopped
                if self.finished():
                    break
                if time.monotonic() - saved >= self.config.save_every:
                    self.save()
                    saved = time.monotonic()
            epoch_done = self.batch == len(self.loader)
            if self.finished() or (epoch_done and (self.epoch + 1) % self.config.eval_every == 0):
                self._validate(reporter)
                self.seconds = self.clock() - started
                reporter.evaluated(self)
            if epoch_done:
                self.epoch, self.batch = self.epoch + 1, 0
                self.confusion.reset()
            if self.finished():
                return
            self.save()
            saved = time.monotonic()
            if saved - drawn >= _DRAW_EVERY:
                self.draw()
                drawn = time.monotonic()

    def progress(self) -> float:
        """How much of the training is done, 0..1: the schedule's clock."""
        c = self.config
        done = [
            0.0 if c.epochs is None else self.step / (c.epochs * len(self.loader)),
            0.0 if c.steps is None else self.step / c.steps,
            0.0 if c.minutes is None else self.seconds / (60 * c.minutes),
        ]
        return min(max(done), 1.0)

    def finished(self) -> bool:
        return self.progress() >= 1

    def _train_on(self, batch: Batch) -> None:
        factor = recipe.schedule(self.config.schedule, self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor
        seen = recipe.centre(batch.masks, output_size(self.model, *batch.masks.shape[1:]))
        if (seen != IGNORE_INDEX).any():  # else there is nothing to learn from it
            out = self.model(Tensor(batch.images).to(self.config.device))
            loss = self.loss(out, batch.masks, batch.instances)
            value = loss.item()
            if not math.isfinite(value):
                raise Diverged(f"step {self.step}: the loss is {value}: {self._too_fast()}")
            self.optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(self.model.parameters(), _MAX_NORM)
            self.optimizer.step()
            self.loss_sum, self.loss_count = self.loss_sum + value, self.loss_count + 1
            self._count(out, batch.masks)
        self.step += 1
        self.batch += 1

    def _count(self, out: Any, masks: np.ndarray) -> None:
        """Count the batch for the running mIoU that the progress bar shows."""
        logits = out["out"] if isinstance(out, dict) else out
        labels = logits.detach().argmax(1)
        truth = Tensor(recipe.centre(masks, labels.shape[1:])).to(labels.device)
        self.confusion.update(labels, truth)

    def _validate(self, reporter: Reporter) -> None:
        if self.history and self.history[-1]["step"] == self.step:
            return  # a finished run that is resumed
        done = 0

        def on_batch(batch: Batch, prediction: np.ndarray) -> None:
            nonlocal done
            if self.stop.asked:
                raise Stopped
            done += len(batch)
            reporter.validating(done / len(self.val_data))

        result = evaluate(
            self.model, self.val_data, self.normalise, self.loss, self.config.batch_size,
            on_batch=on_batch,
        )  # fmt: skip
        if result.confusion.matrix.any() and not math.isfinite(result.loss):
            raise Diverged(
                f"step {self.step}: the loss on the validation set is {result.loss}: "
                f"{self._too_fast()}"
            )
        self.last_evaluation = result
        iou = result.confusion.iou()
        self.history.append(
            {
                "step": self.step,
                "epoch": self.epoch + self.batch / len(self.loader),
                "seconds": round(self.seconds, 1),
                "lr": self.optimizer.param_groups[0]["lr"],
                "train_loss": self.loss_sum / max(self.loss_count, 1),
                "val_loss": result.loss,
                "val_pixel_accuracy": result.confusion.pixel_accuracy(),
                "val_mIoU": iou.mean,
            }
        )
        self.loss_sum, self.loss_count = 0.0, 0
        write_atomically(self.run / "metrics.csv", as_csv(self.history).encode())
        if not iou.mean <= self.best:  # without a score, NaN, the newest are the best there are
            self.best = iou.mean
            tree = {**self.description(), "model": self.model.state_dict(), "step": self.step}
            checkpoint.save(self.run / "best.safetensors", {**tree, "scores": self.history[-1]})

    def draw(self) -> None:
        """Write curves.png and samples.png, once there is something to show."""
        if not self.history:
            return
        title = f"{self.config.model} on {self.config.data}, step {self.step}"
        viz.save(viz.curves_figure(self.history, title), self.run / "curves.png")
        title += f": mean IoU {self.history[-1]['val_mIoU']:.3f} on the validation set"
        viz.save(self.samples_figure(title), self.run / "samples.png")

    def samples_figure(self, title: str, with_curves: bool = False) -> Any:
        """Up to three images of the validation set with what the network says of them."""
        indices = np.linspace(0, len(self.val_data) - 1, min(3, len(self.val_data)))
        samples = [self.val_data[int(index)] for index in indices]
        return viz.samples_figure(
            [sample.image for sample in samples],
            [sample.mask for sample in samples],
            [predict_labels(self.model, sample, self.normalise) for sample in samples],
            self.data.classes,
            self.data.palette,
            self.history if with_curves else (),
            title,
        )

    # -- small parts -------------------------------------------------------------------------------
    def _set_class_weights(self, weights: np.ndarray | None) -> None:
        self.class_weights = weights
        self.loss = recipe.build_loss(self.config, weights)

    def _too_fast(self) -> str:
        rate = self.optimizer.param_groups[0]["lr"]
        return (
            f"the images and labels are in order, so the likely cause is the learning rate "
            f"({rate:.2g} at this step); try --lr {self.config.lr / 10:.2g}"
        )


def as_csv(rows: Sequence[Mapping[str, float]]) -> str:
    """A table with a line for each row, and the names above."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
