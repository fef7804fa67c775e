"""What `minseg study ...` does: prints, draws, records."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from minseg import viz
from minseg.files import write_atomically
from minseg.network import load_network
from minseg.studies import NAMES, networks, report, study
from minseg.studies.results import RECORDED, Result, how_made, load, result_of
from minseg.studies.run import Run, run_study
from minseg.studies.study import Study


def show_list(console: Console) -> int:
    studies = [study(name) for name in NAMES]
    # The table has colours, which the console of plain text would print as markup.
    coloured = Console(highlight=False, width=console.width)
    coloured.print(report.list_table(studies, [load(name) for name in NAMES]))
    console.print(f"\n{report.RULE}\n{_best_network()}")
    return 0


def _best_network() -> str:
    try:
        best = max(networks.recorded()["camvid"], key=lambda row: row.miou)
    except FileNotFoundError as error:
        return str(error)
    return f"networks: of all on CamVid, {best.network} is the best: mean IoU {best.miou:.3f}"


def run(
    console: Console, name: str, seeds: int | None, budget: int | None, out: Path, record: bool
) -> int:
    """Run one study, or all of them. Raises ValueError for an unknown one."""
    if record and (seeds is not None or budget is not None):
        raise ValueError("study: --record keeps a study's own seeds and budget; leave them out")
    studies = [study(each) for each in (NAMES if name == "all" else [name])]
    total = sum((seeds or one.seeds) * len(one.trainings) for one in studies)
    with _bar(console) as bar:
        task = bar.add_task("", total=total)
        for one in studies:
            bar.update(task, description=one.name)
            console.print(f"{one.name}: {one.claim}\n  {one.source}\n  {one.setting}")

            def done(training: str, seed: int, run: Run) -> None:
                scores = ", ".join(f"{arm} {score:.3f}" for arm, score in run["scores"].items())
                console.print(f"  seed {seed}: {scores}  ({run['seconds']:.0f} s)")
                bar.advance(task)

            steps, number = budget or one.steps, seeds or one.seeds
            runs = run_study(one, number, steps, out / one.name, done)
            result = result_of(one, steps, runs, _command(one, seeds, budget, record))
            _show(console, result, out, record)
    return 0


def run_networks(console: Console, budget: tuple[str, float], out: Path, record: bool) -> int:
    """Train and score what is missing, measure the speed of all, then table and figure."""
    unit, number = budget
    folder = out / f"networks-{number:g}-{unit}"
    folder.mkdir(parents=True, exist_ok=True)
    with _bar(console) as bar:
        names = networks.NETWORKS + networks.OTHERS
        task = bar.add_task("networks", total=len(names) + len(networks.NETWORKS))

        def done(name: str, scores: networks.Scores) -> None:
            found = ", ".join(f"{measure} {value:.4g}" for measure, value in scores.items())
            console.print(f"  {name}: {found}")
            bar.advance(task)

        scores = networks.train_all(budget, folder, done)
        bar.update(task, description="speed")
        rows = []
        for name in networks.NETWORKS:
            rows.append(networks.row_of(name, scores[name], load_network(folder / name)))
            bar.advance(task)
    table = networks.markdown(rows)
    print(table)
    others = {data: scores[data] for data in networks.OTHERS}
    for data, found in others.items():
        print(f"{data}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    write_atomically(out / "networks.md", (table + "\n").encode())
    figure = networks.figure(rows)
    viz.save(figure, out / "networks.png")
    console.print(f"figure: {out / 'networks.png'}")
    if record:
        option = {"minutes": "--minutes", "steps": "--budget"}[unit]
        command = f"minseg study networks {option} {number:g} --record"
        made = {"command": command, **how_made()}
        tree = {"camvid": [asdict(row) for row in rows], **others, "made": made}
        keep("networks", (json.dumps(tree, indent=1) + "\n").encode())
        viz.save(figure, RECORDED / "networks.png")
    return 0


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def keep(name: str, text: bytes) -> None:
    """Put a result among those that come with minseg."""
    RECORDED.mkdir(exist_ok=True)
    write_atomically(RECORDED / f"{name}.json", text)


def _command(one: Study, seeds: int | None, budget: int | None, record: bool) -> str:
    options = {"--seeds": seeds, "--budget": budget}
    given = "".join(f" {option} {value}" for option, value in options.items() if value is not None)
    return f"minseg study {one.name}{given}{' --record' if record else ''}"


def _show(console: Console, result: Result, out: Path, record: bool) -> None:
    """Print the scores, and write result and figure, with `record` into the package as well."""
    console.print(report.scores_table(result))
    for comparison in result.comparisons:
        console.print(report.sentence(comparison))
    console.print(f"verdict: {result.verdict}", style="bold")
    text = result.to_json().encode()
    write_atomically(out / f"{result.name}.json", text)
    viz.save(report.figure(result), out / f"{result.name}.png")
    console.print(f"figure: {out / result.name}.png\n")
    if record:
        keep(result.name, text)
