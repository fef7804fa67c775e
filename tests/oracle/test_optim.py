"""Optimizers, schedules and clipping against PyTorch's, over many steps."""

import numpy as np
import pytest
import torch

from minseg import Tensor, optim
from minseg.nn import Parameter

SHAPES = [(3, 4), (5,), (2, 3, 1, 3), ()]
STEPS = 25
DTYPES = [np.float32, np.float64]
OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.02, "betas": (0.8, 0.5), "weight_decay": 0.1, "amsgrad": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-6, "weight_decay": 0.3}),
    ("AdamW", {"lr": 0.02, "betas": (0.5, 0.3), "amsgrad": True, "maximize": True}),
]


def start(dtype, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [np.array(rng.standard_normal(shape), dtype) for shape in SHAPES]
    # PyTorch computes in float64, so that only our own rounding is seen
    return [Parameter(a.copy()) for a in arrays], [
        torch.nn.Parameter(torch.from_numpy(a.astype(np.float64))) for a in arrays
    ]


def set_gradients(ours, theirs, step):
    """The same gradients for both; one parameter has none in every third step."""
    rng = np.random.default_rng(step)
    for i, (p, t) in enumerate(zip(ours, theirs, strict=True)):
        grad = np.array(rng.standard_normal(p.shape) * 10.0 ** (i - 2), p.dtype)
        absent = i == 1 and step % 3 == 0
        p.grad = None if absent else Tensor(grad)
        t.grad = None if absent else torch.from_numpy(grad.astype(np.float64))


def assert_same(ours, theirs, dtype, lr):
    # Each step rounds the state and the parameter a few times. An Adam step is at most about
    # lr / (1 - beta1) long, a gradient step at most as long as the parameters have moved.
    for p, t in zip(ours, theirs, strict=True):
        assert p.dtype == dtype
        expected = t.detach().numpy()
        scale = max(np.abs(expected).max(), 1.0) + lr
        tolerance = 8 * STEPS * np.finfo(dtype).eps * scale
        np.testing.assert_allclose(p.data, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_updates(name, options, dtype):
    ours, theirs = start(dtype)
    o = getattr(optim, name)(ours, **options)
    t = getattr(torch.optim, name)(theirs, **options)
    for step in range(STEPS):
        set_gradients(ours, theirs, step)
        o.step()
        t.step()
        assert_same(ours, theirs, dtype, o.param_groups[0]["lr"])
    assert {**o.defaults} == {key: t.defaults[key] for key in o.defaults}


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_have_their_own_options(name):
    ours, theirs = start(np.float64)

    def make(module, params):
        groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.3, "weight_decay": 0.2}]
        return getattr(module, name)(groups, lr=0.01)

    o, t = make(optim, ours), make(torch.optim, theirs)
    for step in range(STEPS):
        set_gradients(ours, theirs, step)
        o.step()
        t.step()
    assert_same(ours, theirs, np.float64, 0.3)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    """Momentum goes on where the gradient is 0, and stands still where there is none."""
    ours, theirs = start(np.float64)
    o = optim.SGD(ours, lr=0.1, momentum=0.9)
    t = torch.optim.SGD(theirs, lr=0.1, momentum=0.9)
    for step in range(STEPS):
        for optimizer in (o, t):
            optimizer.zero_grad(set_to_none)
            optimizer.step()
        for p, q in zip(ours, theirs, strict=True):
            assert (p.grad is None) == (q.grad is None)
        set_gradients(ours, theirs, step)
        o.step()
        t.step()
    assert_same(ours, theirs, np.float64, 0.1)


SCHEDULES = {
    "lambda": lambda m, o: m.LambdaLR(o, lambda n: 0.9**n),
    "lambdas": lambda m, o: m.LambdaLR(o, [lambda n: 0.9**n, lambda n: 1 / (n + 1)]),
    "step": lambda m, o: m.StepLR(o, 7, 0.3),
    "multistep": lambda m, o: m.MultiStepLR(o, [3, 9, 9, 20], 0.5),
    "linear": lambda m, o: m.LinearLR(o, 0.01, 1.0, 12),
    "linear_default": lambda m, o: m.LinearLR(o),
    "poly": lambda m, o: m.PolynomialLR(o, 20, 0.9),
    "poly_default": lambda m, o: m.PolynomialLR(o),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 11, 0.002),
    "one_cycle": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=30),
    "one_cycle_epochs": lambda m, o: m.OneCycleLR(o, [0.5, 1], epochs=6, steps_per_epoch=5),
    "one_cycle_linear": lambda m, o: m.OneCycleLR(
        o, 0.5, total_steps=31, pct_start=0.25, anneal_strategy="linear", div_factor=10
    ),
    "one_cycle_three": lambda m, o: m.OneCycleLR(
        o, 0.5, total_steps=33, three_phase=True, final_div_factor=50, base_momentum=0.7
    ),
    "one_cycle_no_rise": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=30, pct_start=0.0),
    "one_cycle_momentum": lambda m, o: m.OneCycleLR(
        o, 0.5, total_steps=30, base_momentum=0.8, max_momentum=0.99
    ),
    "one_cycle_lr_only": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=30, cycle_momentum=False),
    "warm_up_then_poly": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, 1.0, 6), m.PolynomialLR(o, 20, 0.9)], [6]
    ),
    "warm_up_then_cosine_then_steps": lambda m, o: m.SequentialLR(
        o,
        [m.LinearLR(o, 0.1, 0.8, 6), m.CosineAnnealingLR(o, 9), m.StepLR(o, 3)],
        [6, 15],
    ),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's remarks on step() without an optimizer step
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_schedules(name, make):
    ours, theirs = start(np.float64)
    options = {"momentum": 0.9} if name == "SGD" else {}

    def groups(params):
        return [{"params": params[:1], "lr": 0.2}, {"params": params[1:]}]

    o = getattr(optim, name)(groups(ours), lr=0.05, **options)
    t = getattr(torch.optim, name)(groups(theirs), lr=0.05, **options)
    ours_schedule, theirs_schedule = make(optim, o), make(torch.optim.lr_scheduler, t)
    for _ in range(30):
        np.testing.assert_allclose(
            ours_schedule.get_last_lr(), theirs_schedule.get_last_lr(), rtol=1e-12, atol=1e-16
        )
        for one, other in zip(o.param_groups, t.param_groups, strict=True):
            for key in ("momentum", "betas"):
                np.testing.assert_allclose(one.get(key, 0), other.get(key, 0), rtol=1e-12)
        ours_schedule.step()
        theirs_schedule.step()


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clip_grad_norm(max_norm, norm_type):
    ours, theirs = start(np.float64)
    set_gradients(ours, theirs, 1)
    got = optim.clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(got, expected.item(), rtol=1e-14)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.data, t.grad.numpy(), rtol=1e-14)


def test_clip_grad_value():
    ours, theirs = start(np.float32)
    set_gradients(ours, theirs, 1)
    optim.clip_grad_value_(ours, 0.05)
    torch.nn.utils.clip_grad_value_(theirs, 0.05)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.grad.data, t.grad.numpy().astype(np.float32))
