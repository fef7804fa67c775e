"""What a check says: the stage that failed and why, or that all is right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PRINTED = 200  # numbers of an array, at most


@dataclass(frozen=True)
class Verdict:
    """stage "": passed. pattern: the mistake that was recognised; "" for none."""

    stage: str
    message: str
    pattern: str = ""
    passed: tuple[str, ...] = ()  # stages
    printed: str = ""  # by the learner's code

    @property
    def diagnosis(self) -> str:
        """By what a mutant is rejected: the pattern, or the stage where there is none."""
        return self.pattern or self.stage


class Failed(Exception):
    """A stage failed; the check ends here."""

    def __init__(self, stage: str, message: str, pattern: str = "") -> None:
        super().__init__(message)
        self.stage, self.message, self.pattern = stage, message, pattern


def different(got: np.ndarray, want: np.ndarray, bound: float) -> np.ndarray:
    """Where they differ by more than `bound`; a NaN equals a NaN only."""
    with np.errstate(invalid="ignore"):
        close = np.abs(got - want) <= bound
    return ~(close | (got == want) | (np.isnan(got) & np.isnan(want)))


def bound_of(want: np.ndarray, dtype: np.dtype, terms: int) -> float:
    """How far rounding may carry a sum of `terms` numbers: each term and addition by eps / 2.

    Twice that, since the learner's order of operations is their own. Whole numbers count
    as float64.
    """
    largest = np.abs(want[np.isfinite(want)]).max(initial=1.0)
    eps = np.finfo(dtype if dtype.kind == "f" else np.float64).eps
    return float(2 * terms * eps * largest)


def worst(name: str, got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    """How many numbers are wrong, and the worst of them with both values."""
    with np.errstate(invalid="ignore"):
        error = np.nan_to_num(np.abs(got - want), nan=np.inf)
    place = np.unravel_index(np.argmax(np.where(wrong, error, -1)), got.shape)
    where = f"{name}[{', '.join(map(str, place))}]" if place else name
    count = f"{wrong.sum()} of {wrong.size} numbers of {name} are wrong; the worst is "
    if wrong.size == 1:
        count = ""
    yours, right = _told_apart(got[place], want[place])
    return f"{count}{where}: yours is {yours}, right is {right}"


def _told_apart(got: Any, want: Any) -> tuple[str, str]:
    """Both in 6 digits, or in so many that they can be told apart."""
    for digits in (6, 9, 12, 17):
        yours, right = (
            f"{v:.{digits}g}" if np.asarray(v).dtype.kind == "f" else str(v) for v in (got, want)
        )
        if yours != right:
            break
    return yours, right


def whole(arguments: Mapping[str, Any], got: Mapping[str, Any], want: Mapping[str, Any]) -> str:
    """A case printed whole: what went in, what came out, and what should have.

    Of a case whose answer is too large for that, what went in, in brief.
    """
    if all(np.size(value) > PRINTED for value in want.values()):
        return "  called with " + ", ".join(brief(n, v) for n, v in arguments.items())
    rows = [_named(name, value) for name, value in arguments.items()]
    for name in want:
        rows += [_named(f"your {name}", got[name]), _named(f"right {name}", want[name])]
    return "\n".join(rows)


def _named(name: str, value: Any) -> str:
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return f"  {name} = {value}"
    shape = "x".join(map(str, value.shape))
    if value.size > PRINTED:
        return f"  {name} ({shape}): too many numbers to print"
    text = np.array2string(value, max_line_width=92, precision=4, suppress_small=True,
                           threshold=PRINTED, separator=" ")  # fmt: skip
    return f"  {name} ({shape}) =\n" + "\n".join(
        "    " + line for line in text.splitlines() if line
    )


def brief(name: str, value: Any) -> str:
    """An array's shape, or the value."""
    if isinstance(value, np.ndarray):
        return f"{name}: {'x'.join(map(str, value.shape)) or 'a number'}"
    return f"{name}={value}"
