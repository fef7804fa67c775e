"""The cases of every op: a few that are small enough for the emulator, and a large one.

The small ones are awkward on purpose: H != W, N > 1, strides that do not divide, groups, ties.
"""

from minseg.compare.cases import classes, dense, images, norms, pointwise, updates
from minseg.compare.cases.case import Case, cases_of, list_cases, without_cases

__all__ = [
    "Case", "cases_of", "classes", "dense", "images", "list_cases", "norms", "pointwise",
    "updates", "without_cases",
]  # fmt: skip
