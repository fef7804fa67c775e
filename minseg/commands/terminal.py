"""Shared by the commands: the console, and texts that several of them print."""

import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from minseg.evaluate import Evaluation
from minseg.files import is_stream

# Plain text: what is printed holds paths, names and code, which may look like markup, like numbers,
# or (the slice x[:m:2]) like emoji. On no terminal (a pipe, a file) lines are as long as they are.
console = Console(
    highlight=False, markup=False, emoji=False, soft_wrap=True,
    width=None if sys.stdout.isatty() else 120,
)  # fmt: skip


def need_folders(command: str, *files: str | None) -> None:
    """Raises ValueError, before any work is done, for a file that cannot be written."""
    for file in files:
        if file is not None and Path(file).is_dir():
            raise ValueError(f"{command}: {file}: a folder is there, where a file is needed")
        if file is not None and not (folder := Path(file).absolute().parent).is_dir():
            raise ValueError(f"{command}: {file}: there is no such folder")
        if file is not None and not (os.access(folder, os.W_OK) or is_stream(Path(file))):
            raise ValueError(f"{command}: {file}: its folder may not be written to")


def print_scores(result: Evaluation) -> None:
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
