"""The fixture `sanitizer`, in a pytest of its own."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = f"""
import numpy as np
import minseg.functional as F
from minseg import Tensor, kernels

MISSING_GUARD = {str(HERE / "museum" / "missing_guard.cu")!r}
y = np.empty(100, np.float32)


def test_broken(sanitizer):
    try:
        kernels.launch(MISSING_GUARD + ":broken", y, 100)
    except Exception:
        pass  # a finding is no error that the test could swallow


def test_fixed(sanitizer):
    y[:] = -1
    kernels.launch(MISSING_GUARD + ":fixed", y, 100)
    assert (y >= 0).all()


def test_production(sanitizer, monkeypatch):
    launched = []
    monkeypatch.setattr(kernels, "observers", [*kernels.observers, launched.append])
    images = Tensor(np.ones((1, 2, 5, 7), np.float32), requires_grad=True)
    F.max_pool2d(images, 2).sum().backward()
    assert [launch.instance for launch in launched] == [
        "max_pool2d_forward",
        "max_pool2d_grad_input",
    ]


def test_without_it():
    assert not kernels.observers
"""


def test_a_finding_fails_the_test_with_its_text(tmp_path):
    (tmp_path / "test_mine.py").write_text(TESTS)
    plugin = ["-p", "minseg.emulator.pytest_plugin", "-p", "no:cacheprovider"]
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(HERE.parent.parent),
    }
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-v", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    for line in (
        "test_mine.py::test_broken FAILED",
        "test_mine.py::test_fixed PASSED",
        "test_mine.py::test_production PASSED",
        "test_mine.py::test_without_it PASSED",
        "memcheck: missing_guard.cu:9: broken: writes y[100] in global memory, "
        "1 past the end of 100 elements  (28 times)",
        "thread (36,0,0) of block (1,0,0)",
        "line 9: writes y[100]",
    ):
        assert line in answer.stdout, answer.stdout + answer.stderr
    assert answer.returncode == 1


def test_every_pytest_run_knows_it():
    plugins = entry_points(group="pytest11")
    if "minseg" not in plugins.names:
        pytest.skip("minseg is not installed")
    assert plugins["minseg"].value == "minseg.emulator.pytest_plugin"


def test_importing_it_costs_no_emulator():
    code = (
        "import sys, minseg.emulator.pytest_plugin\n"
        "print([m for m in ('minseg.kernels', 'minseg.nn', 'matplotlib') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
