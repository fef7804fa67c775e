"""What lessons invite to change under "Now change this", changed: they run on, to the end."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "lessons"

CHANGES = [
    ("00_tour", "(96, 128), seed", "(48, 64), seed"),
    ("03_sliding_window", '"ccpccpcc"', '"ccpccpccpcc"'),
    ("06_transposed_convolution", '"k = 4",', '"k = 2",'),
    ("07_atrous_convolution", "(2, 2, 2), (1, 2, 5)]:", "(2, 2, 2), (1, 2, 5), (1, 2, 9)]:"),
    ("07_atrous_convolution", "(1, 2, 9)]:", "(1, 2, 9), (1, 1, 2, 2, 2)]:"),
    ("11_training", "ALPHA = 5.0, 80.0", "ALPHA = 5.0, 400.0"),
]


@pytest.mark.parametrize(("name", "before", "after"), CHANGES)
def test_a_change_that_a_lesson_invites_to(
    name: str, before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert before in source
    changed = tmp_path / f"{name}.py"
    changed.write_text(source.replace(before, after), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(changed), "--fast", "--out", str(tmp_path)])
    runpy.run_path(str(changed), run_name="__main__")
    assert (tmp_path / f"{name}.png").stat().st_size > 0


def test_what_is_left_of_the_pull_at_a_gamma_of_20() -> None:
    """Lesson 08's power of two, from differences of (1 - p)^gamma log p."""

    def pull(gamma: int, eps: float = 1e-6) -> float:
        p = 1 / (1 + np.exp([-eps, eps]))
        return float(np.diff((1 - p) ** gamma * np.log(p))[0] / (2 * eps))

    text = (FOLDER / "08_losses.py").read_text(encoding="utf-8")
    assert f"at p = 1/2 the pull is 2^{np.log2(pull(20) / pull(0)):.0f} of what it was" in text
