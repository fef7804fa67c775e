"""Writing to what is no plain file; what a full disk leaves is in test_checkpoint.py."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from minseg.files import write_atomically


def test_a_link_leads_to_its_file_afterwards_too(tmp_path):
    (tmp_path / "runs").mkdir()
    file, link = tmp_path / "runs" / "best", tmp_path / "best"
    file.write_bytes(b"old")
    link.symlink_to(file)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["best", "best", "runs"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are POSIX's")
def test_a_pipe_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit((tmp_path / "pipe").read_bytes)
        write_atomically(tmp_path / "pipe", b"report")
        assert (tmp_path / "pipe").is_fifo()
        assert read.result(timeout=10) == b"report"


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no files for what is open")
def test_what_is_open_is_written_to():
    out, into = os.pipe()
    write_atomically(f"/dev/fd/{into}", b"report")
    os.close(into)
    with open(out, "rb") as file:
        assert file.read() == b"report"
