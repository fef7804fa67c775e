"""The runner, with a study of its own: arms that return numbers at once, or fail."""

import json
import shutil
import subprocess
import sys

import pytest

import minseg.studies.run as runner
from minseg.cli import main
from minseg.studies import Study, commands, recorded, results, study
from minseg.studies.run import file_name, run_study


def stub(name, training, seed, steps, file):
    """In the place of the worker: the score is told by what the run is."""
    file.write_text(json.dumps({"scores": {training: seed + steps / 100}, "seconds": 0.1}))


@pytest.fixture
def calls(monkeypatch):
    """Runs the stub in this process, and notes what was run."""
    made = []

    def run(study, training, seed, steps, file):
        made.append((training, seed))
        if training == "fails":
            raise RuntimeError("it failed")
        stub(study.name, training, seed, steps, file)
        return json.loads(file.read_text())

    monkeypatch.setattr(runner, "_run", run)
    return made


def unused(seed: int, steps: int) -> float:
    raise AssertionError("the worker's process would call it")


def example(*trainings):
    return Study("example", "", "", "", "score", dict.fromkeys(trainings, unused), (), steps=5)


def test_every_training_runs_with_every_seed_once(calls, tmp_path):
    seen = []
    runs = run_study(example("a", "b"), 3, 5, tmp_path, lambda *run: seen.append(run[:2]))
    assert sorted(calls) == sorted(runs) == sorted(seen) == [(t, s) for t in "ab" for s in range(3)]
    assert runs["b", 2]["scores"] == {"b": 2.05}


def test_what_is_finished_is_kept(calls, tmp_path):
    run_study(example("a"), 2, 5, tmp_path)
    calls.clear()
    runs = run_study(example("a", "b"), 3, 5, tmp_path)
    assert sorted(calls) == [("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    assert len(runs) == 6
    calls.clear()
    run_study(example("a"), 1, 6, tmp_path)  # other steps are another run
    assert calls == [("a", 0)]


def test_a_failure_keeps_the_others(calls, tmp_path):
    with pytest.raises(RuntimeError, match="it failed"):
        run_study(example("a", "fails"), 1, 5, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_file_names_tell_runs_apart():
    names = {
        file_name(one, training, seed, steps)
        for one in (study("fcn-strides"), study("aspp"))
        for training in one.trainings
        for seed in (0, 1)
        for steps in (1, 11)
    }
    assert len(names) == (3 + 2) * 2 * 2


@pytest.mark.parametrize("changed", ["concat_or_add", "skips"])
def test_a_changed_study_runs_anew(tmp_path, monkeypatch, changed):
    """concat-or-add trains by the function of `skips`, at widths of its own."""
    one, training = study("concat-or-add"), "added"
    before = file_name(one, training, 0, 1)
    copies = tmp_path / "claims"
    shutil.copytree(runner.CLAIMS, copies, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(runner, "CLAIMS", copies)
    monkeypatch.setattr(runner, "getsourcefile", lambda function: str(copies / "skips.py"))
    assert file_name(one, training, 0, 1) == before
    with (copies / f"{changed}.py").open("a") as file:
        file.write("# other widths")
    assert file_name(one, training, 0, 1) != before


def test_a_study_from_the_command_line(tmp_path, capsys):
    """Two steps of real training, in processes of their own; then nothing is left to be run."""
    command = ["study", "skips", "--seeds", "1", "--budget", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "IoU of wires" in out
    assert "verdict: too few seeds to tell" in out
    assert (tmp_path / "skips.png").stat().st_size > 10_000
    result = json.loads((tmp_path / "skips.json").read_text())
    assert result["made"]["command"] == "minseg study skips --seeds 1 --budget 2"
    runs = sorted((tmp_path / "skips").iterdir())
    assert len(runs) == 2
    times = [run.stat().st_mtime_ns for run in runs]
    assert main(command) == 0
    assert [run.stat().st_mtime_ns for run in runs] == times


def test_record_puts_the_result_where_lessons_find_it(calls, tmp_path, monkeypatch):
    for module in (commands, results):
        monkeypatch.setattr(module, "RECORDED", tmp_path / "recorded")
    assert main(["study", "skips", "--record", "--out", str(tmp_path)]) == 0
    assert len(calls) == 2 * study("skips").seeds
    result = recorded("skips")
    assert result.scores["skips"] == [seed + study("skips").steps / 100 for seed in result.seeds]
    assert result.verdict == "not shown at this size"  # the stub gives both arms the same
    assert result.made["command"] == "minseg study skips --record"


def test_list_and_errors(capsys):
    assert main(["study", "--list"]) == 0
    out = capsys.readouterr().out
    assert "fcn-strides" in out
    assert "shown: over at least 3 seeds" in out
    assert main(["study", "fcn"]) == 1
    assert "no study 'fcn'" in capsys.readouterr().err
    assert main(["study", "skips", "--record", "--seeds", "1"]) == 1
    assert "--record keeps" in capsys.readouterr().err


def test_a_worker_that_fails_says_why(tmp_path):
    command = [sys.executable, "-m", "minseg.studies.worker", "skips", "nothing", "0", "1"]
    ended = subprocess.run([*command, str(tmp_path / "a.json")], capture_output=True, text=True)
    assert ended.returncode
    assert "KeyError: 'nothing'" in ended.stderr
