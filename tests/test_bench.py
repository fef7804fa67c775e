import importlib
import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import minseg.functional as F
from minseg import Tensor
from minseg.bench import report, run
from minseg.bench.cases import OPS, LabelCase, ModelCase
from minseg.bench.explain import convolutions, table
from minseg.bench.run import Engine, Timing, machine
from minseg.cli import main
from minseg.ops.fast import channels_last, conv2d, patch_rows

TIMING = Timing(
    "conv2d 3x3",
    "op",
    {"minseg": [0.004, 0.002, 0.003], "torch": [0.002, 0.002, 0.001]},
    {"minseg": 3_000_000, "torch": 2_000_000},
)


def printed(table):
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("case", OPS, ids=lambda case: case.name)
def test_every_case_runs_at_a_batch_of_one(case):
    """The shapes fit together, and every tensor that is no constant gets a gradient."""
    rng = np.random.default_rng(0)
    first = case.shapes[0][0]
    shapes = [(1, *s[1:]) if len(s) > 2 and s[0] == first == 8 else s for s in case.shapes]
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    if isinstance(case, LabelCase):
        arrays[-1] = rng.integers(0, case.classes, shapes[-1])
    variables = len(arrays) - case.constants
    tensors = [Tensor(a, requires_grad=i < variables) for i, a in enumerate(arrays)]
    y = case.call(F, *tensors)
    y.backward(np.ones(y.shape, np.float32))
    assert all(tensor.grad is not None for tensor in tensors[:variables])


def test_the_ratio_is_the_median_over_the_rounds():
    assert TIMING.ratio == 2  # of 2, 1 and 3
    assert Timing("x", "op", {"minseg": [1.0]}).ratio is None


def test_an_engine_answers_and_says_what_went_wrong():
    number = next(i for i, case in enumerate(OPS) if case.name == "mse_loss")
    with Engine("minseg") as engine:
        engine.ask(op=number)
        assert 0 < engine.seconds() < 10
        engine.ask(model="unet", options={"width": 2}, shape=[1, 16, 24], task="train")
        assert engine.seconds() > 0
        assert engine.ask(memory=True)["bytes"] >= 0
        with pytest.raises(RuntimeError, match="no model is called 'unett'"):
            engine.ask(model="unett", options={}, shape=[1, 16, 16], task="train")


def test_a_run_is_timed_after_warming_up(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(run.__file__).parent))  # where the script finds `cases`
    engine = importlib.import_module("engine")
    now = 0.0
    durations = iter([0.5 * engine.WARM_UP, 0.3 * engine.WARM_UP, 0.3 * engine.WARM_UP, 7.0, 9.0])

    def action():
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(engine.time, "perf_counter", lambda: now)
    assert engine.seconds_of(action) == pytest.approx(7)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_an_engine_that_is_interrupted_says_nothing(capfd):
    with Engine("minseg") as engine:
        engine.ask(memory=True)  # it is up
        engine.process.send_signal(signal.SIGINT)
        assert engine.process.wait(30) == -signal.SIGINT
    assert capfd.readouterr().err == ""


def test_tables():
    text = printed(report.table("ops", [TIMING]))
    for cell in ("conv2d 3x3", "3.00", "2.00", "2.00", "3", "1.50"):
        assert cell in text
    assert "0 of 1 within 1.5" in report.verdict([TIMING])
    assert "not installed" in report.verdict([Timing("x", "op", {"minseg": [1.0]})])


def test_json_keeps_every_run():
    tree = json.loads(report.as_json({"threads": "2"}, {}, [TIMING]))
    assert tree["timings"][0]["seconds"] == TIMING.seconds
    assert tree["timings"][0]["ratio"] == 2


def test_growth_figure():
    curve = [(64, TIMING), (128, TIMING)]
    figure = report.growth_figure({"side": curve, "pixels": curve, "width": curve})
    assert len(figure.axes) == 6
    for axis in figure.axes:  # a curve as flat as this one looks so
        low, high = axis.get_ylim()
        assert high >= 0.99 * report.LEAST_RANGE * low


def test_explain_counts_the_multiply_adds():
    case = ModelCase("unet", 1, 32, 48)
    calls = convolutions(case)
    assert calls[0].w_shape == (16, 3, 3, 3)
    assert calls[0].multiply_adds == 32 * 48 * 16 * 3 * 9
    assert "im2col" in calls[0].algorithm
    assert calls[-1].algorithm.startswith("the pixels as they lie")
    assert "GFLOP/s" in printed(table(case, calls))


def note_inputs(monkeypatch, *ways):
    """A list of the shapes of all that these ways to convolve are given from now on."""
    taken = []

    def noted(forward):
        return lambda x, *rest: taken.append(x.shape) or forward(x, *rest)

    for way in ways:
        monkeypatch.setattr(way, "forward", noted(way.forward))
    return taken


def test_explain_knows_convolutions_of_few_columns(monkeypatch):
    taken = note_inputs(monkeypatch, conv2d)
    calls = convolutions(ModelCase("unet", 1, 32, 48))
    said = [call.x_shape for call in calls if call.algorithm != "all columns at once"]
    assert taken == 2 * said  # once to warm up
    assert 0 < len(said) < len(calls)


def test_explain_knows_maps_whose_channels_lie_side_by_side(monkeypatch):
    """Those of a SegFormer: all but the image, and the head's, which were upsampled."""
    monkeypatch.setattr(conv2d, "FEW", -1)
    taken = note_inputs(monkeypatch, patch_rows, channels_last)
    calls = convolutions(ModelCase("segformer_b0", 1, 64, 96))
    words = ("patches as rows", "depthwise: channels side by side")
    said = [call.x_shape for call in calls if call.algorithm.startswith(words)]
    assert taken == 2 * said  # once to warm up
    assert said == [call.x_shape for call in calls[1:-2]]


def test_the_machine_is_named():
    assert {"processor", "threads", "NumPy"} <= set(machine())


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "ROUNDS", 1)
    monkeypatch.setattr(run, "SECONDS", 0)
    file = tmp_path / "bench.json"
    assert main(["bench", "--ops", "mse", "--json", str(file)]) == 0
    assert "mse_loss" in capsys.readouterr().out
    assert len(json.loads(file.read_text())["timings"]) == 1
    assert main(["bench", "--ops", "no-such-op"]) == 1
    assert "no-such-op" in capsys.readouterr().err
