"""One network of `minseg study networks`, in a process of its own.

python -m minseg.studies.network_worker NAME minutes M DIR trains it in DIR/NAME, or goes on there,
and writes its scores to DIR/NAME.json. Minutes are CPU time, so that other work on the machine does
not shorten the training.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from minseg import set_num_threads
from minseg.config import Config, configure
from minseg.evaluate import evaluate, predict_labels
from minseg.files import write_atomically
from minseg.metrics import InstanceAP, connected_components
from minseg.network import Network, load_network
from minseg.pipeline import normalisation, open_split
from minseg.train import Trainer


def main(name: str, unit: str, budget: str, out: str) -> None:
    set_num_threads(1)
    run = Path(out) / name
    begun = (run / "last.safetensors").is_file()
    limit = {unit: float(budget) if unit == "minutes" else int(budget)}
    trainer = Trainer.resume(run) if begun else Trainer(config_of(name, **limit), run)
    trainer.clock = time.process_time
    if not trainer.fit():
        sys.exit("stopped; the same command goes on")
    network = load_network(run)
    scores = _SCORES.get(name, camvid_scores)(network)
    text = json.dumps({**scores, "steps": trainer.step})
    write_atomically(Path(out) / f"{name}.json", text.encode())


def config_of(name: str, **limit: Any) -> Config:
    if name == "isbi":  # as the paper has it: valid convolutions, dropout, elastic deformation
        options = {"width": 8, "padding": "valid", "dropout": 0.5}
        # Of a tile of 508 pixels 324 come out: the rest is thrown away, so it gets twice the time.
        twice = {unit: 2 * number for unit, number in limit.items()}
        return configure("unet", "isbi", options, crop=(508, 508), batch_size=4, **twice)
    if name == "nuclei":
        return configure("unet", "nuclei", {"width": 8}, **limit)
    return configure(name, "camvid", **limit)


def camvid_scores(network: Network) -> dict[str, float]:
    dataset = open_split(network.config, "val", full_labels=True)
    normalise = normalisation(network.config, network.channels)
    found = evaluate(network.model, dataset, normalise, boundaries=True)
    assert found.boundary_iou is not None
    return {"mIoU": found.confusion.mean_iou(), "boundary IoU": found.boundary_iou.mean}


def isbi_scores(network: Network) -> dict[str, float]:
    """By the overlap-tile strategy, as `evaluate` takes it for valid convolutions."""
    dataset, normalise = open_split(network.config, "val"), normalisation(network.config, 1)
    found = evaluate(network.model, dataset, normalise, batch_size=1)
    return {"pixel error": 1 - found.confusion.pixel_accuracy()}


def nuclei_scores(network: Network) -> dict[str, float]:
    """IoU of the foreground, and AP and F1 at IoU 0.5 of its connected components."""
    dataset, normalise = open_split(network.config, "val"), normalisation(network.config, 3)
    found = evaluate(network.model, dataset, normalise, batch_size=1)
    instances = InstanceAP()
    for index in range(len(dataset)):
        sample = dataset[index]
        labels = predict_labels(network.model, sample, normalise)
        assert sample.instances is not None
        instances.update(connected_components(labels == 1), sample.instances)
    return {"foreground IoU": found.confusion.iou()["nucleus"],
            "AP at 0.5": instances.ap, "F1 at 0.5": instances.f1}  # fmt: skip


_SCORES = {"isbi": isbi_scores, "nuclei": nuclei_scores}


if __name__ == "__main__":
    main(*sys.argv[1:])
