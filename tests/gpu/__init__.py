"""Tests on a CUDA GPU. Without one they skip, and say so: `pytest -m gpu` there."""

import pytest

from minseg.array import has_gpu

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_gpu(), reason='needs a CUDA GPU and CuPy: "minseg[cuda12]"'),
    # CuPy's own, where it finds no CUDA toolkit beside its wheels, or is newer than a name we use.
    pytest.mark.filterwarnings("ignore::UserWarning:cupy", "ignore::UserWarning:cupyx"),
]
