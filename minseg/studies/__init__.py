"""`minseg study`: what each idea of the papers buys, measured.

A study puts one claim to the test. It trains the variants ("arms") that isolate it on the same
data, for the same number of steps, with several seeds, and says whether a difference shows.
`claims/` has a file for each study, `study` defines "shown", `run` trains (each run in a process),
`report` prints and draws, `recorded/` has the results that came with this version:

    from minseg.studies import recorded

    result = recorded("fcn-strides")
    result.mean("FCN-8s"), result.verdict
"""

from importlib import import_module

from minseg.studies.claims import NAMES
from minseg.studies.results import Result, load
from minseg.studies.study import Comparison, Study
from minseg.suggest import suggest

__all__ = ["NAMES", "Comparison", "Result", "Study", "recorded", "study"]


def study(name: str) -> Study:
    """The study of that name. Raises ValueError for an unknown one, and lists them."""
    if name not in NAMES:
        hint = suggest(name, NAMES)
        raise ValueError(f"study: no study {name!r}{hint}; there are: {', '.join(NAMES)}")
    return import_module(f"minseg.studies.claims.{name.replace('-', '_')}").STUDY


def recorded(name: str) -> Result:
    """The result of a study that came with this version of minseg.

    Raises ValueError for an unknown study, FileNotFoundError where none was recorded.
    """
    result = load(study(name).name)
    if result is None:
        raise FileNotFoundError(f"study {name}: not recorded yet: minseg study {name} --record")
    return result
