"""Training: demo, train."""

import json
import os
from pathlib import Path
from typing import Any

from minseg.commands.terminal import console, print_scores


def train(resume: str | None, out: str | None, **options: Any) -> int:
    """Train a new run or go on with one; 130 if it was stopped."""
    from minseg.config import configure
    from minseg.progress import counting
    from minseg.train import Trainer

    looking = counting(console, "looking through the masks for the classes", 1, after=2)
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        with looking as advance:
            trainer = Trainer.resume(resume, advance, **_changes(given))
        console.print(f"going on with {resume} at step {trainer.step}")
    else:
        model, data = given.pop("model", "unet"), given.pop("data", "shapes")
        given["options"] = _network_options(given)
        for name in ("data_root", "init"):
            if given.get(name):
                given[name] = os.path.abspath(given[name])
        if data.startswith("folder:"):
            data = "folder:" + os.path.abspath(data.removeprefix("folder:"))
        config, run = configure(model, data, **given), _new_run(out, model, data)
        with looking as advance:
            trainer = Trainer(config, run, advance)
    return _fit(trainer)


def demo(data: str, seconds: float, out: str | None, seed: int) -> int:
    """Train for `seconds` on drawn images; figure and IoU. Without `out`, over the last demo."""
    from minseg.demo import Demo

    out = "out/demo" if out is None else str(_unused(out))
    trainer = Demo(data, seconds, seed, out)
    code = _fit(trainer)
    if trainer.last_evaluation is not None:
        console.print("at the last step, which the figure shows:")
        print_scores(trainer.last_evaluation)
        console.print(f"\nfigure: {trainer.figure}", style="bold")
        console.print(f"next:   minseg predict PICTURE --weights {out} --out {out}")
    return code


def _fit(trainer: Any) -> int:
    from minseg.progress import TrainingProgress

    title = f"{trainer.config.model} on {trainer.config.data}"
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    console.print(
        f"{title}: {parameters:,} parameters, {len(trainer.data)} images, "
        f"{len(trainer.val_data)} to validate; run folder {trainer.run}"
    )
    with TrainingProgress(console, title) as progress:
        finished = trainer.fit(progress)
    if not finished:
        console.print(
            f"stopped at step {trainer.step}; go on with: minseg train --resume {trainer.run}"
        )
        return 130
    console.print(f"best mean IoU on the validation set: {trainer.best:.4f}")
    return 0


# The options that `--resume` may change: how long to train, and those that do not affect weights.
_CHANGEABLE = ("epochs", "steps", "minutes", "workers", "data_root", "device", "save_every")


def _network_options(given: dict[str, Any]) -> dict[str, Any]:
    """Takes --width, --depth, --norm and --option NAME=VALUE out of what was given."""
    options = {name: given.pop(name) for name in ("width", "depth", "norm") if name in given}
    for text in given.pop("option", []):
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--option {text}: needs NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return {name: None if value == "none" else value for name, value in options.items()}


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of the record that `--resume` is to change. Raises ValueError for any other."""
    fixed = [name for name in given if name not in _CHANGEABLE]
    if fixed:
        option = "--" + fixed[0].replace("_", "-")
        raise ValueError(f"{option}: a resumed run keeps what it was started with; leave it out")
    budget = {"epochs": None, "steps": None, "minutes": None}
    return {**budget, **given} if set(budget) & set(given) else given


def _new_run(out: str | None, model: str, data: str) -> Path:
    """A folder for a new run, without an earlier run in it."""
    if out is not None:
        return _unused(out)
    base = f"{model}-{Path(data.partition(':')[2]).name or data}"
    run, number = Path("runs") / base, 1
    while run.exists():
        number += 1
        run = Path("runs") / f"{base}-{number}"
    return run


def _unused(out: str) -> Path:
    """The folder. Raises ValueError if it has a run already, whose weights would be overwritten."""
    if (Path(out) / "last.safetensors").exists():
        raise ValueError(f"--out {out}: has a run already; choose another name, or train --resume")
    return Path(out)
