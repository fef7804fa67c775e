"""conv_transpose2d, unfold, fold, pixel_shuffle, linear against PyTorch."""

import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_conv_transpose2d(dtype):
    def unbatched(x, *args, **kwargs):
        return x.ndim == 3

    name = "nn.functional.conv_transpose2d"
    assert check(name, F.conv_transpose2d, dtype, refused=unbatched) >= 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_unfold(dtype):
    assert check("nn.functional.unfold", F.unfold, dtype) >= 150


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle"])
def test_pixel_shuffle(name, dtype):
    assert check(f"nn.functional.{name}", getattr(F, name), dtype) >= 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear(dtype):
    assert check("nn.functional.linear", F.linear, dtype) >= 9


@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "padding", "stride"),
    [((6, 7), 3, 1, 1, 1), ((6, 7), (2, 3), (2, 1), (1, 0), (3, 2)), ((4, 5), (4, 5), 1, 0, 1)],
)
def test_fold(size, kernel, dilation, padding, stride):
    """OpInfo has no fold: columns of random numbers, forward and gradient."""
    how = (kernel, dilation, padding, stride)
    image = torch.zeros(2, 3, *size, dtype=torch.float64)
    columns = torch.randn_like(torch.nn.functional.unfold(image, *how)).requires_grad_()
    expected = torch.nn.functional.fold(columns, size, *how)
    ours = Tensor(columns.detach().numpy(), requires_grad=True)
    got = F.fold(ours, size, *how)
    torch.testing.assert_close(torch.from_numpy(got.data), expected.detach())
    upstream = torch.randn_like(expected)
    expected.backward(upstream)
    got.backward(upstream.numpy())
    torch.testing.assert_close(torch.from_numpy(ours.grad.data), columns.grad)
