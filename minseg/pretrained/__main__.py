"""Train the weights that come with minseg: python -m minseg.pretrained [FILE] [--steps N].

About five minutes on one core. The same seed and steps give the same bits on the same machine.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from minseg import checkpoint
from minseg.config import configure
from minseg.network import load_network
from minseg.pretrained import STREET
from minseg.progress import TrainingProgress
from minseg.train import Trainer

COMMAND = "python -m minseg.pretrained"
STEPS = 625  # five epochs


def main(file: Path, steps: int) -> None:
    config = configure(
        "unet", "street", {"width": 12, "depth": 3}, images=1000, steps=steps, lr=5e-3,
        size=(96, 128), crop=(96, 128), augment="scene", class_weights="invlog", workers=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(config, run)
        with TrainingProgress(Console(), "street") as progress:
            if not trainer.fit(progress):
                raise SystemExit("stopped: nothing is written")
        best = checkpoint.load(Path(run) / "best.safetensors")
    command = COMMAND if steps == STEPS else f"{COMMAND} --steps {steps}"
    checkpoint.save(file, {**best, "command": command})
    load_network(file)  # raises where it could not be used
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB, mean IoU {trainer.best:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train minseg's own weights.")
    parser.add_argument("file", nargs="?", type=Path, default=STREET)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    main(options.file, options.steps)
