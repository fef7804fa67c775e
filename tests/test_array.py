"""Checks whose outcome lies on a GPU. No GPU takes part: a stand-in shows when it is read."""

import numpy as np
import pytest

from minseg.array import raise_where, to_device


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
