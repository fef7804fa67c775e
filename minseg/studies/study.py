"""What a study is: one claim of a paper, the trainings that isolate it, and when it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

# A training of (seed, steps) returns the score of its arm; where one trained network makes several
# arms (before and after a CRF), the score of each by its name.
Training = Callable[[int, int], "float | dict[str, float]"]

SHOWN, NOT_SHOWN, OPPOSITE = "shown", "not shown at this size", "the opposite shows"
TOO_FEW = "too few seeds to tell"
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Study:
    """One claim, and how it is put to the test.

    name: what `minseg study` takes.
    claim, source: what a paper says, and where.
    setting: the data and the networks, in a sentence.
    measure: what the scores are.
    trainings: by name; those of one seed see the same data, in the same order, for as many steps.
    expect: the pairs (better, worse) of arms that the claim is about.
    steps, seeds: how long each training is, and how often it is repeated.
    lower_is_better: True if the score is an error; else a higher score is better.
    """

    name: str
    claim: str
    source: str
    setting: str
    measure: str
    trainings: Mapping[str, Training]
    expect: tuple[tuple[str, str], ...]
    steps: int
    seeds: int = 5
    lower_is_better: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two arms over the seeds. differences: better - worse for each seed, positive as expected.

    This is where "shown" is defined. Arms are compared seed by seed, since a seed's draw of the
    data and of the order moves all arms alike. The difference counts where its mean is more than
    twice its standard error, s / sqrt(n), *and* all seeds agree on the sign. For five seeds
    without any true difference, signs alone agree in one study of sixteen.
    """

    better: str
    worse: str
    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.differences)

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 for a single seed."""
        count = len(self.differences)
        return statistics.stdev(self.differences) / count**0.5 if count > 1 else 0.0

    @cached_property
    def verdict(self) -> str:
        if len(self.differences) < LEAST_SEEDS:
            return TOO_FEW
        agree = all(d > 0 for d in self.differences) or all(d < 0 for d in self.differences)
        if not agree or abs(self.mean) <= 2 * self.error:
            return NOT_SHOWN
        return SHOWN if self.mean > 0 else OPPOSITE
