"""What a training run shows while it goes on: a bar on a terminal, and a line each validation."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from minseg.train import Reporter, Trainer


@contextmanager
def counting(
    console: Console, title: str, total: int, after: float = 0
) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal; yields a function to be called with how much more is done.

    after: seconds until the bar shows, for what mostly takes less.
    """
    if not console.is_terminal:  # rich below 14.3 would write an empty line for a bar that is off
        yield lambda count: None
        return
    bar = Progress(console=console, transient=True)
    task = bar.add_task(title, total=total)
    begun = time.monotonic()

    def advance(count: float) -> None:
        if time.monotonic() - begun >= after:
            bar.start()
        bar.advance(task, count)

    try:
        advance(0)
        yield advance
    finally:
        bar.stop()


SHOW_EVERY = 0.1  # seconds: as often as the bar is drawn


class TrainingProgress(Reporter):
    """Shows loss, mIoU, images a second and the time left, or a validation; a context manager.

    The bar's mIoU is that of the epoch's training batches so far, the lines' that of the validation
    set.
    """

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.recent: deque[tuple[float, int]] = deque(maxlen=20)  # time and images of a step
        self.start: tuple[float, float] | None = None  # time and progress at the first step
        self.shown = -SHOW_EVERY  # when the status was last made
        self.bar = Progress(
            # A long name must not take the room of the bar, nor of the percent sign.
            TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=20)),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:3.0f}%", table_column=Column(no_wrap=True, min_width=4)),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task(title, total=1.0, status="starting")

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.stop()

    def step(self, trainer: Trainer, images: int) -> None:
        now, done = time.monotonic(), trainer.progress()
        self.recent.append((now, images))
        self.start = self.start or (now, done)
        if now - self.shown < SHOW_EVERY:
            return  # to read the mIoU is to wait for a GPU
        self.shown = now
        loss = trainer.loss_sum / max(trainer.loss_count, 1)
        status = (
            f"loss {loss:.3f}  mIoU {trainer.confusion.mean_iou():.3f}  "
            f"{self._rate():.0f} images/s  {self._left(now, done)} left"
        )
        self.bar.update(self.task, completed=done, status=status)

    def validating(self, share: float) -> None:
        """The bar stands still meanwhile: a validation is no part of the training."""
        self.bar.update(self.task, status=f"validating {share:.0%}")

    def evaluated(self, trainer: Trainer) -> None:
        row = trainer.history[-1]
        star = "  (best)" if row["val_mIoU"] == trainer.best else ""
        rate = f"  {self._rate():.0f} images/s" if self.recent else ""
        self.console.print(
            f"epoch {row['epoch']:5.1f}  step {row['step']:5.0f}  loss {row['train_loss']:.3f}  "
            f"validation: loss {row['val_loss']:.3f}  mIoU {row['val_mIoU']:.3f}{rate}{star}",
            highlight=False,
        )

    def _rate(self) -> float:
        if len(self.recent) < 2:
            return 0.0
        seconds = self.recent[-1][0] - self.recent[0][0]
        return sum(images for _, images in list(self.recent)[1:]) / max(seconds, 1e-9)

    def _left(self, now: float, done: float) -> str:
        if self.start is None or done <= self.start[1]:
            return "?"
        seconds = (now - self.start[0]) * (1 - done) / (done - self.start[1])
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
