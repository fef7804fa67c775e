"""in_turn against module after module: convolution, batch norm and ReLU; batch norm and ReLU."""

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, nn, no_grad
from minseg.models import build
from minseg.models.deeplabv3 import SeparableConvBNReLU
from minseg.nn.sequence import scaled_conv2d
from minseg.ops.fast import norm
from minseg.ops.fast.conv_norm_relu import serves

from ..models.test_models import QUICK, logits, options_of

EPS = np.finfo(np.float32).eps


def draw(*shape, low=-1.0, high=1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def trained(network, seed=0):
    """In evaluation, with statistics, scales and shifts that training might have left."""
    rng = np.random.default_rng(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = module.num_features
            module.running_mean.data[...] = rng.normal(0, 0.3, size)
            module.running_var.data[...] = rng.uniform(0.3, 3, size)
            if module.weight is not None:
                module.weight.data[...] = rng.uniform(-1.5, 1.5, size)
                module.bias.data[...] = rng.normal(0, 0.3, size)
    return network.eval()


@pytest.fixture
def at_once(monkeypatch):
    """Counts the convolutions that were computed with their norm."""
    calls = []

    def counted(*args, **options):
        calls.append(options["relu"])
        return scaled_conv2d(*args, **options)

    monkeypatch.setattr("minseg.nn.sequence.scaled_conv2d", counted)
    return calls


CONVOLUTIONS = {
    "3x3, same": ((2, 5, 19, 17), {"kernel_size": 3, "padding": "same"}),
    "even, same": ((2, 5, 9, 11), {"kernel_size": 2, "padding": "same"}),
    "long rows": ((1, 5, 40, 300), {"kernel_size": 3, "padding": 1}),
    "no bias": ((2, 5, 19, 17), {"kernel_size": 3, "bias": False}),
    "stride": ((2, 5, 19, 17), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "1x1": ((2, 5, 19, 17), {"kernel_size": 1}),
    "atrous": ((2, 5, 19, 17), {"kernel_size": 3, "padding": 4, "dilation": 4}),
    "groups": ((2, 6, 19, 17), {"kernel_size": 3, "groups": 3}),
    "depthwise": ((2, 6, 19, 17), {"kernel_size": 3, "groups": 6, "padding": 1}),
    "no images": ((0, 5, 19, 17), {"kernel_size": 3, "padding": 1}),
}


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_every_way_to_convolve(case, relu, at_once):
    shape, options = CONVOLUTIONS[case]
    minseg.manual_seed(0)
    conv, norm = nn.Conv2d(shape[1], 6, **options), nn.BatchNorm2d(6)
    layers = trained(nn.Sequential(conv, norm, *([nn.ReLU()] if relu else [])))
    x = Tensor(draw(*shape))
    kept = x.data.copy()
    step_by_step = layers(x).data  # recorded: each module by itself
    assert not at_once
    with no_grad():
        result = layers(x)
    assert at_once == [relu]
    assert not result.requires_grad
    assert result.dtype == np.float32
    np.testing.assert_array_equal(x.data, kept)

    # Both sum `length` products, whose sizes add up to `total`: each rounds by at most
    # eps / 2 (length + 5) of these, those of the scale, the norm and the bias included.
    length = conv.weight.data[0].size
    scale = np.abs(norm.weight.data) / np.sqrt(norm.running_var.data + norm.eps)
    size = lambda t: None if t is None else Tensor(np.abs(t.data))  # noqa: E731
    total = F.conv2d(size(x), size(conv.weight), size(conv.bias), conv.stride, conv.padding,
                     conv.dilation, conv.groups).data  # fmt: skip
    over = lambda values: values[:, None, None]  # noqa: E731
    total = over(scale) * (total + over(np.abs(norm.running_mean.data)))
    total = total + over(np.abs(norm.bias.data))
    assert (np.abs(result.data - step_by_step) <= EPS * (length + 5) * total).all()


def test_a_norm_without_scale_and_shift(at_once):
    layers = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)))
    x = Tensor(draw(2, 3, 8, 9))
    expected = layers(x).data
    with no_grad():
        np.testing.assert_allclose(layers(x).data, expected, atol=1e-6 * abs(expected).max())
    assert len(at_once) == 1


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_another_frame_than_zeros_is_kept(mode, at_once):
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode)
    layers = trained(nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU()))
    with no_grad():
        x = Tensor(draw(2, 3, 8, 9))
        np.testing.assert_array_equal(layers(x).data, layers[2](layers[1](conv(x))).data)
    assert not at_once


@pytest.mark.parametrize("options", [{"track_running_stats": False}, {"eps": 0.0}])
def test_a_norm_without_a_finite_scale_of_its_own(options, at_once):
    """By the batch's statistics; and by a deviation of 0, which no filter can be divided by."""
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options)
    layers = nn.Sequential(conv, norm).eval()
    if norm.running_var is not None:
        norm.running_mean.data[1], norm.running_var.data[1] = 0.5, 0
    with no_grad(), np.errstate(divide="ignore", invalid="ignore"):
        x = Tensor(draw(2, 3, 8, 9))
        np.testing.assert_array_equal(layers(x).data, norm(conv(x)).data)
    assert not at_once


def test_not_a_number_and_infinity_show_where_they_would():
    layers = trained(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU()))
    x = Tensor(draw(1, 2, 8, 9))
    x.data[0, 0, 1, 2], x.data[0, 1, 3, 4], x.data[0, 1, 5, 6] = np.nan, np.inf, -np.inf
    expected = layers(x).data
    with no_grad():
        np.testing.assert_allclose(layers(x).data, expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(expected).any()
    assert np.isinf(expected).any()


def test_the_steps_are_taken_one_by_one_where_somebody_looks(at_once):
    layers = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    x, seen = Tensor(draw(2, 3, 8, 9)), []
    expected = layers(x).data
    with no_grad():
        for layer in layers:
            handle = layer.register_forward_hook(lambda *args: seen.append(args))
            np.testing.assert_allclose(layers(x).data, expected, atol=1e-5)
            handle.remove()
        assert len(seen) == 3
        assert at_once == [False]  # the hook on the ReLU: the two before it are one

        layers.train()
        layers(x)
        assert len(at_once) == 1


@pytest.mark.parametrize("op", ["conv2d", "batch_norm", "relu"])
@pytest.mark.filterwarnings("ignore:override")
def test_an_override_runs(op, at_once):
    layers = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    x, calls = Tensor(draw(2, 3, 8, 9)), []
    own = minseg.ops.op.get_op(op).numpy["forward"]

    def mine(*args):
        calls.append(op)
        return own(*args)

    with no_grad(), minseg.override(op, forward=mine):
        layers(x)
    assert calls == [op]
    assert at_once == ([False] if op == "relu" else [])


def test_a_kernel_in_the_emulator_is_to_see_each_step():
    x = Tensor(draw(1, 2, 3, 4))
    with no_grad():
        assert serves(x, relu=True)
        with minseg.use_kernels("emulator"):
            assert not serves(x, relu=True)
    assert not serves(x, relu=True)


def test_errors_are_the_layers_own():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with no_grad():
        with pytest.raises(ValueError, match=r"conv2d: .*channels"):
            layers(Tensor(draw(2, 5, 8, 9)))
        with pytest.raises(ValueError, match=r"conv2d: the output would be"):
            layers(Tensor(draw(2, 3, 2, 9)))
        with pytest.raises(TypeError, match="conv2d"):
            layers(Tensor(draw(2, 3, 8, 9).astype(np.float64)))
        with pytest.raises(ValueError, match="BatchNorm2d"):
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)).eval()(Tensor(draw(1, 3, 8, 9)))


# -- in training: batch norm and ReLU ------------------------------------------------------------
@pytest.fixture(params=["plain formulas", "few passes"])
def way(request, monkeypatch):
    """Both that norm.py may go, whatever the size."""
    monkeypatch.setattr(norm, "FEW", 2**40 if request.param == "plain formulas" else -1)


def norm_and_relu(dtype=np.float32, **options):
    norm = nn.BatchNorm2d(4, **options)
    if norm.weight is not None:
        norm.weight.data[...], norm.bias.data[...] = [0.5, -1, 2, 0], [0.1, 0.2, -0.3, 0]
    return nn.Sequential(norm, nn.ReLU()).to(dtype)


def trained_once(call, layers, x, grad):
    """The result of a step of training, what made it, all gradients and what the norm remembers."""
    leaf = Tensor(x, requires_grad=True)
    y = call(leaf)
    y.backward(grad)
    parameters = [p.grad.data for p in layers.parameters() if p.requires_grad]
    return y._op, [y.data, leaf.grad.data, *parameters, *layers.state_dict().values()]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]
)
def test_training_takes_norm_and_relu_at_once(options, dtype):
    """The same bits as one by one, a NaN in its channel, and the same record of the batches."""
    x = draw(3, 4, 5, 6).astype(dtype)
    x[1, 2, 3, 4] = np.nan
    kept, grad = x.copy(), np.cos(np.arange(x.size, dtype=dtype)).reshape(x.shape)
    results = []
    for by_itself in (False, True):
        layers = norm_and_relu(dtype, **options)
        norm, relu = layers
        call = (lambda leaf: relu(norm(leaf))) if by_itself else layers  # noqa: B023
        results.append(trained_once(call, layers, x, grad))
    (at_once, got), (one_by_one, expected) = results
    assert (at_once, one_by_one) == ("batch_norm_relu", "relu")
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert np.isnan(got[0][:, 2]).all()
    np.testing.assert_array_equal(x, kept)


def test_without_gradients_training_moves_the_statistics_all_the_same():
    x = Tensor(draw(3, 4, 5, 6))
    layers, others = norm_and_relu(), norm_and_relu()
    with no_grad():
        y = layers(x)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.data, others[1](others[0](x)).data)
    np.testing.assert_array_equal(layers[0].running_var.data, others[0].running_var.data)


def test_what_follows_norm_and_relu_in_training_runs_too():
    norm, relu = norm_and_relu()
    conv, x = nn.Conv2d(4, 2, 3), Tensor(draw(3, 4, 5, 6))
    got = nn.Sequential(norm, relu, conv)(x)
    assert got._parents[0]._op == "batch_norm_relu"
    np.testing.assert_array_equal(got.data, conv(relu(norm(x))).data)


@pytest.mark.usefixtures("way")
def test_a_frozen_norm_passes_the_gradient_on():
    x, grad = draw(3, 4, 5, 6), draw(3, 4, 5, 6, seed=1)
    expected = trained_once(layers := norm_and_relu(), layers, x, grad)[1]
    layers = norm_and_relu().requires_grad_(False)
    op, got = trained_once(layers, layers, x, grad)
    assert op == "batch_norm_relu"
    np.testing.assert_array_equal(got[1], expected[1])
    assert layers[0].weight.grad is None


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_infinite_gradient_ends_at_the_relu(dtype):
    """The slope of a square root at 0. As if these outputs had no gradient: finite for all."""
    x, grad = draw(3, 4, 5, 6).astype(dtype), draw(3, 4, 5, 6, seed=1).astype(dtype)
    off = norm_and_relu().to(dtype)(Tensor(x)).data == 0
    assert off.any()
    got = []
    for at_those in (0, np.inf):
        layers = norm_and_relu().to(dtype)
        op, results = trained_once(layers, layers, x, np.where(off, dtype(at_those), grad))
        assert op == "batch_norm_relu"
        got.append(results)
    for finite, one in zip(*got, strict=True):
        assert np.isfinite(finite).all()
        np.testing.assert_array_equal(one, finite)


class MyReLU(nn.ReLU):
    pass


@pytest.mark.parametrize("change", ["hook", "other hook", "forward", "subclass", "evaluation"])
def test_training_takes_them_one_by_one_where_somebody_looks(change):
    layers, seen = norm_and_relu(), []
    if change == "hook":
        layers[0].register_forward_hook(lambda *args: seen.append(args[2]))
    elif change == "other hook":
        layers[1].register_forward_hook(lambda *args: seen.append(args[1][0]))
    elif change == "forward":
        own = layers[0].forward
        layers[0].forward = lambda x: seen.append(own(x)) or seen[-1]
    elif change == "subclass":
        layers = nn.Sequential(layers[0], MyReLU())
    else:
        layers.eval()
    y = layers(Tensor(draw(3, 4, 5, 6)))
    assert y._op == "relu"
    assert y._parents[0]._op == "batch_norm"
    for before in seen:
        assert (before.data < 0).any()
        np.testing.assert_array_equal(np.maximum(before.data, 0), y.data)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("op", "part"),
    [
        ("batch_norm", "moments"),
        ("batch_norm", "grad"),
        ("relu", "forward"),
        ("relu", "grad_input"),
    ],
)
@pytest.mark.parametrize("only_backward", [False, True])
@pytest.mark.filterwarnings("ignore:override")
def test_an_override_runs_in_training(op, part, only_backward):
    """Also one that begins when the two have been computed at once: the gradient is its own."""
    layers, calls = norm_and_relu(), []
    own = minseg.ops.op.get_op(op).numpy[part]

    def mine(*args):
        calls.append(part)
        return own(*args)

    x, grad = draw(3, 4, 5, 6), draw(3, 4, 5, 6, seed=1)
    expected = trained_once(layers, layers, x, grad)[1][1]
    leaf = Tensor(x, requires_grad=True)
    early = layers(leaf)
    with minseg.override(op, **{part: mine}):
        y = early if only_backward else layers(leaf)
        y.backward(grad)
    assert y._op == ("batch_norm_relu" if only_backward else "relu")
    assert calls == ([] if only_backward and "grad" not in part else [part])
    np.testing.assert_allclose(leaf.grad.data, expected, atol=1e-5)


def test_the_emulator_runs_each_kernel_in_training():
    layers = norm_and_relu()
    with minseg.use_kernels("emulator"):
        y = layers(Tensor(draw(2, 4, 3, 2)))
    assert y._op == "relu"


def test_errors_in_training_are_the_norm_s_own():
    layers = norm_and_relu()
    for shape, message in (((1, 4, 1, 1), "one value a channel"), ((2, 5, 3, 3), "BatchNorm2d")):
        with pytest.raises(ValueError, match=message):
            layers(Tensor(draw(*shape)))
    with pytest.raises(TypeError, match="batch_norm"):
        layers(Tensor(draw(2, 4, 3, 3).astype(np.float64)))


@pytest.mark.parametrize("name", QUICK)
def test_every_network(name, at_once):
    """In float64, where the order of sums shows in the last digits only."""
    minseg.manual_seed(0)
    options = options_of(name)
    if name in ("unet", "fcn32s", "fcn16s", "fcn8s"):
        options["norm"] = "batch"
    network = trained(build(name, num_classes=3, **options)).to(np.float64)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 33, 40)))
    expected = logits(network(x)).data
    assert not at_once
    with no_grad():
        result = logits(network(x)).data
    kinds = [type(module) for module in network.modules()]
    # A separable convolution ends inside a Sequential of its own, its norm stands outside.
    assert len(at_once) == kinds.count(nn.BatchNorm2d) - kinds.count(SeparableConvBNReLU)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
