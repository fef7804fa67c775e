"""What this machine has and how fast it is: bench, doctor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from minseg.commands.terminal import console, need_folders
from minseg.files import write_atomically


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
        with _beside_the_report() as say:
            for part in gpu.report(say):
                print(part + "\n")
        return 0
    if explain is not None:
        return _explain(explain)
    need_folders("bench", growth, json)
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


@contextmanager
def _beside_the_report() -> Iterator[Callable[[str], object]]:
    """Yields a function that shows on the terminal what is being measured.

    The report itself is printed, and often goes to a file: then this goes to stderr.
    """
    shown = console if console.is_terminal else Console(stderr=True)
    if not shown.is_terminal:
        yield lambda what: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}")
    ours = shown is console  # else rich would take the report to stderr, too
    with Progress(*columns, console=shown, transient=True, redirect_stdout=ours) as bar:
        task = bar.add_task("")
        yield lambda what: bar.update(task, description=what)


def _explain(name: str) -> int:
    from minseg.bench.cases import ModelCase
    from minseg.bench.explain import convolutions, table

    case = ModelCase(name, 8, 120, 160)
    console.print(table(case, convolutions(case)))
    return 0


def doctor() -> int:
    """Print what this machine has."""
    from minseg.doctor import UNUSABLE, findings

    table = Table("", "part", "found", "what it gives", box=None, pad_edge=False)
    for part, found, gives in findings():
        mark = Text("yes", "green") if found else Text("no", "yellow")
        mark = Text("broken", "red") if found.startswith(UNUSABLE) else mark
        table.add_row(mark, part, found or "-", gives)
    console.print(table)
    return 0
