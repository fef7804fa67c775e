import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


def unbatched(x, *args, **kwargs):
    return x.ndim == 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pool2d(dtype):
    assert check("nn.functional.max_pool2d", F.max_pool2d, dtype, refused=unbatched) >= 1000


@pytest.mark.parametrize("dtype", DTYPES)
def test_avg_pool2d(dtype):
    assert check("nn.functional.avg_pool2d", F.avg_pool2d, dtype) >= 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_adaptive_avg_pool2d(dtype):
    name = "nn.functional.adaptive_avg_pool2d"
    assert check(name, F.adaptive_avg_pool2d, dtype, refused=unbatched) >= 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_adaptive_max_pool2d(dtype):
    name = "nn.functional.adaptive_max_pool2d"
    assert check(name, F.adaptive_max_pool2d, dtype, refused=unbatched) >= 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("variant", "count"), [("", 280), ("grad", 30)])
def test_max_unpool2d(variant, count, dtype):
    assert check("nn.functional.max_unpool2d", F.max_unpool2d, dtype, variant) >= count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 0.0])
@pytest.mark.parametrize("adaptive", [False, True])
def test_which_of_several_maxima_counts(adaptive, value, dtype):
    """Equal values (many, in rounded noise), NaN and -inf: the same places as in PyTorch."""
    torch.manual_seed(0)
    x = (torch.randn(3, 4, 11, 14, dtype=dtype) * 1.5).round()
    x[torch.rand(x.shape) < 0.3] = value
    x[1] = value
    name = "adaptive_max_pool2d" if adaptive else "max_pool2d"
    sizes = [((5, 4),), ((3, 14),)] if adaptive else [(2,), (3, 2, 1), ((4, 2), (1, 3), 1, (2, 1))]
    for arguments in sizes:
        expected = getattr(torch.nn.functional, name)(x, *arguments, return_indices=True)
        got = getattr(F, name)(_tensor(x), *arguments, return_indices=True)
        for g, e in zip(got, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(g.data), e, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_sizes_that_do_not_divide(name, ceil_mode):
    for height, kernel, stride in [
        (1, 1, 1),
        (7, 7, 7),
        (5, 2, 3),
        (9, 3, 2),
        (8, 3, 5),
        (6, 4, 3),
    ]:
        for padding in range(kernel // 2 + 1):
            x = torch.randn(2, 3, height, height + 1, dtype=torch.float64)
            arguments = (kernel, stride, padding)
            expected = getattr(torch.nn.functional, name)(x, *arguments, ceil_mode=ceil_mode)
            got = getattr(F, name)(_tensor(x), *arguments, ceil_mode=ceil_mode)
            torch.testing.assert_close(torch.from_numpy(got.data), expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: f.max_pool2d(x, 2),
        lambda f, x: f.avg_pool2d(x, 2),
        lambda f, x: f.adaptive_avg_pool2d(x, (7, 9)),
        lambda f, x: f.adaptive_max_pool2d(x, (7, 9)),
    ],
)
@pytest.mark.parametrize("batch", [0, 2])
def test_empty_batch_and_upsizing(call, batch):
    x = torch.randn(batch, 3, 4, 5, dtype=torch.float64)
    expected = call(torch.nn.functional, x)
    torch.testing.assert_close(torch.from_numpy(call(F, _tensor(x)).data), expected)


def _tensor(x):
    return Tensor(x.numpy())
