"""The lessons that compute on `--device` do so, from their first cell to their claims."""

import subprocess
import sys

import pytest

from minseg.lessons import lessons
from tests.gpu import needs_gpu

pytestmark = needs_gpu
TAKE_A_DEVICE = [
    entry.path
    for entry in lessons()
    if any(part in entry.path.read_text("utf-8") for part in ("lesson.device", "lesson.fit"))
]


@pytest.mark.parametrize("path", TAKE_A_DEVICE, ids=lambda path: path.stem)
def test_a_lesson_runs_there(path, tmp_path):
    command = [sys.executable, path, "--fast", "--device", "cuda", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # A mistake that a lesson shows on purpose is the one that it is about, not one of devices.
    assert "is on cuda" not in done.stdout
