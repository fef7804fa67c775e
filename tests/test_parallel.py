import numpy as np
import pytest

from minseg import parallel
from minseg.parallel import BLOCK, in_blocks, parallel_for


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(parallel, "_num_threads", request.param)


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 5 * BLOCK - 7])
@pytest.mark.usefixtures("threads")
def test_a_formula_in_blocks_is_the_formula(size):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size)).astype(np.float32)
    got = in_blocks(lambda a, b, c: a * b + c)(a, b, 2.0)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, a * b + np.float32(2))


@pytest.mark.usefixtures("threads")
def test_blocks_of_views():
    x = np.random.default_rng(0).standard_normal((300, 200, 3))
    turned = x.transpose(2, 0, 1)[:, ::-1]
    np.testing.assert_array_equal(in_blocks(np.exp)(turned), np.exp(turned))


@pytest.mark.usefixtures("threads")
def test_what_numpy_is_told_to_ignore_is_ignored_in_all_threads():
    large = np.full(4 * BLOCK, 1000.0)
    with np.errstate(over="ignore"):
        assert np.isinf(in_blocks(np.exp)(large)).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        in_blocks(np.exp)(large)


@pytest.mark.usefixtures("threads")
def test_each_block_runs_once_and_its_error_is_raised():
    seen = []
    parallel_for(seen.append, 20)
    assert sorted(seen) == list(range(20))
    with pytest.raises(ZeroDivisionError):
        parallel_for(lambda i: 1 // (i - 3), 20)
