"""The table of all networks: what is counted, what is kept, what is printed."""

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from minseg import manual_seed
from minseg.cli import main
from minseg.config import Config, configure
from minseg.data import Batch, Street
from minseg.models import list_models
from minseg.network import Network
from minseg.recipe import build_model
from minseg.studies import commands, network_worker, networks
from minseg.studies.networks import NETWORKS, OTHERS, Row, row_of, train_all
from minseg.train import Trainer


def a_row(name: str, miou: float) -> Row:
    return Row(name, miou, 0.2, 1_500_000, 2_340_000_000, 10.0, 30.0, 7)


def test_all_networks_exist_and_have_defaults_of_their_own():
    assert set(NETWORKS) <= set(list_models())
    assert all("width" in configure(name, "camvid", minutes=1).options for name in NETWORKS)


def test_a_row_counts_what_the_network_costs():
    """A plain CNN of one 3x3 convolution from 3 to 4 channels, and a 1x1 to 7 classes."""
    manual_seed(0)
    config = configure("plain_cnn", "street", {"width": 4, "depth": 1, "norm": None}, steps=1)
    model = build_model(config, 7, 3)
    street = Street(2, (24, 32))
    network = Network(model, config, street.classes, street.palette, 3)
    row = row_of("plain_cnn", {"mIoU": 0.3, "boundary IoU": 0.1, "steps": 5}, network)
    assert row.parameters == (27 + 1) * 4 + (4 + 1) * 7
    assert row.multiply_adds == 120 * 160 * (27 * 4 + 4 * 7)
    assert (row.miou, row.boundary_iou, row.steps) == (0.3, 0.1, 5)
    assert row.prediction_rate > row.training_rate > 0


def test_what_is_finished_is_not_trained_again(tmp_path):
    for name in NETWORKS + OTHERS:
        (tmp_path / f"{name}.json").write_text(json.dumps({"mIoU": 0.4}))
    seen = []
    scores = train_all(("steps", 1), tmp_path, lambda name, found: seen.append(name))
    assert scores == {name: {"mIoU": 0.4} for name in NETWORKS + OTHERS}
    assert sorted(seen) == sorted(NETWORKS + OTHERS)


def test_a_run_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "NETWORKS", ("no_such_network",))
    monkeypatch.setattr(networks, "OTHERS", ())
    monkeypatch.delenv("MINSEG_DATA", raising=False)
    with pytest.raises(RuntimeError, match=r"(?s)no_such_network: \w+: .*MINSEG_DATA"):
        train_all(("steps", 1), tmp_path, lambda name, found: None)


def test_a_network_is_trained_for_cpu_time_scored_and_gone_on_with(tmp_path, monkeypatch):
    """A run of 1.2 CPU seconds on drawn streets; what it sleeps after each step does not count."""
    train_on, spent = Trainer._train_on, []

    def sleepy(trainer: Trainer, batch: Batch) -> None:
        before = time.process_time()
        train_on(trainer, batch)
        spent.append(time.process_time() - before)
        time.sleep(2 * spent[-1])

    def config(name: str, **limit: float) -> Config:
        how = {"images": 8, "eval_every": 10_000, "workers": 0, **limit}
        return configure("plain_cnn", "street", {"width": 4}, **how)

    monkeypatch.setattr(Trainer, "_train_on", sleepy)
    monkeypatch.setattr(network_worker, "config_of", config)
    monkeypatch.setattr(network_worker, "set_num_threads", lambda number: None)
    network_worker.main("plain_cnn", "minutes", "0.02", str(tmp_path))
    scores = json.loads((tmp_path / "plain_cnn.json").read_text())
    assert set(scores) == {"mIoU", "boundary IoU", "steps"}
    assert scores["steps"] == len(spent)
    assert sum(spent) > 0.5 * 1.2  # by the clock on the wall it would be less than a third
    network_worker.main("plain_cnn", "minutes", "0.02", str(tmp_path))  # its time is over
    assert json.loads((tmp_path / "plain_cnn.json").read_text()) == scores


def test_the_table_has_the_best_first():
    lines = networks.markdown([a_row("worse", 0.3), a_row("better", 0.5)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| better | 0.500 | 0.200 | 1.50 M | 2.34 G | 10.0 /s | 30.0 /s |"
    assert lines[3].startswith("| worse |")


def test_names_in_the_figure_do_not_overlap():
    rng = np.random.default_rng(0)
    figure = networks.figure([a_row(name, 0.4 + 0.01 * rng.random()) for name in NETWORKS])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(NETWORKS)
    boxes.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
    assert all(figure.bbox.x1 >= box.x1 for box in boxes)


def test_a_record_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "RECORDED", tmp_path)
    with pytest.raises(FileNotFoundError, match="minseg study networks --record"):
        networks.recorded()
    tree = {"camvid": [a_row("unet", 0.4).__dict__], "isbi": {"pixel error": 0.08}}
    (tmp_path / "networks.json").write_text(json.dumps(tree))
    assert networks.recorded() == {"camvid": [a_row("unet", 0.4)], "isbi": {"pixel error": 0.08}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("skips --minutes 1", "--minutes is for networks"),
        ("networks --seeds 3", "--seeds is not for networks"),
        ("networks --minutes 1 --budget 4", "give one"),
        ("--record", "which one?"),
        ("--seeds 3", "which one?"),
    ],
)
def test_no_option_is_taken_and_left_unheard(words, message, capsys):
    assert main(["study", *words.split()]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("budget", [("minutes", 0.5), ("steps", 3)])
def test_a_record_says_the_command_that_made_it(tmp_path, monkeypatch, budget):
    kept = {}
    monkeypatch.setattr(networks, "train_all", lambda *_: {name: {} for name in NETWORKS + OTHERS})
    monkeypatch.setattr(networks, "row_of", lambda name, *_: a_row(name, 0.4))
    monkeypatch.setattr(commands, "load_network", lambda folder: None)
    monkeypatch.setattr(commands, "keep", lambda name, text: kept.update({name: json.loads(text)}))
    monkeypatch.setattr(commands, "RECORDED", tmp_path / "recorded")
    (tmp_path / "recorded").mkdir()
    commands.run_networks(Console(), budget, tmp_path, record=True)
    option = {"minutes": "--minutes 0.5", "steps": "--budget 3"}[budget[0]]
    assert kept["networks"]["made"]["command"] == f"minseg study networks {option} --record"
    assert (tmp_path / "recorded" / "networks.png").is_file()


def test_the_table_of_the_readme_is_the_recorded_one():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert networks.markdown(networks.recorded()["camvid"]) in readme
