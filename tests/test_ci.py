"""Which lessons CI runs in full."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "lessons.py"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="CI's scripts are in the repository only")
def test_each_lesson_is_run_in_full_at_some_commit() -> None:
    script = runpy.run_path(str(SCRIPT))
    names = [entry.name for entry in script["lessons"]()]
    picks = [script["chosen"](names, f"commit {number}") for number in range(200)]
    assert all(len(set(pick)) == 3 for pick in picks)
    # One is missed 200 times with a chance of (1 - 3 / n) ** 200: below 1e-6 for n up to 44.
    assert {name for pick in picks for name in pick} == set(names)
    assert script["chosen"](names, "commit 7") == picks[7]
    timed = {entry.name for entry in script["lessons"]() if script["is_timed"](entry)}
    assert timed >= {"02_convolution", "39_fast_numpy"}
    assert "14_unet" not in timed
