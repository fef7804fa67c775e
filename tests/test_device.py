"""Checks whose outcome lies on a GPU. No GPU takes part: a stand-in shows when it is read."""

from types import SimpleNamespace

import numpy as np
import pytest

from minseg import device
from minseg.device import device_of, raise_where, to_device


class OnGpu:
    """As much of a CuPy array as the checks touch; it notes each time that someone waits for it."""

    def __init__(self, values, reads):
        self.values, self.reads = np.asarray(values), reads

    def any(self):
        return OnGpu(self.values.any(), self.reads)

    def __bool__(self):
        self.reads.append("bool")
        return bool(self.values)

    def get(self):
        self.reads.append("get")
        return self.values


class TwoGpus:
    """As much of CuPy as `to_device` touches: its arrays are made on the current device."""

    def __init__(self):
        self.current = 0
        self.cuda = SimpleNamespace(Device=self.device)

    def device(self, number):
        return SimpleNamespace(use=lambda: setattr(self, "current", number))

    def asarray(self, array):
        return f"on {self.current}"


def test_what_follows_is_computed_on_the_gpu_that_an_array_went_to(monkeypatch):
    """CuPy refuses an array of another device than the current one, on which results are made."""
    cupy = TwoGpus()
    monkeypatch.setattr(device, "_cupy", lambda: (cupy, 2))
    assert to_device(np.ones(3), "cuda:1") == cupy.asarray(None) == "on 1"
    assert to_device(np.ones(3), "cuda") == cupy.asarray(None) == "on 0"


def test_names_of_devices():
    for number, name in ((0, "cuda"), (1, "cuda:1")):
        assert device_of(SimpleNamespace(device=SimpleNamespace(id=number))) == name
    for name in ("gpu", "gpu:0", "cpu:0", "cuda:", "cuda:x"):
        with pytest.raises(ValueError, match=f"device: got '{name}'"):
            to_device(np.ones(1), name)


def fail():
    raise ValueError("a label is wrong")


def test_numpy_raises_at_once():
    raise_where(np.array([False, False]), fail)
    raise_where(np.False_, fail)
    with pytest.raises(ValueError, match="a label is wrong"):
        raise_where(np.array([False, True]), fail)


def test_a_gpu_is_not_waited_for_until_something_is_read():
    reads = []
    raise_where(OnGpu([False, True], reads), fail)
    assert reads == []
    with pytest.raises(ValueError, match="a label is wrong"):
        to_device(OnGpu(1.5, reads), "cpu")
    assert to_device(OnGpu(1.5, reads), "cpu") == 1.5  # said once, not for ever


def test_checks_that_nobody_reads_do_not_pile_up():
    reads = []
    for _ in range(101):
        raise_where(OnGpu([False], reads), fail)
    assert len(reads) == 101
