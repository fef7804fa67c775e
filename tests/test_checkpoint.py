import errno
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from minseg import checkpoint
from minseg.random import get_rng_state, manual_seed


def tree():
    return {
        "model": {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3)},
        "optimizer": {"state": {0: {"step": 3, "m": np.full((2,), 0.1)}}, "groups": [{"lr": 0.1}]},
        "rng": get_rng_state(),
        "scalar": np.array(1.5, np.float32),
        "empty": np.zeros((0, 3), np.int64),
        "view": np.arange(12.0).reshape(3, 4)[::2, ::-1],
        "note": None,
        "third": 1 / 3,
        "number": np.float64(0.1),
        "flag": True,
    }


def equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            equal(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            equal(x, y)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    manual_seed(1)
    expected = tree()
    checkpoint.save(tmp_path / "a.safetensors", expected)
    got = checkpoint.load(tmp_path / "a.safetensors")
    expected["number"] = 0.1  # a NumPy number comes back as a plain one
    equal(got, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_other_programs_find_the_weights(tmp_path):
    checkpoint.save(tmp_path / "a.safetensors", tree())
    assert load_file(tmp_path / "a.safetensors")["model.conv.weight"].shape == (2, 3)


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"optimizer\.hook is a function"):
        checkpoint.save(tmp_path / "a", {"optimizer": {"hook": tree}})
    assert not list(tmp_path.iterdir())


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoint.load(tmp_path / "nowhere.safetensors")


def test_every_truncation_is_an_error_that_names_the_file(tmp_path):
    checkpoint.save(tmp_path / "whole", tree())
    data = (tmp_path / "whole").read_bytes()
    for length in [*range(0, 40), *range(40, len(data), 97), len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(ValueError, match="cut: broken"):
            checkpoint.load(tmp_path / "cut")


HOSTILE = {
    "a pickle": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a huge header": (2**62).to_bytes(8, "little") + b"{}",
    "offsets past the end": (lambda head: len(head).to_bytes(8, "little") + head + b"\0" * 8)(
        b'{"x":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    ),
    "not ours": to_bytes({"x": np.zeros(2)}),
    "no JSON": to_bytes({}, {"minseg": "{"}),
    "deep JSON": to_bytes({}, {"minseg": "[" * 100_000}),
    "a list": to_bytes({}, {"minseg": "[]"}),
    "an array that is not there": to_bytes({}, {"minseg": json.dumps({"a": {"__array__": "b"}})}),
    "items that are no pairs": to_bytes({}, {"minseg": json.dumps({"a": {"__items__": [1]}})}),
    "an array's name that is a list": to_bytes({}, {"minseg": '{"a": {"__array__": []}}'}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_an_error_that_names_it(tmp_path, kind):
    (tmp_path / "evil.safetensors").write_bytes(HOSTILE[kind])
    with pytest.raises(ValueError, match=r"evil\.safetensors"):
        checkpoint.load(tmp_path / "evil.safetensors")


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "a", {"step": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a: not saved: No space left.*earlier file is intact"):
        checkpoint.save(tmp_path / "a", {"step": 2})
    assert checkpoint.load(tmp_path / "a") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_drive_that_cannot_force_a_folder_to_the_disk_is_fine(tmp_path, monkeypatch):
    """Some network drives cannot, such as CIFS's."""

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", files_only)
    checkpoint.save(tmp_path / "a", {"step": 1})
    assert checkpoint.load(tmp_path / "a") == {"step": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes there")
def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("here before")
    for place in ("nowhere/a.safetensors", "file/a.safetensors", "a" * 300, "."):
        with pytest.raises(OSError, match="not saved: "):
            checkpoint.save(tmp_path / place, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert [path.name for path in tmp_path.parent.glob("*.tmp")] == []
    assert (tmp_path / "file").read_text() == "here before"


def test_a_write_that_the_system_cuts_short_loses_nothing(tmp_path):
    checkpoint.save(tmp_path / "a", {"step": 1})
    code = (
        "import resource, sys, numpy as np; from minseg import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: checkpoint.save(sys.argv[1], {'x': np.zeros(10000)})\n"
        "except OSError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True
    )
    assert "not saved: File too large; the earlier file is intact" in run.stdout
    assert checkpoint.load(tmp_path / "a") == {"step": 1}
