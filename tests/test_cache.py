"""Where compiled kernels and fetched weights are kept, and what happens where nothing can be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minseg import cache
from minseg.emulator import compiler


def test_the_place(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    usual = tmp_path / ".cache" / "minseg" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder("weights") == usual
    for ignored in ("", "relative", "./relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache.cache_folder("weights") == usual
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ca che"))
    assert cache.cache_folder("weights") == tmp_path / "ca che" / "minseg" / "weights"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made(tmp_path, capsys):
    wanted = tmp_path / "a" / "b"
    assert cache.writable(wanted) == cache.writable(wanted) == wanted
    assert wanted.is_dir()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("reason", ["a file", "read-only", "no home"])
def test_where_nothing_can_be_kept(reason, tmp_path, monkeypatch, capsys):
    places = {"a file": tmp_path / "file" / "x", "no home": Path("~/.cache/minseg/x")}
    wanted = places.get(reason, tmp_path / "x")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    if reason == "read-only":  # the tests' user may be root, who can write everywhere
        monkeypatch.setattr(cache.os, "access", lambda folder, mode: False)
    folder = cache.writable(wanted)
    assert folder.is_dir()
    assert cache.writable(wanted) == folder != wanted
    err = capsys.readouterr().err
    assert err.count(f"minseg: {wanted} cannot be written") == err.count("\n") == 1
    assert not (tmp_path / "~").exists()


def test_kernels_run_without_a_place_to_keep_them(tmp_path):
    try:
        compiler.compiler()
    except RuntimeError as error:
        pytest.skip(str(error))
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    code = (
        "import numpy as np, minseg, minseg.functional as F\n"
        "with minseg.use_kernels('emulator'):\n"
        "    y = F.max_pool2d(minseg.Tensor(np.arange(-4.0, 4).reshape(1, 1, 2, 4)), 2)\n"
        "print(y.numpy().tolist())"
    )
    places = {"XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary")}
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, **places},
                         capture_output=True, text=True)  # fmt: skip
    assert run.stdout == "[[[[1.0, 3.0]]]]\n"
    assert "cannot be written" in run.stderr
    assert list((tmp_path / "temporary").iterdir()) == []  # it is gone with the process
