import os
import threading

import pytest

from minseg import affinity
from minseg.affinity import keep_off_this_core


@pytest.fixture
def thread():
    end = threading.Event()
    waiting = threading.Thread(target=end.wait)
    waiting.start()
    yield waiting
    end.set()
    waiting.join()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_a_helper_may_run_on_every_core_but_the_caller_s(thread, monkeypatch):
    cores = os.sched_getaffinity(thread.native_id)
    if len(cores) < 2:
        pytest.skip("one core")
    monkeypatch.setattr(affinity, "_cores", cores)
    for core in sorted(cores)[:2]:
        monkeypatch.setattr(affinity, "_current_core", lambda core=core: core)
        keep_off_this_core([thread])
        assert os.sched_getaffinity(thread.native_id) == cores - {core}
    assert os.sched_getaffinity(0) == cores


def test_where_it_cannot_be_done_nothing_is_done(thread, monkeypatch):
    monkeypatch.setattr(affinity, "_cores", {0, 1})
    monkeypatch.setattr(affinity, "_current_core", None)
    keep_off_this_core([thread])

    def refuse(number, cores):
        raise PermissionError

    monkeypatch.setattr(affinity, "_current_core", lambda: 0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    keep_off_this_core([thread])
