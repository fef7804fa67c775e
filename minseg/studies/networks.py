"""`minseg study networks`: all networks on real images, one after the other, on all cores.

CamVid: trained at 160x120 for so many minutes, as `minseg train` does by default; the best weights
are scored on the validation images at 480x360, void ignored, one confusion matrix over all pixels.
ISBI and nuclei: a U-Net each. What is finished is kept in the output folder, a file a network, and
a run that was stopped goes on.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from minseg import recipe
from minseg.checkpoint import write_atomically
from minseg.config import Config, configure, normalisation, open_split
from minseg.data import Dataset
from minseg.evaluate import evaluate, evaluating, forward, predict_labels
from minseg.metrics import InstanceAP, connected_components
from minseg.predict import Network, load_network
from minseg.studies.results import RECORDED
from minseg.summary import summary
from minseg.tensor import Tensor
from minseg.train import Stopped, Trainer

# The deeper variants of a family (ResNet-101, SegFormer-B2 to B5) are too slow to get anywhere in
# minutes; the patch classifier is for lessons.
NETWORKS = (
    "plain_cnn", "fcn32s", "fcn16s", "fcn8s", "fcn_resnet50", "segnet", "unet", "unetplusplus",
    "attention_unet", "pspnet", "fpn", "deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus",
    "deeplabv3plus_xception65", "deeplabv3plus_mobilenet_v2", "segformer_b0", "segformer_b1",
)  # fmt: skip
SIZE, BATCH = (120, 160), 8
MINUTES = 6.0
RUNS = 5  # of a training step and of a prediction, to be timed

Budget = dict[str, Any]  # {"minutes": 6.0} or {"steps": 100}
Progress = Callable[[Trainer], Any]  # makes the bar of a run: a context, as Trainer.fit takes it


@dataclass(frozen=True)
class Row:
    """One network on CamVid. parameters, multiply-adds of one image of 160x120, images a second."""

    network: str
    miou: float
    boundary_iou: float
    parameters: int
    multiply_adds: int
    training_rate: float
    prediction_rate: float
    steps: int


def camvid_row(name: str, budget: Budget, out: Path, progress: Progress | None = None) -> Row:
    """Train a network, or go on, and score it; of what is finished, its row. Raises Stopped."""
    file = out / f"{name}.json"
    if file.is_file():
        return Row(**json.loads(file.read_text()))
    config = configure(name, "camvid", **budget)
    trainer = _trained(config, out / name, progress)
    network = load_network(out / name)
    row = row_of(name, network, open_split(config, "val", full_labels=True), trainer.step)
    write_atomically(file, json.dumps(asdict(row)).encode())
    return row


def row_of(name: str, network: Network, dataset: Dataset, steps: int) -> Row:
    """Score a network that is trained, and measure what it costs."""
    normalise = normalisation(network.config, network.channels)
    found = evaluate(network.model, dataset, normalise, boundaries=True)
    cost = summary(network.model, (network.channels, *SIZE))
    training, prediction = rates(network)
    assert found.boundary_iou is not None
    return Row(
        name, found.confusion.mean_iou(), found.boundary_iou.mean, cost.total_parameters,
        cost.total_multiply_adds, training, prediction, steps,
    )  # fmt: skip


def rates(network: Network) -> tuple[float, float]:
    """Images a second, in training and in prediction, in batches of 8 images of 160x120.

    The weights change: take a network that has been scored.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, network.channels, *SIZE), dtype=np.float32)
    masks = rng.integers(0, len(network.classes), (BATCH, *SIZE))
    optimizer = recipe.build_optimizer(network.config, network.model.train())
    loss_of = recipe.build_loss(network.config)

    def train() -> None:
        loss = loss_of(network.model(Tensor(images)), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def predict() -> None:
        with evaluating(network.model):
            forward(network.model, images, SIZE)

    return BATCH / _seconds(train), BATCH / _seconds(predict)


def _seconds(run: Callable[[], None]) -> float:
    """The median of RUNS, after one that warms up."""
    times = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def isbi_scores(budget: Budget, out: Path, progress: Progress | None = None) -> dict[str, float]:
    """The U-Net as its paper has it: valid convolutions, overlap-tile, elastic deformation."""
    config = configure("unet", "isbi", {"width": 8, "padding": "valid"}, crop=(268, 268), **budget)

    def scores(network: Network) -> dict[str, float]:
        dataset, normalise = open_split(config, "val"), normalisation(config, 1)
        found = evaluate(network.model, dataset, normalise, batch_size=1)
        return {"pixel error": 1 - found.confusion.pixel_accuracy()}

    return _kept("isbi", config, out, progress, scores)


def nuclei_scores(budget: Budget, out: Path, progress: Progress | None = None) -> dict[str, float]:
    """IoU of the foreground, and AP and F1 at IoU 0.5 of its connected components."""
    config = configure("unet", "nuclei", {"width": 8}, **budget)

    def scores(network: Network) -> dict[str, float]:
        dataset, normalise = open_split(config, "val"), normalisation(config, 3)
        found = evaluate(network.model, dataset, normalise, batch_size=1)
        instances = InstanceAP()
        for index in range(len(dataset)):
            sample = dataset[index]
            labels = predict_labels(network.model, sample, normalise)
            assert sample.instances is not None
            instances.update(connected_components(labels == 1), sample.instances)
        return {"foreground IoU": found.confusion.iou()["nucleus"],
                "AP at 0.5": instances.ap, "F1 at 0.5": instances.f1}  # fmt: skip

    return _kept("nuclei", config, out, progress, scores)


def _kept(
    name: str, config: Config, out: Path, progress: Progress | None,
    scores: Callable[[Network], dict[str, float]],
) -> dict[str, float]:  # fmt: skip
    file = out / f"{name}.json"
    if not file.is_file():
        _trained(config, out / name, progress)
        write_atomically(file, json.dumps(scores(load_network(out / name))).encode())
    return json.loads(file.read_text())


def _trained(config: Config, run: Path, progress: Progress | None) -> Trainer:
    """The run in that folder, begun or gone on with, to its end. Raises Stopped."""
    begun = (run / "last.safetensors").is_file()
    trainer = Trainer.resume(run) if begun else Trainer(config, run)
    with progress(trainer) if progress else nullcontext() as bar:
        if not trainer.fit(bar):
            raise Stopped
    return trainer


def recorded() -> dict[str, Any]:
    """What came with this version: "camvid", a list of `Row`; "isbi", "nuclei", "made": dicts.

    Raises FileNotFoundError where nothing was recorded.
    """
    file = RECORDED / "networks.json"
    if not file.is_file():
        raise FileNotFoundError("networks: not recorded yet: minseg study networks --record")
    tree = json.loads(file.read_text(encoding="utf-8"))
    return {**tree, "camvid": [Row(**row) for row in tree["camvid"]]}


def markdown(rows: list[Row]) -> str:
    """The table, the best first."""
    lines = [
        "| network | mIoU | boundary IoU | parameters | multiply-adds | training | prediction |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row.miou):
        lines.append(
            f"| {row.network} | {row.miou:.3f} | {row.boundary_iou:.3f} "
            f"| {row.parameters / 1e6:.2f} M | {row.multiply_adds / 1e9:.2f} G "
            f"| {row.training_rate:.1f} /s | {row.prediction_rate:.1f} /s |"
        )
    return "\n".join(lines)


def figure(rows: list[Row]) -> Any:
    """Accuracy against cost; the names stand in a column beside, a line leads to each."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 6), layout="constrained")
    axis = drawn.subplots()
    ranked = sorted(rows, key=lambda row: row.miou)
    cost = np.array([row.multiply_adds / 1e9 for row in ranked])
    score = np.array([row.miou for row in ranked])
    low, high = score.min() - 0.02, score.max() + 0.02
    axis.scatter(cost, score, s=60, color="#0072b2", zorder=3)
    right = cost.max() * 1.6
    for row, x, y, at in zip(ranked, cost, score, np.linspace(low, high, len(rows) + 2)[1:-1],
                             strict=True):  # fmt: skip
        axis.plot([x, right], [y, at], color="0.8", linewidth=0.8, zorder=1, clip_on=False)
        axis.text(right * 1.03, at, f"{row.network} {y:.3f}", va="center", fontsize=10.5)
    axis.set_xscale("log")
    axis.set(xlim=(cost.min() / 1.3, right), ylim=(low, high))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("multiply-adds of one image of 160x120, in thousand millions", fontsize=12)
    axis.set_ylabel("mean IoU on CamVid's validation images", fontsize=12)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return drawn
