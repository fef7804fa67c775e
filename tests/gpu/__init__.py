"""Tests on a CUDA GPU. Without one they skip, and say so: `pytest -m gpu` there."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest

from minseg.device import has_gpu

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_gpu(), reason='needs a CUDA GPU and CuPy: "minseg[cuda12]"'),
    # CuPy's own, where it finds no CUDA toolkit beside its wheels, or is newer than a name we use.
    pytest.mark.filterwarnings("ignore::UserWarning:cupy", "ignore::UserWarning:cupyx"),
]


@contextmanager
def waits_for_nothing(monkeypatch):
    """CuPy raises where the host would wait; gives a list of the shapes that go to the device."""
    import cupy
    import cupyx

    copied = []
    with monkeypatch.context() as patch, warnings.catch_warnings():
        for function in ("array", "asarray"):
            original = getattr(cupy, function)

            def counting(a, *arguments, original=original, **options):
                if not isinstance(a, cupy.ndarray):
                    copied.append(np.shape(a))
                return original(a, *arguments, **options)

            patch.setattr(cupy, function, counting)
        warnings.simplefilter("ignore")  # it may miss a wait, CuPy says
        with cupyx.allow_synchronize(False):
            yield copied
