"""Train on real images, stop, resume, predict: what CI checks where MINSEG_DATA is.

Usage: python .ci/real_images.py FOLDER    (everything is written into FOLDER)
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from minseg import checkpoint

LOCATION_PRIOR = 0.17  # mIoU of always naming a place's most frequent class
AT_LEAST = LOCATION_PRIOR + 0.05


def minseg(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "minseg", *map(str, arguments)], check=True)


def train(*arguments: object) -> list[str]:
    command = [sys.executable, "-m", "minseg", "train", "--model", "unet", "--data", "camvid"]
    return [*command, *map(str, arguments)]


def three_minutes_beat_the_location_prior(folder: Path) -> None:
    run = folder / "timed"
    subprocess.run(train("--minutes", 3, "--out", run), check=True)
    minseg("eval", "--weights", run, "--json", folder / "scores.json")
    score = json.loads((folder / "scores.json").read_text())["IoU"]["mean"]
    print(f"mIoU after three minutes: {score:.3f}, needs {AT_LEAST:.2f}")
    assert score >= AT_LEAST


def a_killed_run_resumes_to_the_same_bits(folder: Path) -> None:
    short = ("--width", 8, "--steps", 60, "--save-every", 2)
    whole, killed = folder / "whole", folder / "killed"
    subprocess.run(train(*short, "--out", whole), check=True)
    process = subprocess.Popen(train(*short, "--out", killed))
    while not (killed / "last.safetensors").exists() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(3)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    minseg("train", "--resume", killed)
    same = weights(whole) == weights(killed)
    print(f"killed and resumed, against never stopped: {'the same bits' if same else 'DIFFERENT'}")
    assert same


def weights(run: Path) -> dict[str, bytes]:
    model = checkpoint.load(run / "last.safetensors")["model"]
    return {name: array.tobytes() for name, array in model.items()}


def predicts(folder: Path) -> None:
    images = sorted(Path(os.environ["MINSEG_DATA"]).glob("camvid/native_480x360/val/*.png"))
    assert images, "no CamVid images to predict on"
    out = folder / "predictions"
    minseg("predict", images[0], "--weights", folder / "timed", "--out", out)
    made = {path.name.removeprefix(images[0].stem) for path in out.iterdir()}
    assert {"_mask.png", "_overlay.png", "_confidence.png", "_figure.png"} <= made, made


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    three_minutes_beat_the_location_prior(target)
    a_killed_run_resumes_to_the_same_bits(target)
    predicts(target)
