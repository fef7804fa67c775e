"""The kernels without a GPU: compare, sanitize, profile, ladder."""

import sys
from json import dumps

from rich.console import Console
from rich.table import Column, Table

from minseg.commands.terminal import console, need_folders
from minseg.files import write_atomically

_NO_SAMPLE = (
    "it has no `// sample:` line, such as `// sample: n=1000 x=(n)`: see minseg sanitize --help"
)


def compare(
    ops: list[str], device: str, sanitize: bool, model: str | None, html: str | None,
    json: str | None,
) -> int:  # fmt: skip
    """Print the error of every witness of the ops; 1 if one is above its tolerance."""
    from minseg.compare import compare as compare_ops
    from minseg.compare import model as models
    from minseg.compare import page, report
    from minseg.compare.cases import list_cases
    from minseg.progress import counting

    if model is not None and ops:
        raise ValueError("compare: --model compares a network; leave the ops out")
    need_folders("compare", html, json)
    # In a pipe or a file, lines are as wide as a row with all of its numbers.
    width = None if sys.stdout.isatty() else 240
    wide = Console(highlight=False, markup=False, emoji=False, width=width)
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


def sanitize(targets: list[str], json: str | None) -> int:
    """Print findings of kernels (names or `.cu` files; none: all), each run on its sample lines.

    1 if there are any, 2 if a kernel has no sample line or nothing was run.
    """
    from minseg import kernels
    from minseg.emulator.samples import samples
    from minseg.emulator.sanitize import sanitize as findings_of

    need_folders("sanitize", json)
    chosen = [k for target in targets or kernels.list_kernels() for k in kernels.find(target)]
    checked = [kernel for kernel in chosen if kernel.samples]
    findings = []
    for kernel in checked:
        for name, arguments in samples(kernel):
            findings += findings_of(name, *arguments)
    for finding in findings:
        print(finding, end="\n\n")
    for kernel in chosen:
        if not kernel.samples:
            print(f"{kernel}: not checked, {_NO_SAMPLE}", file=sys.stderr)
    print(f"{_count(len(checked), 'kernel')} checked, {_count(len(findings), 'finding')}")
    if json is not None:
        text = dumps([finding.to_json() for finding in findings], indent=1)
        write_atomically(json, f"{text}\n".encode())
    return 1 if findings else 2 if len(checked) < len(chosen) or not chosen else 0


def profile(targets: list[str], figure: str | None) -> int:
    """Print profiles of kernels (names or `.cu` files), each run on its first sample line.

    `figure` is a file for the picture of a single kernel's addresses. 2 if a kernel has no sample
    line. Raises ValueError for a figure of several kernels.
    """
    from minseg import kernels
    from minseg.emulator.figure import draw_warp
    from minseg.emulator.profile import profile as profile_of
    from minseg.emulator.samples import samples

    need_folders("profile", figure)
    chosen = [k for target in targets for k in kernels.find(target)]
    if figure is not None and len(chosen) != 1:
        names = ", ".join(k.name for k in chosen)
        raise ValueError(f"profile: --figure draws one kernel; choose one of {names}")
    for kernel in chosen:
        if not kernel.samples:
            print(f"{kernel}: {_NO_SAMPLE}", file=sys.stderr)
            continue
        name, arguments = samples(kernel)[0]
        result = profile_of(name, *arguments)
        print(result, end="\n\n")
        if figure is not None:
            draw_warp(result).savefig(figure)
            print(f"figure: {figure}")
    return 0 if all(kernel.samples for kernel in chosen) else 2


def ladder(stair: str) -> int:
    """Print each rung's memory accesses, counted by the profiler, and its speed on a GPU."""
    from minseg.device import has_gpu
    from minseg.ladder import LARGE, SMALL, climb, outputs

    gpu, compared = has_gpu(), False
    sizes = " x ".join(map(str, SMALL[stair]))
    vendor = {"matmul": "cuBLAS", "conv2d": "cuDNN"}[stair]
    timed = ("ms", f"of {vendor}") if gpu else ()
    counts = ("loads an output", "sectors a request", "bytes moved", "conflicts", "barriers")
    table = Table(Column("step", no_wrap=True), *counts, *timed, box=None, pad_edge=False)
    ideas = Table(Column("step", no_wrap=True), "idea", box=None, pad_edge=False)
    for rung in climb(stair, gpu):
        row = [rung.name, "on Hopper only", *4 * ["-"]]
        if (p := rung.profile) is not None:
            each = p.threads / outputs(stair)
            loads = [each * p.per_thread("load", shared) for shared in (False, True)]
            row[1:] = [f"{loads[0]:.1f} + {loads[1]:.1f} shared", f"{p.sectors_a_request:.1f}",
                       f"{p.bytes_moved / p.bytes_least:.1f} x least", str(p.conflicts),
                       str(p.barriers)]  # fmt: skip
        if gpu:
            row.append("" if rung.milliseconds is None else f"{rung.milliseconds:.3f}")
            row.append("" if rung.share is None else f"{rung.share:.0%}")
            compared = compared or rung.share is not None
        table.add_row(*row)
        ideas.add_row(rung.name, rung.idea)
    console.print(ideas)
    console.print()
    console.print(table)
    on_gpu = "timed on the GPU, for " + " x ".join(map(str, LARGE[stair]))
    console.print(f"counted in the emulator, for {sizes}; {on_gpu if gpu else 'no GPU: no times'}")
    if gpu and not compared:
        console.print(f"no share of {vendor}'s speed: that needs PyTorch with CUDA")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
