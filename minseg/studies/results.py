"""A study's result: the score of every arm and seed, and how it was made, as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from minseg.bench.run import machine
from minseg.studies.study import OPPOSITE, SHOWN, Comparison, Study

RECORDED = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Result:
    """A study's outcome; it stands for itself, whatever becomes of the study's code.

    scores: arm -> one score per seed, in the order of `seeds`. seconds: training -> CPU time,
    likewise; but those recorded on 2026-11-21 are wall time, beside other work: there the least of
    the seeds says most. made: the command, the date, versions and machine.
    """

    name: str
    claim: str
    source: str
    setting: str
    measure: str
    lower_is_better: bool
    expect: tuple[tuple[str, str], ...]
    steps: int
    seeds: tuple[int, ...]
    scores: Mapping[str, Sequence[float]]
    seconds: Mapping[str, Sequence[float]]
    made: Mapping[str, str]

    def mean(self, arm: str) -> float:
        """The mean of an arm's scores. Raises KeyError for an unknown arm."""
        return float(np.mean(self.scores[arm]))

    def spread(self, arm: str) -> float:
        """The standard deviation of an arm's scores over the seeds; 0 for one seed."""
        return float(np.std(self.scores[arm], ddof=1)) if len(self.seeds) > 1 else 0.0

    def compare(self, better: str, worse: str) -> Comparison:
        """Two arms, seed by seed. Raises KeyError for an unknown arm."""
        sign = -1 if self.lower_is_better else 1
        pairs = zip(self.scores[better], self.scores[worse], strict=True)
        return Comparison(better, worse, tuple(sign * (a - b) for a, b in pairs))

    @property
    def comparisons(self) -> list[Comparison]:
        """The comparisons that the claim is about."""
        return [self.compare(*pair) for pair in self.expect]

    @property
    def verdict(self) -> str:
        """That of all comparisons if they agree, else how many show it, in either direction."""
        verdicts = [comparison.verdict for comparison in self.comparisons]
        if len(set(verdicts)) == 1:
            return verdicts[0]
        counts = {verdict: verdicts.count(verdict) for verdict in (SHOWN, OPPOSITE)}
        return ", ".join(f"{v} for {n} of {len(verdicts)}" for v, n in counts.items() if n)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Result:
        """The result that `to_json` wrote. Raises ValueError for other text."""
        try:
            tree = json.loads(text)
            tree["expect"] = tuple((better, worse) for better, worse in tree["expect"])
            tree["seeds"] = tuple(tree["seeds"])
            return cls(**tree)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no record of a study: {error!r}") from error


def result_of(
    study: Study,
    steps: int,
    runs: Mapping[tuple[str, int], Mapping[str, Any]],
    command: str,
) -> Result:
    """Gather the runs of (training, seed): dicts with "scores", by arm, and "seconds"."""
    seeds = sorted({seed for _, seed in runs})
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for training in study.trainings:
        for seed in seeds:
            run = runs[training, seed]
            seconds.setdefault(training, []).append(run["seconds"])
            for arm, score in run["scores"].items():
                scores.setdefault(arm, []).append(score)
    made = {"command": command, "date": date.today().isoformat(), **how_made()}
    return Result(
        study.name, study.claim, study.source, study.setting, study.measure, study.lower_is_better,
        study.expect, steps, tuple(seeds), scores, seconds, made,
    )  # fmt: skip


def how_made() -> dict[str, str]:
    """Versions and machine."""
    from minseg import __version__

    return {"minseg": __version__, **machine(), "system": platform.system(),
            "BLAS": _blas(), "Pillow": version("pillow")}  # fmt: skip


def _blas() -> str:
    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    return f"{found['name']} {found['version']}"


def load(name: str) -> Result | None:
    """The recorded result of a study, None where there is none."""
    path = RECORDED / f"{name}.json"
    return Result.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None
