import json
import math

import numpy as np
import pytest

import minseg
from minseg import Tensor, nn, optim
from minseg.emulator.sanitize import sanitized
from minseg.optim import together


def parameters(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(rng.standard_normal(shape).astype(dtype)) for shape in [(3, 2), (4,)]]


def give_gradients(params, step):
    rng = np.random.default_rng(100 + step)
    for p in params:
        grad = rng.standard_normal(p.shape).astype(p.dtype)
        p.grad = Tensor(np.asfortranarray(grad))  # strided, as the transpose of a matrix


# -- the textbook formulas, for one number at a time -----------------------------------------------
def sgd_by_hand(p, grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    velocity = None
    for g in grads:
        g = g + weight_decay * p
        velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
        p = p - lr * (g + momentum * velocity if nesterov else velocity if momentum else g)
    return p


def adam_by_hand(p, grads, lr, betas, eps, l2=0.0, decay=0.0, amsgrad=False, sign=1):
    m = v = largest = 0.0
    for t, g in enumerate(grads, start=1):
        g = sign * g + l2 * p
        p = p - lr * decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = max(largest, v) if amsgrad else v
        p = p - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(largest / (1 - betas[1] ** t)) + eps)
    return p


ADAM = {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3}
FORGETFUL = ADAM | {"betas": (0.7, 0.4)}  # so that v often falls
MOMENTUM = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.2}
CASES = [
    (optim.SGD, {"lr": 0.1}, sgd_by_hand, {"lr": 0.1}),
    (optim.SGD, MOMENTUM, sgd_by_hand, MOMENTUM),
    (optim.SGD, MOMENTUM | {"nesterov": True}, sgd_by_hand, MOMENTUM | {"nesterov": True}),
    (optim.SGD, MOMENTUM | {"dampening": 0.5}, sgd_by_hand, MOMENTUM | {"dampening": 0.5}),
    (optim.Adam, ADAM, adam_by_hand, ADAM),
    (optim.Adam, ADAM | {"weight_decay": 0.3}, adam_by_hand, ADAM | {"l2": 0.3}),
    (optim.AdamW, ADAM | {"weight_decay": 0.3}, adam_by_hand, ADAM | {"decay": 0.3}),
    (
        optim.AdamW,
        FORGETFUL | {"weight_decay": 0.3, "amsgrad": True, "maximize": True},
        adam_by_hand,
        FORGETFUL | {"decay": 0.3, "amsgrad": True, "sign": -1},
    ),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "options", "by_hand", "hand_options"), CASES)
def test_updates_follow_the_formulas(kind, options, by_hand, hand_options, dtype):
    params, steps = parameters(dtype), 20
    starts = [p.data.astype(np.float64) for p in params]
    arrays = [p.data for p in params]
    optimizer = kind(params, **options)
    grads = []
    for step in range(steps):
        give_gradients(params, step)
        grads.append([p.grad.data.astype(np.float64) for p in params])
        optimizer.step()
    for i, p in enumerate(params):
        assert p.data is arrays[i]  # changed in place
        assert p.dtype == dtype
        expected = np.empty(p.shape)
        for at in np.ndindex(p.shape):
            expected[at] = by_hand(starts[i][at], [g[i][at] for g in grads], **hand_options)
        scale = max(1, np.abs(expected).max())
        tolerance = 8 * steps * np.finfo(dtype).eps * scale  # a few roundings a step
        np.testing.assert_allclose(p.data, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("small", [0, 10, 1000])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optim.SGD, {}),
        (optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (optim.Adam, {"weight_decay": 0.1}),
        (optim.AdamW, {"weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    ],
)
def test_parameters_together_get_the_bits_that_each_gets_alone(kind, options, small, monkeypatch):
    """Of two dtypes, two groups, and with a gradient not in every step: their steps differ."""
    shapes = [(3, 2), (4,), (1,), (), (0,), (8, 100), (2, 3), (5, 2)]
    dtypes = [np.float32] * 6 + [np.float64] * 2
    grads = np.random.default_rng(0).standard_normal((6, len(shapes), 800))

    def give(p, i, step):
        given = step % (i + 1) != 1
        values = grads[step, i, : p.numel()].reshape(p.shape).astype(p.dtype)
        p.grad = Tensor(values) if given else None

    def rate(i):
        return 0.1 if i % 3 else 0.2

    def begin():
        return [nn.Parameter(np.full(s, 0.5, d)) for s, d in zip(shapes, dtypes, strict=True)]

    alone = begin()
    for i, p in enumerate(alone):
        optimizer = kind([p], lr=rate(i), **options)
        for step in range(6):
            give(p, i, step)
            optimizer.step()

    monkeypatch.setattr(together, "SMALL", small)
    monkeypatch.setattr(together, "BLOCK", 64)
    params = begin()
    arrays = [p.data for p in params]
    groups = [
        {"params": [p for i, p in enumerate(params) if rate(i) == lr], "lr": lr}
        for lr in (0.1, 0.2)
    ]
    optimizer = kind(groups, **options)
    for step in range(6):
        for i, p in enumerate(params):
            give(p, i, step)
        optimizer.step()
    for p, array, expected in zip(params, arrays, alone, strict=True):
        assert p.data is array
        np.testing.assert_array_equal(p.data, expected.data)


def test_an_override_sees_each_parameter():
    params, seen = parameters(), []
    give_gradients(params, 0)
    with minseg.override("sgd", update=lambda p, grad, *rest: seen.append(p)):
        optim.SGD(params).step()
    assert [p is q.data for p, q in zip(seen, params, strict=True)] == [True, True]


def test_a_gradient_of_another_shape_is_refused_and_nothing_changes():
    params = parameters()
    give_gradients(params, 0)
    params[1].grad = Tensor(np.ones(1))
    before = [p.data.copy() for p in params]
    optimizer = optim.Adam(params)
    with pytest.raises(ValueError, match=r"Adam: a parameter of shape \(4,\) has a gradient of"):
        optimizer.step()
    assert not optimizer.state
    for p, array in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, array)


def test_a_parameter_without_gradient_stays():
    a, b = parameters()
    optimizer = optim.Adam([a, b], lr=0.1)
    a.grad = Tensor(np.ones(a.shape))
    before = b.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(b.data, before)
    assert b not in optimizer.state
    optimizer.zero_grad()
    assert a.grad is None


def test_a_parameter_in_another_memory_order_is_updated():
    p = nn.Parameter(np.asfortranarray(np.ones((3, 4))))
    p.grad = Tensor(np.broadcast_to(np.arange(4.0), (3, 4)))
    optim.SGD([p], lr=1).step()
    np.testing.assert_array_equal(p.data, 1 - np.broadcast_to(np.arange(4.0), (3, 4)))


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
def test_resume_is_exact(kind):
    options = {"momentum": 0.9} if kind is optim.SGD else {}

    def begin():
        params = parameters(np.float32)
        optimizer = kind(params, lr=0.1, **options)
        return params, optimizer, optim.CosineAnnealingLR(optimizer, 8)

    def train(params, optimizer, schedule, steps):
        for step in steps:
            give_gradients(params, step)
            optimizer.step()
            schedule.step()

    straight = begin()
    train(*straight, range(6))

    first = begin()
    train(*first, range(3))
    weights = [p.data.copy() for p in first[0]]
    state, schedule_state = first[1].state_dict(), first[2].state_dict()
    train(*first, range(3, 6))  # what is saved must not follow

    second = begin()
    for p, weight in zip(second[0], weights, strict=True):
        p.data[...] = weight
    second[1].load_state_dict(state)
    second[2].load_state_dict(schedule_state)
    train(*second, range(3, 6))
    for one, other in zip(straight[0], second[0], strict=True):
        np.testing.assert_array_equal(one.data, other.data)


def test_state_is_plain_arrays_and_numbers():
    params = parameters(np.float32)
    optimizer = optim.AdamW([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}])
    give_gradients(params, 0)
    optimizer.step()
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert [group["lr"] for group in state["param_groups"]] == [0.5, 1e-3]
    assert sorted(state["state"]) == [0, 1]
    assert state["state"][0]["step"] == 1
    assert type(state["state"][0]["exp_avg"]) is np.ndarray
    json.dumps(state["param_groups"])


def test_load_state_dict_refuses_another_network_and_changes_nothing():
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"groups of \[1\] parameters, needs \[2\]"):
        optimizer.load_state_dict(optim.SGD(params[:1], lr=0.2).state_dict())
    state = optimizer.state_dict()
    state["state"] = {1: {"momentum_buffer": np.ones((3, 2))}}
    state["param_groups"][0]["lr"] = 5.0
    with pytest.raises(ValueError, match=r"momentum_buffer of shape \(3, 2\) for parameter 1"):
        optimizer.load_state_dict(state)
    state["state"] = {2: {}}
    with pytest.raises(ValueError, match="SGD: state_dict has parameter 2 of 2"):
        optimizer.load_state_dict(state)
    with pytest.raises(ValueError, match="SGD: state_dict is another optimizer's: it has 'ams"):
        optimizer.load_state_dict(optim.Adam(params).state_dict())
    with pytest.raises(ValueError, match="SGD: state_dict has no 'param_groups'"):
        optimizer.load_state_dict({"state": {}})
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert not optimizer.state


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "SGD: got a group without parameters"),
        (lambda p: optim.SGD([p, p]), ValueError, "given twice"),
        (lambda p: optim.SGD([np.ones(3)]), TypeError, "parameter is a ndarray"),
        (lambda p: optim.Adam([p], betas=[0.9]), ValueError, "betas is .0.9., needs two"),
        (lambda p: optim.SGD([p * 2]), ValueError, "made by mul"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "SGD: lr is -1, needs at least 0"),
        (lambda p: optim.SGD([p], lr=math.nan), ValueError, "lr is nan"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda p: optim.AdamW([p], betas=(0.9, 1.0)), ValueError, "AdamW: betas is"),
        (lambda p: optim.AdamW([p], betas=0.9), ValueError, "AdamW: betas is 0.9, needs two"),
        (lambda p: optim.SGD([p], lr="0.1"), TypeError, "SGD: lr is '0.1', needs a number"),
        (lambda p: optim.SGD(None), TypeError, "SGD: params is a NoneType"),
        (lambda p: optim.SGD(p), TypeError, "SGD: params is a Parameter, needs an iterable"),
        (lambda p: optim.SGD({"params": [p]}), TypeError, "SGD: params is a dict"),
        (lambda p: optim.Adam([p], eps=-1), ValueError, "Adam: eps is -1"),
        (lambda p: optim.Adam([{"params": [p], "lrr": 1}]), ValueError, "no option 'lrr'"),
        (lambda p: optim.Adam([{"lr": 1}]), TypeError, "needs a dict with params"),
        (lambda p: optim.Adam([{"params": p}, p * 1]), TypeError, "a group is Tensor"),
        (lambda p: optim.StepLR(p, 3), TypeError, "optimizer is a Parameter"),
        (lambda p: optim.StepLR(optim.SGD([p]), 0), ValueError, "step_size is 0"),
        (lambda p: optim.PolyLR(optim.SGD([p]), 0), ValueError, "total_iters is 0"),
        (lambda p: optim.OneCycleLR(optim.SGD([p]), 1), ValueError, "total_steps, or epochs"),
        (lambda p: optim.OneCycleLR(optim.Adam([p]), [1, 2], 9), ValueError, "2 max_lr for 1"),
        (lambda p: optim.OneCycleLR(optim.Adam([p]), 1, 9, pct_start=3), ValueError, "start is 3"),
        (lambda p: optim.LinearLR(optim.SGD([p]), 1.5), ValueError, "factors are 1.5 and 1.0"),
        (lambda p: optim.LinearLR(optim.SGD([p]), 0.5, 1.5), ValueError, "are 0.5 and 1.5"),
        (lambda p: optim.LinearLR(optim.SGD([p]), 0.0), ValueError, "factors are 0.0 and"),
        (lambda p: optim.LambdaLR(optim.SGD([p]), []), ValueError, "0 functions for 1"),
        (lambda p: optim.SequentialLR(optim.SGD([p]), [], [1]), ValueError, "0 schedulers"),
        (lambda p: optim.clip_grad_norm_([p], 1, norm_type=0), ValueError, "norm_type is 0"),
    ],
)
def test_errors_name_the_culprit(make, error, message):
    with pytest.raises(error, match=message):
        make(nn.Parameter(np.ones(3)))


# -- schedules -------------------------------------------------------------------------------------
def rates(make, steps, lr=1.0):
    optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=lr, momentum=0.5)
    schedule = make(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        assert schedule.get_last_lr() == seen[-1:]
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: optim.PolyLR(o, 4, power=2), [1, 9 / 16, 1 / 4, 1 / 16, 0, 0]),
        (lambda o: optim.StepLR(o, 2, gamma=0.5), [1, 1, 0.5, 0.5, 0.25, 0.25]),
        (lambda o: optim.MultiStepLR(o, [1, 4], gamma=0.5), [1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        (lambda o: optim.LinearLR(o, 0.2, 1.0, 4), [0.2, 0.4, 0.6, 0.8, 1, 1]),
        (lambda o: optim.LambdaLR(o, lambda n: 1 / (1 + n)), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        (lambda o: optim.CosineAnnealingLR(o, 4, 0.5), [1, 0.75 + 2**-2.5, 0.75, 0.75 - 2**-2.5]),
        (
            lambda o: optim.SequentialLR(
                o, [optim.LinearLR(o, 0.5, 1.0, 2), optim.PolyLR(o, 4)], [2]
            ),
            [0.5, 0.75, 1, 0.75, 0.5, 0.25, 0],
        ),
        (
            lambda o: optim.OneCycleLR(
                o,
                1.0,
                11,
                pct_start=5 / 11,
                anneal_strategy="linear",
                div_factor=5,
                final_div_factor=2,
            ),
            [0.2, 0.4, 0.6, 0.8, 1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1],
        ),
    ],
)
def test_schedules(make, expected):
    np.testing.assert_allclose(rates(make, len(expected)), expected, rtol=1e-12, atol=1e-15)


def test_one_cycle_ends():
    optimizer = optim.SGD([nn.Parameter(np.ones(1))], momentum=0.5)
    schedule = optim.OneCycleLR(optimizer, 1.0, total_steps=4)
    for _ in range(4):
        schedule.step()
    with pytest.raises(ValueError, match="OneCycleLR: step 5 of 4"):
        schedule.step()


# -- clipping --------------------------------------------------------------------------------------
def test_clip_grad_norm():
    a, b = nn.Parameter(np.zeros(2, np.float32)), nn.Parameter(np.zeros((1, 1), np.float32))
    a.grad, b.grad = Tensor(np.float32([3, 0])), Tensor(np.float32([[4]]))
    assert optim.clip_grad_norm_([a, b], 10.0) == 5
    np.testing.assert_array_equal(a.grad.data, [3, 0])
    assert optim.clip_grad_norm_(iter([a, b]), 2.5) == 5
    np.testing.assert_allclose(a.grad.data, [1.5, 0], rtol=1e-6)  # PyTorch divides by norm + 1e-6
    np.testing.assert_allclose(b.grad.data, [[2]], rtol=1e-6)
    assert a.grad.dtype == np.float32
    assert optim.clip_grad_norm_([nn.Parameter(np.ones(2))], 1.0) == 0


def test_clip_grad_norm_of_huge_and_of_bad_gradients():
    p = nn.Parameter(np.zeros(2, np.float32))
    p.grad = Tensor(np.float32([3e30, 4e30]))  # their squares are no float32
    np.testing.assert_allclose(optim.clip_grad_norm_(p, 1.0), 5e30, rtol=1e-6)
    np.testing.assert_allclose(p.grad.data, [0.6, 0.8], rtol=1e-6)
    p.grad = Tensor(np.float32([np.inf, 1]))
    with pytest.raises(RuntimeError, match="the norm of the gradients is inf"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(p.grad.data, [np.inf, 1])
    optim.clip_grad_norm_(p, 1.0)
    np.testing.assert_array_equal(p.grad.data, [np.nan, 0])
    q = nn.Parameter(np.zeros(1, np.float32))
    for norm_type in (1, 2, math.inf, "inf"):
        p.grad, q.grad = Tensor(np.float32([3, 4])), Tensor(np.float32([np.nan]))
        assert math.isnan(optim.clip_grad_norm_([p, q], 1.0, norm_type))


@pytest.mark.parametrize("clip", [optim.clip_grad_norm_, optim.clip_grad_value_])
def test_clipping_a_module_says_what_to_pass(clip):
    message = f"{clip.__name__}: parameters is a Linear, needs .* model.parameters"
    with pytest.raises(TypeError, match=message):
        clip(nn.Linear(2, 1), 1.0)


def test_clip_grad_value():
    p = nn.Parameter(np.zeros(3))
    p.grad = Tensor(np.array([-3.0, 0.5, 2.0]))
    optim.clip_grad_value_([p], 1.0)
    np.testing.assert_array_equal(p.grad.data, [-1, 0.5, 1])


# -- the kernels -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "options", "by_hand", "hand_options"), CASES)
def test_kernels_follow_the_formulas(kind, options, by_hand, hand_options, dtype):
    with minseg.use_kernels("emulator"):
        test_updates_follow_the_formulas(kind, options, by_hand, hand_options, dtype)


@pytest.mark.parametrize(("kind", "options"), [case[:2] for case in [*CASES[2::2], CASES[-1]]])
def test_kernels_are_sound(kind, options):
    params = parameters(np.float32)
    optimizer = kind(params, **options)
    give_gradients(params, 0)
    with minseg.use_kernels("emulator"), sanitized() as findings:
        optimizer.step()
    assert not findings
