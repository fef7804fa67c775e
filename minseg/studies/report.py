"""A study's result as a table and as a figure, and the list of what is recorded."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from minseg.studies.results import Result
from minseg.studies.study import LEAST_SEEDS, NOT_SHOWN, OPPOSITE, SHOWN, Comparison, Study
from minseg.viz import OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE = tuple(OKABE_ITO[5] / 255)


def scores_table(result: Result) -> Table:
    """One row for each arm: mean, spread (standard deviation), each seed's score."""
    direction = ", lower is better" if result.lower_is_better else ""
    table = Table(f"{result.measure}{direction}", box=None, pad_edge=False)
    for column in ("mean", "spread", *(f"seed {seed}" for seed in result.seeds)):
        table.add_column(column, justify="right")
    for arm, scores in result.scores.items():
        each = [f"{score:.3f}" for score in scores]
        table.add_row(arm, f"{result.mean(arm):.3f}", f"{result.spread(arm):.3f}", *each)
    return table


def sentence(comparison: Comparison) -> str:
    """ "FCN-8s against FCN-32s: better by +0.041, standard error 0.006: shown"."""
    return (
        f"{comparison.better} against {comparison.worse}: better by {comparison.mean:+.3f}, "
        f"standard error {comparison.error:.3f}: {comparison.verdict}"
    )


def dots(axis: Axes, result: Result, arms: Sequence[str], letters: int) -> None:
    """Draw a dot for each seed, lines that join a seed's dots, a bar and a number for each mean.

    letters: how many of an arm's name fit on a line.
    """
    scores = np.array([result.scores[arm] for arm in arms])  # (arms, seeds)
    where = np.arange(len(arms))
    axis.plot(where, scores, color="0.8", linewidth=1, zorder=1)
    for x, arm in zip(where, arms, strict=True):
        mean = result.mean(arm)
        axis.plot([x - 0.22, x + 0.22], [mean, mean], color="black", linewidth=3, zorder=2)
        axis.plot(np.full(scores.shape[1], x), scores[x], "o", color=_BLUE, markersize=8, zorder=3)
        number = axis.annotate(
            f"{mean:.3f}", (x + 0.26, mean), fontsize=12, va="center", annotation_clip=False
        )
        number.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    names = [textwrap.fill(arm, letters, break_long_words=False) for arm in arms]
    axis.set_xticks(where, names, fontsize=12)
    axis.set_xlim(-0.5, len(arms) - 0.3)
    # The axis spans at least a twentieth, so that a small difference does not look large.
    middle, half = (scores.max() + scores.min()) / 2, 0.6 * max(np.ptp(scores), 0.05)
    axis.set_ylim(middle - half, middle + half)
    axis.tick_params(axis="y", labelsize=11)
    axis.spines[["top", "right"]].set_visible(False)


def figure(result: Result) -> Figure:
    """The dots of all arms, with the verdict on top."""
    from matplotlib.figure import Figure

    arms = list(result.scores)
    drawn = Figure(figsize=(max(6.5, 1.9 * len(arms) + 1.5), 5.2), layout="constrained")
    axis = drawn.subplots()
    dots(axis, result, arms, letters=14)
    direction = " (lower is better)" if result.lower_is_better else ""
    axis.set_ylabel(result.measure + direction, fontsize=13)
    letters = int(8.5 * drawn.get_figwidth())  # of bold type
    if len(result.comparisons) > 1:
        lines = [f"{c.better} against {c.worse}: {c.verdict}" for c in result.comparisons]
        drawn.supxlabel("\n".join(lines), fontsize=11)
    title = textwrap.fill(result.claim, letters)
    drawn.suptitle(f"{title}\n{result.verdict}", fontsize=13, fontweight="bold")
    return drawn


def list_table(studies: Sequence[Study], results: Sequence[Result | None]) -> Table:
    """One row for each study: its name, its recorded verdict, its claim."""
    table = Table("study", "recorded", "claim", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    styles = {SHOWN: "green", OPPOSITE: "yellow", NOT_SHOWN: "yellow"}
    for study, result in zip(studies, results, strict=True):
        verdict = "not yet" if result is None else result.verdict
        table.add_row(study.name, f"[{styles.get(verdict, 'dim')}]{verdict}[/]", study.claim)
    return table


RULE = (
    f"shown: over at least {LEAST_SEEDS} seeds, the difference seed by seed has one sign, and its "
    "mean is more than twice its standard error"
)
