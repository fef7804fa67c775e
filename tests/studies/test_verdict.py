"""When a difference counts as shown: worked out by hand from its definition."""

import math
from dataclasses import replace

import pytest
from matplotlib.text import Text

from minseg.studies import NAMES, Comparison, Result, recorded, study
from minseg.studies.report import figure
from minseg.studies.results import RECORDED, load, result_of
from minseg.studies.study import NOT_SHOWN, OPPOSITE, SHOWN, TOO_FEW, Study


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((0.02, 0.03, 0.04), SHOWN),  # mean 0.03, error 0.01 / sqrt(3) = 0.0058
        ((-0.02, -0.03, -0.04), OPPOSITE),
        (
            (0.05, 0.05, 0.05, 0.05, -0.001),
            NOT_SHOWN,
        ),  # more than two errors, but one disagrees
        ((0.01, 0.01, 0.10), NOT_SHOWN),  # mean 0.04, error 0.03: one sign, but less than 2 errors
        ((0.0, 0.0, 0.0), NOT_SHOWN),
        ((0.5, 0.5), TOO_FEW),
        ((0.5,), TOO_FEW),
    ],
)
def test_verdict(differences, verdict):
    assert Comparison("a", "b", differences).verdict == verdict


@pytest.mark.parametrize(
    ("arms", "verdict"),
    [
        ("ab", SHOWN),
        ("cd", OPPOSITE),
        ("0", NOT_SHOWN),
        ("abc0", "shown for 2 of 4, the opposite shows for 1 of 4"),
        ("c0", "the opposite shows for 1 of 2"),
    ],
)
def test_a_verdict_of_several_hides_no_opposite(arms, verdict):
    scores = {"a": (2.0, 3.0, 3.0), "b": (2.0, 2.0, 2.0), "0": (1.0, 1.0, 1.0),
              "c": (0.0, 0.0, 0.0), "d": (0.5, 0.5, 0.5)}  # fmt: skip
    pairs = tuple((arm, "worse") for arm in arms)
    result = Result(
        "", "", "", "", "", False, pairs, 1, (0, 1, 2), {**scores, "worse": scores["0"]}, {}, {}
    )
    assert result.verdict == verdict


def test_mean_and_standard_error():
    comparison = Comparison("a", "b", (1.0, 2.0, 4.0, 5.0))
    assert comparison.mean == 3
    assert comparison.error == pytest.approx(math.sqrt(10 / 3) / 2, rel=1e-15)  # s^2 = 10 / 3
    assert Comparison("a", "b", (1.0,)).error == 0


def example(lower_is_better: bool = False) -> Result:
    def train(seed: int, steps: int) -> float:
        raise AssertionError("is not run here")

    example = Study(
        "example", "b is better", "nobody", "none", "score", {"a": train, "b": train},
        (("b", "a"),), steps=7, lower_is_better=lower_is_better,
    )  # fmt: skip
    runs = {
        (name, seed): {"scores": {name: base + seed / 10}, "seconds": 1.0}
        for name, base in (("b", 0.5), ("a", 0.25))
        for seed in (0, 2, 1)
    }
    return result_of(example, 7, runs, "minseg study example")


def test_a_result_gathers_the_runs_in_the_order_of_the_seeds():
    result = example()
    assert result.seeds == (0, 1, 2)
    assert result.scores == {"a": [0.25, 0.35, 0.45], "b": [0.5, 0.6, 0.7]}
    assert result.mean("b") == pytest.approx(0.6)
    assert result.spread("b") == pytest.approx(0.1)
    assert result.compare("b", "a").mean == pytest.approx(0.25)
    assert result.verdict == SHOWN
    assert result.seconds == {"a": [1.0] * 3, "b": [1.0] * 3}
    lower = example(lower_is_better=True)
    assert lower.compare("b", "a").mean == pytest.approx(-0.25)
    assert lower.verdict == OPPOSITE
    assert replace(result, seeds=(0,), scores={"a": [0.25]}).spread("a") == 0


def test_a_result_survives_json():
    result = example()
    assert Result.from_json(result.to_json()) == result
    assert {"command", "date", "minseg", "NumPy", "processor"} <= set(result.made)
    with pytest.raises(ValueError, match="no record of a study"):
        Result.from_json("{}")


def test_an_unknown_study_is_named():
    with pytest.raises(ValueError, match=r"no study 'skip' \(did you mean 'skips'\?\)"):
        study("skip")


@pytest.mark.parametrize("name", NAMES)
def test_each_study_is_whole(name):
    """Its pairs name arms that a training makes, its record is of this study."""
    one = study(name)
    assert one.name == name
    assert one.seeds >= 3
    result = load(name)
    if result is None:
        with pytest.raises(FileNotFoundError, match=f"minseg study {name} --record"):
            recorded(name)
        return
    assert (result.steps, len(result.seeds)) == (one.steps, one.seeds)
    assert {arm for pair in one.expect for arm in pair} <= set(result.scores)
    assert result.made["command"] == f"minseg study {name} --record"
    assert set(result.seconds) == set(one.trainings)
    # Every seed takes the same steps: the quickest one tells what they cost.
    assert max(min(seconds) for seconds in result.seconds.values()) < 180


def test_every_record_has_its_study():
    assert {path.stem for path in RECORDED.glob("*.json")} <= {*NAMES, "networks"}


@pytest.mark.parametrize("name", NAMES)
def test_all_words_of_a_figure_are_inside_of_it(name):
    one = study(name)
    arms = list(dict.fromkeys(arm for pair in one.expect for arm in pair))
    made = Result(
        one.name, one.claim, one.source, one.setting, one.measure, one.lower_is_better, one.expect,
        10, (0, 1, 2), dict.fromkeys(arms, (0.123, 0.456, 0.789)), {}, {},
    )  # fmt: skip
    drawn = figure(made)
    drawn.draw_without_rendering()
    for text in drawn.findobj(Text):
        box = text.get_window_extent()
        assert not text.get_text() or (drawn.bbox.x0 <= box.x0 and box.x1 <= drawn.bbox.x1)
