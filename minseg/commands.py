"""What each command of `minseg` does: prints, and returns the exit code."""

import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from minseg.checkpoint import write_atomically
from minseg.evaluate import Evaluation, evaluate

# Plain text: what is printed holds paths and names, which may look like markup or like numbers.
# On no terminal (a pipe, a file) the lines are as long as they are.
console = Console(
    highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120
)


def train(resume: str | None, out: str | None, **options: Any) -> int:
    """Train a new run or go on with one; 130 if it was stopped."""
    from minseg.config import configure
    from minseg.train import Trainer

    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        trainer = Trainer.resume(resume, **_changes(given))
        console.print(f"going on with {resume} at step {trainer.step}")
    else:
        model, data = given.pop("model", "unet"), given.pop("data", "shapes")
        given["options"] = _network_options(given)
        for name in ("data_root", "init"):
            if given.get(name):
                given[name] = os.path.abspath(given[name])
        if data.startswith("folder:"):
            data = "folder:" + os.path.abspath(data.removeprefix("folder:"))
        trainer = Trainer(configure(model, data, **given), _new_run(out, model, data))
    return _fit(trainer)


def demo(data: str, seconds: float, out: str, seed: int) -> int:
    """Train for `seconds` on drawn images; figure and IoU."""
    from minseg.demo import Demo

    trainer = Demo(data, seconds, seed, out)
    code = _fit(trainer)
    if trainer.last_evaluation is not None:
        _print_scores(trainer.last_evaluation)
        console.print(f"\nfigure: {trainer.figure}", style="bold")
        console.print(f"next:   minseg predict PICTURE --weights {out} --out {out}")
    return code


def eval(
    weights: str, data: str | None, data_root: str | None, split: str, boundaries: bool,
    crf: bool, batch_size: int | None, json: str | None, device: str | None,
) -> int:  # fmt: skip
    """Print, and maybe write, the scores of a network."""
    from minseg.config import normalisation, open_split
    from minseg.predict import load_network
    from minseg.progress import counting

    _need_folders("eval", json)
    network = load_network(weights, device or "cpu")
    dataset = open_split(network.config.on(data, data_root), split, full_labels=True)
    if tuple(dataset.classes) != network.classes:
        raise ValueError(
            f"eval: the network knows the classes {', '.join(network.classes)}; "
            f"{data or network.config.data} has {', '.join(dataset.classes)}"
        )
    with counting(console, "evaluating", len(dataset)) as advance:
        result = evaluate(
            network.model, dataset, normalisation(network.config, network.channels),
            batch_size=batch_size or network.config.batch_size, boundaries=boundaries, crf=crf,
            on_batch=lambda batch, _: advance(len(batch)),
        )  # fmt: skip
    _print_scores(result)
    console.print(
        f"{len(dataset)} images ({split}), scored at {'x'.join(map(str, dataset[0].mask.shape))}"
    )
    if json is not None:
        write_atomically(json, _as_json(result).encode())
    return 0


def predict(
    images: list[str], weights: str | None, out: str, features: str | None, device: str | None,
    **options: Any,
) -> int:  # fmt: skip
    """Label pictures; 1 if one of them could not be read."""
    from minseg.crf import ITERATIONS
    from minseg.data import read_image
    from minseg.predict import feature_maps, find_layer, load_network, write_prediction
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
    names = _output_names(images)
    for path, name in zip(images, names, strict=True):
        try:
            image = read_image(path, network.channels)
        except (OSError, ValueError) as error:
            print(f"minseg: error: {error}", file=sys.stderr)
            failed += 1
            continue
        with counting(console, f"{path}: CRF", ITERATIONS * options["crf"]) as advance:
            written = write_prediction(
                network, image, Path(out) / name, on_iteration=lambda: advance(1), **options
            )
        if features is not None:
            from minseg import viz

            figure = viz.features_figure(feature_maps(network, image, features), features)
            written.append(Path(out) / f"{name}_features_{features}.png")
            viz.save(figure, written[-1])
        console.print(f"{path}: {', '.join(str(file) for file in written)}")
    return 1 if failed else 0


def models() -> int:
    """List the networks, with the options that `train` passes on."""
    from minseg.models import list_models

    table = Table("network", "what it is", box=None, pad_edge=False)
    for name, description in list_models().items():
        table.add_row(name, description)
    console.print(table)
    return 0


def compare(
    ops: list[str], device: str, sanitize: bool, model: str | None, html: str | None,
    json: str | None,
) -> int:  # fmt: skip
    """Print how far every witness of the ops is off; 1 if one is further than it may be."""
    from minseg.compare import compare as compare_ops
    from minseg.compare import model as models
    from minseg.compare import page, report
    from minseg.compare.cases import list_cases
    from minseg.progress import counting

    if model is not None and ops:
        raise ValueError("compare: --model compares a network; leave the ops out")
    _need_folders("compare", html, json)
    # In a pipe or a file, lines are as wide as a row with all of its numbers.
    wide = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)
    total = models.RUNS if model is not None else len(ops or list_cases())
    with counting(wide, "comparing", total) as advance:
        if model is not None:
            result = models.compare_model(model, device, sanitize, lambda _: advance(1))
        else:
            result = compare_ops(ops, device, sanitize, lambda _: advance(1))
    report.show(wide, result, every_row=bool(ops) or model is not None)
    if html is not None:
        write_atomically(html, page.to_html(result).encode())
    if json is not None:
        write_atomically(json, report.to_json(result).encode())
    return 1 if result.failed else 0


def lesson(action: str, **options: Any) -> int:
    """Lessons: the exit code of the one that is run."""
    actions: dict[str, Callable[..., int]] = {
        "list": _list_lessons, "run": _run_lesson, "export": _export_lesson,
    }  # fmt: skip
    return actions[action](**options)


def _list_lessons() -> int:
    from minseg.lessons import LONG, lessons

    for entry in lessons():
        mark = " *" if entry.long else ""
        console.print(f"{entry.number}  {entry.title}{mark}", style="bold")
        console.print(textwrap.indent(textwrap.fill(entry.question, 92), "    "))
    if any(entry.long for entry in lessons()):
        console.print(f"* {LONG}; the others less than one; with --fast seconds")
    console.print("run one: minseg lesson run NUMBER --fast")
    return 0


def _run_lesson(
    lesson: str, fast: bool, out: str, seed: int, stand_ins: list[str], device: str | None
) -> int:
    from minseg.lessons import get_lesson, run

    entry = get_lesson(lesson)
    arguments = ["--out", out, "--seed", str(seed), "--device", device or "cpu"]
    arguments += ["--fast"] if fast else []
    if not stand_ins:
        return run(entry, arguments)
    from minseg.exercises.stand_in import standing_in

    with standing_in(stand_ins, device or "cpu"):
        return run(entry, arguments)


def _export_lesson(lesson: str, file: str | None) -> int:
    from minseg.lessons import get_lesson, notebook

    entry = get_lesson(lesson)
    path = Path(file or f"{entry.name}.ipynb")
    _need_folders("lesson export", str(path))
    if path.exists():
        raise ValueError(f"lesson export: {path} is there already; name another file")
    write_atomically(str(path), notebook(entry).encode())
    console.print(f"{path}: open it in Jupyter")
    return 0


def study(
    name: str | None, list: bool, seeds: int | None, budget: int | None, minutes: float | None,
    out: str, record: bool,
) -> int:  # fmt: skip
    """Run studies, or list them."""
    from minseg.studies import commands, networks

    if (minutes is not None) and name != "networks":
        raise ValueError("study: --minutes is for networks; of a study, --budget is the steps")
    if list or name is None:
        return commands.show_list(console)
    if name == "networks":
        limit = ("steps", budget) if budget else ("minutes", minutes or networks.MINUTES)
        return commands.run_networks(console, limit, Path(out), record)
    return commands.run(console, name, seeds, budget, Path(out), record)


def exercise(action: str, name: str | None) -> int:
    """Exercises: 0 for success or a pass, 1 for a check that fails."""
    from minseg.exercises.commands import run

    return run(console, action, name)


def sanitize(targets: list[str], json: str | None) -> int:
    """Print the sanitizer's findings; 1 if there are any, 2 if a kernel could not be checked."""
    from minseg.emulator.sanitize import run_cli

    return run_cli(targets, json)


def profile(targets: list[str], figure: str | None) -> int:
    """Print profiles, and maybe draw one; 2 if a kernel has no sample line."""
    from minseg.emulator.profile import run_cli

    return run_cli(targets, figure)


def ladder(stair: str) -> int:
    """Print what each rung of a stair asks of the memory; on a GPU how fast it is, too."""
    from minseg.array import has_gpu
    from minseg.ladder import SMALL, climb, outputs

    gpu = has_gpu()
    sizes = " x ".join(map(str, SMALL[stair]))
    vendor = {"matmul": "cuBLAS", "conv2d": "cuDNN"}[stair]
    timed = ("ms", f"of {vendor}") if gpu else ()
    table = Table("step", "loads an output", "sectors a request", "bytes moved", "conflicts",
                  "barriers", *timed, "idea", box=None, pad_edge=False)  # fmt: skip
    for rung in climb(stair, gpu):
        row = [rung.name, "needs a Hopper GPU", *4 * ["-"]]
        if (p := rung.profile) is not None:
            each = p.threads / outputs(stair)
            loads = [each * p.per_thread("load", shared) for shared in (False, True)]
            row[1:] = [f"{loads[0]:.1f} + {loads[1]:.1f} shared", f"{p.sectors_a_request:.1f}",
                       f"{p.bytes_moved / p.bytes_least:.1f} x least", str(p.conflicts),
                       str(p.barriers)]  # fmt: skip
        if gpu:
            row.append("" if rung.milliseconds is None else f"{rung.milliseconds:.3f}")
            row.append("" if rung.share is None else f"{rung.share:.0%}")
        table.add_row(*row, rung.idea)
    console.print(table)
    console.print(f"counted in the emulator, for {sizes}" + ("" if gpu else "; no GPU: no times"))
    return 0


def bench(
    device: str,
    ops: list[str] | None,
    models: list[str] | None,
    growth: str | None,
    explain: str | None,
    json: str | None,
) -> int:
    """Time the engines; print, and maybe write, what was found."""
    from minseg import viz
    from minseg.bench import gpu, report, run

    if device == "cuda":
        for part in gpu.report():
            print(part + "\n")
        return 0
    if explain is not None:
        return _explain(explain)
    everything = ops is None and models is None and growth is None
    timings: list[run.Timing] = []
    machine = run.machine()
    imports: dict[str, float] = {}
    console.print(", ".join(f"{part}: {found}" for part, found in machine.items()))
    with console.status("") as status:
        if everything or ops is not None:
            timings += run.bench_ops(ops or (), status.update)
        if everything or models is not None:
            timings += run.bench_models(models or (), status.update)
        if everything:
            status.update("import")
            imports = run.import_times()
        if growth is not None:
            curves = run.growth(status.update)
            viz.save(report.growth_figure(curves), growth)
            timings += [timing for curve in curves.values() for _, timing in curve]
    if not timings:
        raise ValueError(f"bench: no case has {' or '.join([*(ops or ()), *(models or ())])} in it")
    for title, tasks in (
        ("ops, forward and backward", ("op",)),
        ("networks", ("train", "predict")),
    ):
        if found := [timing for timing in timings if timing.task in tasks]:
            console.print(report.table(title, found))
            console.print(report.verdict(found))
    if imports:
        ratio = imports["minseg"] / imports["numpy"]
        console.print(f"import minseg: {ratio:.2f} times as long as import numpy")
    if json is not None:
        write_atomically(json, report.as_json(machine, imports, timings).encode())
    return 0


def _explain(name: str) -> int:
    from minseg.bench.cases import ModelCase
    from minseg.bench.explain import convolutions, table

    case = ModelCase(name, 8, 120, 160)
    console.print(table(case, convolutions(case)))
    return 0


def doctor() -> int:
    """Print what this machine has."""
    from minseg.doctor import findings

    table = Table("", "part", "found", "what it gives", box=None, pad_edge=False)
    for part, found, gives in findings():
        mark = Text("yes", "green") if found else Text("no", "yellow")
        table.add_row(mark, part, found or "-", gives)
    console.print(table)
    return 0


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


# What `--resume` may change: how long to train, and what has no influence on the weights.
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
    """The folder of a new run, which no earlier run lies in."""
    if out is not None:
        if (Path(out) / "last.safetensors").exists():
            raise ValueError(f"--out {out}: has a run already; --resume it, or choose another name")
        return Path(out)
    base = f"{model}-{Path(data.partition(':')[2]).name or data}"
    run, number = Path("runs") / base, 1
    while run.exists():
        number += 1
        run = Path("runs") / f"{base}-{number}"
    return run


def _need_folders(command: str, *files: str | None) -> None:
    """Raises ValueError, before any work is done, for a file that has no folder to lie in."""
    for file in files:
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise ValueError(f"{command}: {file}: there is no such folder")


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


def _print_scores(result: Evaluation) -> None:
    confusion = result.confusion
    columns = [confusion.iou(), confusion.dice(), confusion.class_accuracy()]
    columns += [scores for scores in (result.boundary_iou, result.boundary_f) if scores is not None]
    table = Table("class", box=None, pad_edge=False)
    for scores in columns:
        table.add_column(scores.metric, justify="right")
    for index, name in enumerate(confusion.classes):
        table.add_row(name, *(_score(scores[index]) for scores in columns))
    table.add_section()
    table.add_row("mean", *(_score(scores.mean) for scores in columns), style="bold")
    console.print(table)
    console.print(str(confusion.iou()))
    console.print(
        f"pixel accuracy {confusion.pixel_accuracy():.4f}, "
        f"frequency-weighted IoU {confusion.frequency_weighted_iou():.4f}"
    )


def _score(value: float) -> str:
    return "absent" if np.isnan(value) else f"{value:.4f}"


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
