import inspect

import numpy as np
import pytest
import torch

import minseg.functional as F
from minseg import Tensor
from tests.oracle.opinfo import check

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nll_loss", 61),
        ("binary_cross_entropy", 11),
        ("binary_cross_entropy_with_logits", 26),
        ("mse_loss", 6),
        ("l1_loss", 6),
        ("smooth_l1_loss", 8),
        ("huber_loss", 9),
    ],
)
def test_loss(name, count, dtype):
    assert check(f"nn.functional.{name}", getattr(F, name), dtype) >= count


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_a_weight_for_each_element(name, reduction):
    rng = np.random.default_rng(0)
    arrays = [*rng.standard_normal((2, 2, 3, 4)), rng.uniform(0.1, 2, (2, 3, 4))]
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.from_numpy(a).requires_grad_() for a in arrays]
    got = getattr(F, name)(ours[0], ours[1], reduction=reduction, weight=ours[2])
    function = getattr(torch.nn.functional, name)
    expected = function(theirs[0], theirs[1], reduction=reduction, weight=theirs[2])
    upstream = rng.standard_normal(got.shape)
    got.backward(upstream)
    expected.backward(torch.from_numpy(np.asarray(upstream)))
    np.testing.assert_allclose(got.data, expected.detach().numpy(), rtol=1e-13)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.grad.data, other.grad.numpy(), rtol=1e-12, atol=1e-14)


PUBLIC = sorted(n for n, f in vars(F).items() if inspect.isfunction(f))


@pytest.mark.parametrize("name", [n for n in PUBLIC if hasattr(torch.nn.functional, n)])
def test_names_order_and_defaults_are_pytorchs(name):
    ours = inspect.signature(getattr(F, name)).parameters
    theirs = getattr(torch.nn.functional, name)
    theirs = getattr(theirs, "__wrapped__", theirs)
    if name in ("max_pool2d", "adaptive_max_pool2d"):
        theirs = getattr(torch.nn.functional, f"{name}_with_indices")
    try:
        parameters = inspect.signature(theirs).parameters
    except ValueError:  # written in C++: its docstring begins with the signature
        head = theirs.__doc__.strip().split(") ->")[0].split("(", 1)[1].replace(" ", "")
        names = [p.split("=")[0] for p in head.replace("\n", "").split(",") if p != "*"]
        assert [n for n in ours if n != "generator"] == names
        return
    given_up = {"size_average", "reduce", "_stacklevel"}
    wanted = [n for n in parameters if n not in given_up]
    assert [n for n in ours if n != "generator"] == wanted
    for key in wanted:
        default = parameters[key].default
        guessed = name in ("softmax", "log_softmax") and key == "dim"  # with a warning, there
        if default is not inspect.Parameter.empty and not guessed:
            assert ours[key].default == default, key
