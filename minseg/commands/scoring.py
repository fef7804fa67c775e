"""Scores and predictions of trained networks, and the list of networks: eval, predict, models."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from minseg.commands.terminal import console, need_folders, print_scores
from minseg.data import Batch
from minseg.evaluate import Evaluation, evaluate
from minseg.files import write_atomically


def eval(
    weights: str, data: str | None, data_root: str | None, split: str, boundaries: bool,
    crf: bool, batch_size: int | None, json: str | None, device: str | None,
) -> int:  # fmt: skip
    """Print, and maybe write, the scores of a network."""
    from minseg.network import load_network
    from minseg.pipeline import normalisation, open_split
    from minseg.progress import counting

    need_folders("eval", json)
    network = load_network(weights, device or "cpu")
    with counting(console, "looking through the masks for the classes", 1, after=2) as advance:
        dataset = open_split(network.config.on(data, data_root), split, True, advance)
    if tuple(dataset.classes) != network.classes:
        raise ValueError(
            f"eval: the network knows the classes {', '.join(network.classes)}; "
            f"{data or network.config.data} has {', '.join(dataset.classes)}"
        )
    sizes = set()

    def on_batch(batch: Batch, prediction: np.ndarray) -> None:
        sizes.add(batch.masks.shape[1:])
        advance(len(batch))

    with counting(console, "evaluating", len(dataset)) as advance:
        result = evaluate(
            network.model, dataset, normalisation(network.config, network.channels),
            batch_size=batch_size or network.config.batch_size, boundaries=boundaries, crf=crf,
            on_batch=on_batch,
        )  # fmt: skip
    print_scores(result)
    at = "x".join(map(str, sizes.pop())) if len(sizes) == 1 else f"{len(sizes)} different sizes"
    console.print(f"{len(dataset)} image{'s'[: len(dataset) > 1]} ({split}), scored at {at}")
    if json is not None:
        write_atomically(json, _as_json(result).encode())
    return 0


def predict(
    images: list[str], weights: str | None, out: str, features: str | None, device: str | None,
    **options: Any,
) -> int:  # fmt: skip
    """Label pictures, and those in folders; 1 if one of them could not be read."""
    from minseg.data import read_image
    from minseg.network import load_network
    from minseg.predict import feature_maps, find_layer, write_prediction
    from minseg.pretrained import STREET
    from minseg.progress import counting

    if weights is None:
        console.print(
            "no --weights: a small U-Net that comes with minseg, trained on drawn street scenes; "
            "of photos expect little"
        )
    network = load_network(STREET if weights is None else weights, device or "cpu")
    if features is not None:
        find_layer(network, features)  # before the pictures, which may take long
    Path(out).mkdir(parents=True, exist_ok=True)
    failed = 0
    paths = [picture for path in images for picture in _pictures(path)]
    for path, name in zip(paths, _output_names(paths), strict=True):
        try:
            image = read_image(path, network.channels)
        except (OSError, ValueError) as error:
            print(f"minseg: error: {error}", file=sys.stderr)
            failed += 1
            continue
        with counting(console, path, 1) as advance:
            written = write_prediction(
                network, image, Path(out) / name, on_progress=advance, **options
            )
        if features is not None:
            from minseg import viz

            figure = viz.features_figure(feature_maps(network, image, features), features)
            written.append(Path(out) / f"{name}_features_{features}.png")
            viz.save(figure, written[-1])
        console.print(f"{path}: {', '.join(str(file) for file in written)}")
    return 1 if failed else 0


def models() -> int:
    """List the networks."""
    from minseg.models import list_models

    table = Table("network", "what it is", box=None, pad_edge=False)
    for name, description in list_models().items():
        table.add_row(name, description)
    console.print(table)
    return 0


def _pictures(path: str) -> list[str]:
    """The image files of a folder (Windows' shells leave *.png as it is), else the path itself."""
    from minseg.data.files import image_files, not_empty

    if not Path(path).is_dir():
        return [path]
    return not_empty([str(file) for file in image_files(Path(path)).values()], path)


def _output_names(images: list[str]) -> list[str]:
    """A name for each picture's results; a second "a.png" from another folder becomes "a_2"."""
    names: list[str] = []
    for path in images:
        stem, number = Path(path).stem, 1
        name = stem
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return names


def _as_json(result: Evaluation) -> str:
    """The scores as JSON, null for what is absent."""
    confusion = result.confusion

    def number(value: float) -> float | None:
        return None if np.isnan(value) else value

    per_class = [confusion.iou(), confusion.dice(), confusion.class_accuracy()]
    per_class += [scores for scores in (result.boundary_iou, result.boundary_f) if scores]
    tree: dict[str, Any] = {
        "pixel accuracy": number(confusion.pixel_accuracy()),
        "frequency-weighted IoU": number(confusion.frequency_weighted_iou()),
    }
    for scores in per_class:
        values = {name: number(value) for name, value in zip(scores.classes, scores, strict=True)}
        tree[scores.metric] = {"mean": number(scores.mean), "classes": values}
    return json.dumps(tree, indent=1)
