"""`minseg study networks`: all networks on real images, each in a process with one thread.

CamVid: each is trained at 160x120 for the same CPU time, as `minseg train` does by default. The
best weights are scored on the validation images at 480x360, void ignored, with one confusion matrix
over all pixels. On ISBI (for twice the time) and nuclei, a U-Net each. Finished networks are kept
in the output folder, a file for each, and a run that was stopped goes on. Speed is measured at the
end, one network at a time, on all cores.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from minseg import recipe
from minseg.inference import evaluating, forward
from minseg.network import Network
from minseg.parallel import get_num_threads
from minseg.studies.results import RECORDED
from minseg.studies.run import run_module
from minseg.summary import summary
from minseg.tensor import Tensor

# The deeper variants of a family (ResNet-101, SegFormer-B2 to B5) are too slow to get anywhere in
# minutes; the patch classifier is for lessons.
NETWORKS = (
    "plain_cnn", "fcn32s", "fcn16s", "fcn8s", "fcn_resnet50", "segnet", "unet", "unetplusplus",
    "attention_unet", "pspnet", "fpn", "deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus",
    "deeplabv3plus_xception65", "deeplabv3plus_mobilenet_v2", "segformer_b0", "segformer_b1",
)  # fmt: skip
OTHERS = ("isbi", "nuclei")  # other data, each with its U-Net
SIZE, BATCH = (120, 160), 8
MINUTES = 6.0  # of CPU time
RUNS = 5  # timed runs of a training step and of a prediction

Scores = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One network on CamVid. multiply_adds: of one image of 160x120. Rates: images per second."""

    network: str
    miou: float
    boundary_iou: float
    parameters: int
    multiply_adds: int
    training_rate: float
    prediction_rate: float
    steps: int


def train_all(
    budget: tuple[str, float], out: Path, done: Callable[[str, Scores], None]
) -> dict[str, Scores]:
    """The scores of all NETWORKS and OTHERS; those in `out` are not trained again.

    As many run at once as there are cores. budget: ("minutes", CPU minutes) or ("steps", number).
    done: called with each one's name and scores, in the order in which they end. Raises
    RuntimeError with the error of one that fails; those that were finished are kept.
    """
    scores = {}
    with ThreadPoolExecutor(get_num_threads()) as pool:
        waiting = {pool.submit(_train, name, budget, out): name for name in NETWORKS + OTHERS}
        try:
            for future in as_completed(waiting):
                name = waiting[future]
                scores[name] = future.result()
                done(name, scores[name])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return scores


def _train(name: str, budget: tuple[str, float], out: Path) -> Scores:
    file = out / f"{name}.json"
    if not file.is_file():
        run_module(name, "minseg.studies.network_worker", name, *map(str, budget), str(out))
    return json.loads(file.read_text())


def row_of(name: str, scores: Scores, network: Network) -> Row:
    """A trained network's scores, and its costs, which are measured here. Its weights change."""
    cost = summary(network.model, (network.channels, *SIZE))
    training, prediction = rates(network)
    return Row(
        name, scores["mIoU"], scores["boundary IoU"], cost.total_parameters,
        cost.total_multiply_adds, training, prediction, int(scores["steps"]),
    )  # fmt: skip


def rates(network: Network) -> tuple[float, float]:
    """Images per second, in training and in prediction, in batches of 8 images of 160x120.

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
    """The median of RUNS, after one to warm up."""
    times = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def recorded() -> dict[str, Any]:
    """The results of this version: "camvid", a list of `Row`; "isbi", "nuclei", "made": dicts.

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
    """Accuracy against cost; lines join the points to their names, in a column beside them."""
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
