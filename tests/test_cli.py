import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from minseg import doctor
from minseg.cli import main
from minseg.commands.terminal import need_folders

SMALL = ["--width", "2", "--depth", "1", "--images", "8", "--size", "24x32", "--batch-size", "4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *SMALL, "--epochs", "1", "--out", str(folder)]) == 0
    return folder


def fails(capsys, *arguments, code=1):
    """Runs a command that has to fail; its message, one line."""
    assert main([str(argument) for argument in arguments]) == code
    message = capsys.readouterr().err
    assert message.startswith("minseg: error: ")
    assert "Traceback" not in message
    return message


def test_no_arguments_and_help(capsys):
    assert main([]) == 0
    assert "minseg demo" in capsys.readouterr().out
    for command in ("demo", "train", "eval", "predict", "models", "doctor"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"examples:\n  minseg {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train", "--epochs", "0"],
        ["train", "--epochs", "1", "--minutes", "2"],
        ["train", "--size", "1x2x3"],
        ["train", "--lr", "inf"],
        ["train", "--out", "a", "--resume", "b"],
        ["predict"],
        ["predict", "a.png", "--weights", "W", "--out", "o", "--scales", "1,0"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_train_then_resume(run, capsys):
    assert "a run already" in fails(capsys, "train", *SMALL, "--epochs", "1", "--out", run)
    assert "--lr: a resumed run keeps" in fails(capsys, "train", "--resume", run, "--lr", "1")
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert f"going on with {run} at step 2" in out
    assert "best mean IoU" in out
    assert "\x1b" not in out  # no colours in a pipe


def test_eval_prints_and_writes_the_same(run, capsys, tmp_path):
    scores = tmp_path / "scores.json"
    assert main(["eval", "--weights", str(run), "--boundaries", "--json", str(scores)]) == 0
    out = capsys.readouterr().out
    tree = json.loads(scores.read_text())
    assert f"{tree['IoU']['mean']:.4f}" in out
    assert "circle" in out
    assert "boundary F" in out
    assert set(tree["boundary IoU"]["classes"]) == {"background", "circle", "rectangle", "triangle"}
    assert "knows the classes background, circle" in fails(
        capsys, "eval", "--weights", run, "--data", "street"
    )


def test_predict_goes_on_after_a_broken_picture(run, capsys, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 31, 3), np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "good.png")
    data = (tmp_path / "a" / "good.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(data[: len(data) // 2])
    images = [tmp_path / "broken.png", tmp_path / "a" / "good.png", tmp_path / "b" / "good.png"]
    out = tmp_path / "out"
    command = ["predict", *images, "--weights", run, "--out", out]
    command += ["--scales", ".5,1", "--flip", "--features", "contract.0"]
    assert "broken.png" in fails(capsys, *command)
    kinds = ["confidence", "features_contract.0", "figure", "mask", "overlay"]
    expected = [f"{name}_{kind}.png" for name in ("good", "good_2") for kind in kinds]
    assert {path.name for path in out.iterdir()} == set(expected)
    with Image.open(out / "good_mask.png") as mask:
        assert mask.size == (31, 20)


def test_a_file_that_may_not_be_written_is_refused_before_the_work(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, how: (path, how) != (tmp_path, os.W_OK))
    growth = tmp_path / "growth.png"  # which takes minutes
    assert "growth.png: its folder may not" in fails(capsys, "bench", "--growth", growth)
    assert "scores.json: its folder may not" in fails(
        capsys, "eval", "--weights", "none", "--json", tmp_path / "scores.json"
    )


def test_standard_output_needs_no_folder_that_may_be_written_to(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, how: False)  # /dev, for all but root
    need_folders("sanitize", "/dev/stdout")


def test_predict_takes_folders(run, capsys, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("b.png", "a ä.jpg", "notes.txt"):
        (tmp_path / "photos" / name).touch()
    command = ["predict", "--weights", run, "--out", tmp_path / "out", tmp_path]
    assert f"{tmp_path}: there are no images" in fails(capsys, *command)
    for name in ("b.png", "a ä.jpg"):
        Image.new("RGB", (31, 20)).save(tmp_path / "photos" / name)
    assert main([str(word) for word in [*command[:-1], tmp_path / "photos"]]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*_mask.png")} == {
        "a ä_mask.png", "b_mask.png"
    }  # fmt: skip


def test_errors_are_one_line(run, capsys, tmp_path):
    assert "known: shapes, street" in fails(capsys, "train", "--data", "nope")
    assert "unet" in fails(capsys, "train", "--model", "nope", "--epochs", "1")
    assert "needs NAME=VALUE" in fails(capsys, "train", "--option", "x", "--epochs", "1")
    assert "no such checkpoint" in fails(capsys, "eval", "--weights", tmp_path / "nothing")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((run / "last.safetensors").read_bytes()[:-1])
    assert str(broken) in fails(capsys, "eval", "--weights", broken)
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    command = ["predict", tmp_path / "x.png", "--weights", run, "--out", tmp_path / "o"]
    assert "there are: contract" in fails(capsys, *command, "--features", "nope")
    assert "did you mean 'head'" in fails(capsys, *command, "--features", "haed")
    only = "'contract' only holds other layers"
    assert only in fails(capsys, *command[:-1], tmp_path, "--features", "contract")
    needed = "x.png: a file is there already, where a folder is needed"
    assert needed in fails(capsys, *command[:-1], tmp_path / "x.png")
    assert not (tmp_path / "o").exists()
    command = ["eval", "--weights", run, "--json", tmp_path / "nowhere" / "scores.json"]
    assert "scores.json: there is no such folder" in fails(capsys, *command)


def test_no_run_is_overwritten(run, capsys):
    before = (run / "best.safetensors").read_bytes()
    for command in ("demo --seconds 1", "train --steps 1"):
        message = fails(capsys, *command.split(), "--data", "shapes", "--out", run)
        assert "has a run already" in message
    assert (run / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        "bench --ops relu --json",
        "bench --growth",
        "sanitize saxpy --json",
        "profile saxpy --figure",
        "compare relu --json",
    ],
)
def test_a_missing_folder_is_noticed_before_the_work(words, capsys, tmp_path, monkeypatch):
    def work(*_, **__):
        raise AssertionError("has begun")

    monkeypatch.setattr("minseg.bench.run.machine", work)
    monkeypatch.setattr("minseg.emulator.sanitize.sanitize", work)
    monkeypatch.setattr("minseg.emulator.profile.profile", work)
    message = fails(capsys, *words.split(), tmp_path / "nowhere" / "file")
    assert "there is no such folder" in message


def test_missing_data_says_what_to_do(capsys, monkeypatch):
    monkeypatch.delenv("MINSEG_DATA", raising=False)
    assert "--data-root" in fails(capsys, "train", "--data", "camvid", "--epochs", "1")


def test_network_options():
    from minseg.commands.training import _network_options

    given = {"width": 4, "norm": "none", "option": ["padding=valid", "dropout=0.25"], "lr": 1}
    expected = {"width": 4, "norm": None, "padding": "valid", "dropout": 0.25}
    assert _network_options(given) == expected
    assert given == {"lr": 1}


def test_models_and_doctor(capsys):
    assert main(["models"]) == 0
    assert "unet" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("BLAS", "threads", "GPU", "CuPy", "C++ compiler", "PyTorch", "minseg[cuda12]"):
        assert part in out


def test_doctor_knows_a_blas_that_threadpoolctl_does_not(monkeypatch):
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: [])  # as with macOS's Accelerate
    assert doctor._blas()


def test_demo(capsys, tmp_path):
    out = str(tmp_path / "demo")
    assert main(["demo", "--data", "shapes", "--seconds", "1", "--out", out]) == 0
    assert "triangle" in capsys.readouterr().out
    with Image.open(tmp_path / "demo" / "demo.png") as figure:
        assert min(figure.size) > 600


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_is_130_and_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "minseg", "train", *SMALL, "--epochs", "5000", "--out", "run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: minseg train --resume run" in out
    assert err == ""


@pytest.mark.skipif(os.name != "posix", reason="a shell's")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed):
    """As a service has them; and what is opened later does not get their numbers."""
    code = (
        "import os, sys\n"
        "from minseg.cli import main\n"
        "assert main(['lesson', 'list']) == 0\n"
        "assert main(['predict', 'no such file']) == 1\n"
        "sys.exit(os.open(os.devnull, os.O_RDONLY) < 3)"
    )
    run = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    assert subprocess.run(run, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_full_disk_is_told_in_words():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "minseg", "lesson", "list"]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1
    assert run.stderr == "minseg: error: No space left on device\n"


def test_starting_up_imports_nothing_heavy():
    code = (
        "import sys, minseg.cli\n"
        "try: minseg.cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('matplotlib', 'PIL', 'rich', 'safetensors')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_a_wrong_path_is_named_without_an_error_number(tmp_path, capsys):
    missing = tmp_path / "nope.jpg"
    assert f"error: {missing}: there is no such file" in fails(capsys, "predict", missing)
    (tmp_path / "file").touch()
    message = fails(capsys, "exercise", "init", tmp_path / "file")
    needed = "a file is there already, where a folder is needed"
    assert message == f"minseg: error: {tmp_path / 'file'}: {needed}\n"


def test_a_terminal_of_ascii_gets_what_it_can_show(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "minseg", "exercise", "init", str(tmp_path / "\xfcbung")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "?bung" in run.stdout
