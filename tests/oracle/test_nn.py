"""Layers against torch.nn's: names, defaults, outputs, gradients and statistics, weights copied."""

import inspect

import numpy as np
import pytest
import torch

import minseg
from minseg import Tensor, nn

IMAGE = (2, 4, 9, 8)
LAYERS = [
    ("Conv2d", (4, 6, 3), {}, IMAGE),
    ("Conv2d", (4, 6, (2, 3), (2, 1), (1, 0), 2, 2, False), {}, IMAGE),
    ("Conv2d", (4, 6, (3, 4)), {"padding": "same", "dilation": 2}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": (2, 1), "padding_mode": "reflect"}, IMAGE),
    ("Conv2d", (4, 6, (3, 4)), {"padding": "same", "padding_mode": "replicate"}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": "valid", "padding_mode": "circular"}, IMAGE),
    ("ConvTranspose2d", (4, 6, 3), {}, IMAGE),
    ("ConvTranspose2d", (4, 6, (3, 2), (2, 3), 1, (1, 2), 2, False, 2), {}, IMAGE),
    ("Linear", (8, 5), {}, IMAGE),
    ("Linear", (8, 5), {"bias": False}, IMAGE),
    ("BatchNorm2d", (4,), {}, IMAGE),
    ("BatchNorm2d", (4, 1e-3, None), {}, IMAGE),
    ("BatchNorm2d", (4,), {"affine": False, "momentum": 0.3}, IMAGE),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, IMAGE),
    ("BatchNorm2d", (4,), {"bias": False}, IMAGE),
    ("InstanceNorm2d", (4,), {}, IMAGE),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, IMAGE),
    ("InstanceNorm2d", (4,), {"momentum": None, "track_running_stats": True}, IMAGE),
    ("GroupNorm", (2, 4), {}, IMAGE),
    ("GroupNorm", (4, 4, 1e-2, False), {}, IMAGE),
    ("LayerNorm", (8,), {}, IMAGE),
    ("LayerNorm", ((9, 8), 1e-3), {"bias": False}, IMAGE),
    ("LayerNorm", (8,), {"elementwise_affine": False}, IMAGE),
    ("MaxPool2d", (2,), {}, IMAGE),
    ("MaxPool2d", (3, 2, 1, 1, False, True), {}, IMAGE),
    ("MaxPool2d", ((2, 3), 1), {"dilation": 2, "return_indices": True}, IMAGE),
    ("AvgPool2d", (2,), {}, IMAGE),
    ("AvgPool2d", (3, 2, 1, True, False), {}, IMAGE),
    ("AvgPool2d", (3,), {"divisor_override": 5}, IMAGE),
    ("AdaptiveAvgPool2d", (1,), {}, IMAGE),
    ("AdaptiveAvgPool2d", ((None, 3),), {}, IMAGE),
    ("AdaptiveMaxPool2d", ((4, 3),), {}, IMAGE),
    ("AdaptiveMaxPool2d", (2, True), {}, IMAGE),
    ("Upsample", (), {"scale_factor": 2}, IMAGE),
    ("Upsample", ((5, 13),), {"mode": "bilinear", "align_corners": True}, IMAGE),
    ("Upsample", (None, (1.7, 0.5), "bicubic"), {"recompute_scale_factor": True}, IMAGE),
    ("PixelShuffle", (2,), {}, IMAGE),
    ("ReLU", (), {}, IMAGE),
    ("ReLU", (True,), {}, IMAGE),
    ("ReLU6", (), {}, IMAGE),
    ("LeakyReLU", (), {}, IMAGE),
    ("LeakyReLU", (0.3,), {"inplace": True}, IMAGE),
    ("ELU", (0.7,), {}, IMAGE),
    ("GELU", (), {}, IMAGE),
    ("GELU", ("tanh",), {}, IMAGE),
    ("SiLU", (), {}, IMAGE),
    ("Sigmoid", (), {}, IMAGE),
    ("Tanh", (), {}, IMAGE),
    ("Softplus", (2.0, 1.0), {}, IMAGE),
    ("Hardswish", (), {}, IMAGE),
    ("Softmax", (1,), {}, IMAGE),
    ("LogSoftmax", (-1,), {}, IMAGE),
    ("Identity", (3,), {"anything": 1}, IMAGE),
    ("Flatten", (), {}, IMAGE),
    ("Flatten", (2, 3), {}, IMAGE),
    ("Softmax2d", (), {}, IMAGE),
    ("PixelUnshuffle", (2,), {}, (2, 3, 8, 6)),
    ("Unfold", (3,), {}, IMAGE),
    ("Unfold", ((2, 3), 2, (1, 0), (3, 1)), {}, IMAGE),
    ("Fold", ((9, 8), 3), {}, (2, 4 * 9, 42)),
    ("Fold", (6, (2, 3), (2, 1), 1, 2), {}, (1, 12, 9)),
    ("UpsamplingNearest2d", (), {"scale_factor": 1.7}, IMAGE),
    ("UpsamplingBilinear2d", ((5, 13),), {}, IMAGE),
    ("ReflectionPad2d", ((1, 0, 2, 3),), {}, IMAGE),
    ("ReplicationPad2d", (2,), {}, IMAGE),
    ("CircularPad2d", ((1, 0, 2, 3),), {}, IMAGE),
    ("ConstantPad2d", (2, -1.5), {}, IMAGE),
    ("ZeroPad2d", (2,), {}, IMAGE),
    ("ZeroPad2d", ((1, 0, 2, 3),), {}, IMAGE),
    ("Dropout", (0.0,), {}, IMAGE),
    ("Dropout2d", (0.0,), {}, IMAGE),
]
IDS = [f"{name}{i}" for i, (name, *_) in enumerate(LAYERS)]


def pair_of_layers(name, args, kwargs):
    """minseg's layer and PyTorch's, in float64, with the same random state."""
    ours = getattr(nn, name)(*args, **kwargs).to(np.float64)
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    state = theirs.state_dict()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in state.items()
    }
    assert list(ours.state_dict()) == list(state)
    rng = np.random.default_rng(0)
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = torch.from_numpy(np.abs(rng.standard_normal(tuple(value.shape))) + 0.1)
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    return ours, theirs


def assert_close(got, expected, what):
    np.testing.assert_allclose(
        got, expected.detach().numpy(), rtol=1e-11, atol=1e-11, err_msg=what
    )  # float64 sums of at most a few hundred terms of size 1


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS, ids=IDS)
def test_layer(name, args, kwargs, shape):
    ours, theirs = pair_of_layers(name, args, kwargs)
    rng = np.random.default_rng(1)
    for mode in (True, True, False):
        ours.train(mode)
        theirs.train(mode)
        ours.zero_grad()
        theirs.zero_grad()
        x = rng.standard_normal(shape)
        leaf, torch_leaf = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
        got, expected = ours(leaf), theirs(torch_leaf * 1)  # * 1: inplace refuses a leaf
        if isinstance(expected, tuple):
            np.testing.assert_array_equal(got[1].data, expected[1].numpy())
            got, expected = got[0], expected[0]
        assert got.shape == tuple(expected.shape)
        assert_close(got.data, expected, "output")
        upstream = rng.standard_normal(got.shape)
        got.backward(upstream)
        expected.backward(torch.from_numpy(upstream))
        assert_close(leaf.grad.data, torch_leaf.grad, "gradient of the input")
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert_close(p.grad.data, q.grad, f"gradient of {key}")
        for key, value in theirs.state_dict().items():
            assert_close(ours.state_dict()[key], value, key)


def test_hardsigmoid():
    x = np.random.default_rng(0).standard_normal(IMAGE) * 3  # its gradient: tests of the function
    assert_close(nn.Hardsigmoid()(Tensor(x)).data, torch.nn.Hardsigmoid()(torch.from_numpy(x)), "")


NAMES = {"Hardsigmoid", *(name for name, *_ in LAYERS)} - {"Identity"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_arguments_and_defaults(name):
    ours = inspect.signature(getattr(nn, name)).parameters
    theirs = inspect.signature(getattr(torch.nn, name)).parameters
    left_out = {"device", "dtype", "args", "kwargs"}
    assert list(ours) == [key for key in theirs if key not in left_out]
    for key, parameter in ours.items():
        wanted = theirs[key].default
        if name in ("Softmax", "LogSoftmax"):
            continue  # PyTorch guesses an axis, with a warning; here it is required
        assert parameter.default == wanted or (wanted is parameter.empty is parameter.default)


LOSSES = [
    ("CrossEntropyLoss", {"ignore_index": 1, "label_smoothing": 0.1}, "classes"),
    ("CrossEntropyLoss", {"weight": 3, "reduction": "sum"}, "classes"),
    ("NLLLoss", {"weight": 3, "ignore_index": 2}, "classes"),
    ("BCELoss", {"reduction": "none"}, "unit"),
    ("BCEWithLogitsLoss", {"pos_weight": 4, "weight": 4}, "unit"),
    ("MSELoss", {}, "unit"),
    ("L1Loss", {"reduction": "sum"}, "unit"),
    ("SmoothL1Loss", {"beta": 0.3}, "unit"),
    ("HuberLoss", {"delta": 0.3}, "unit"),
]


@pytest.mark.parametrize(("name", "options", "kind"), LOSSES, ids=[loss[0] for loss in LOSSES])
def test_loss(name, options, kind):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (2, 3, 5, 4))
    target = rng.integers(0, 3, (2, 5, 4)) if kind == "classes" else rng.uniform(0, 1, x.shape)
    options = {k: np.arange(1.0, v + 1) if "weight" in k else v for k, v in options.items()}

    def build(module, tensor):
        found = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return getattr(module, name)(**found)

    ours, theirs = build(nn, Tensor), build(torch.nn, torch.from_numpy)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    leaf, torch_leaf = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    got, expected = ours(leaf, Tensor(target)), theirs(torch_leaf, torch.from_numpy(target))
    assert_close(got.data, expected, "loss")
    upstream = rng.standard_normal(got.shape)
    got.backward(upstream)
    expected.backward(torch.from_numpy(np.asarray(upstream)))
    assert_close(leaf.grad.data, torch_leaf.grad, "gradient")


def test_max_unpool():
    x = np.random.default_rng(0).standard_normal(IMAGE)
    values, indices = nn.MaxPool2d(2, return_indices=True)(Tensor(x))
    expected, places = torch.nn.MaxPool2d(2, return_indices=True)(torch.from_numpy(x))
    got = nn.MaxUnpool2d(2)(values, indices, output_size=IMAGE)
    assert_close(got.data, torch.nn.MaxUnpool2d(2)(expected, places, output_size=IMAGE), "unpool")


@pytest.mark.parametrize("size", [(17, 15), (18, 15), (18, 16)])
def test_transposed_convolution_to_a_size(size):
    ours, theirs = pair_of_layers("ConvTranspose2d", (4, 2, 3, 2, 1), {})
    x = np.random.default_rng(0).standard_normal(IMAGE)
    expected = theirs(torch.from_numpy(x), output_size=size)
    assert_close(ours(Tensor(x), output_size=size).data, expected, "output")
    with pytest.raises(ValueError, match="ConvTranspose2d: output_size is"):
        ours(Tensor(x), output_size=(19, 15))
    for wrong in ((17,), 17, (4, 17, 15)):
        with pytest.raises(ValueError, match="ConvTranspose2d: output_size is"):
            ours(Tensor(x), output_size=wrong)
    assert_close(ours(Tensor(x), output_size=(2, 2, *size)).data, expected, "with N and C")


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Conv2d", (16, 32, 3)),
        ("Conv2d", (16, 32, 3, 1, 0, 1, 4)),
        ("ConvTranspose2d", (16, 32, 4, 2, 1, 0, 2)),
        ("Linear", (100, 70)),
    ],
)
def test_default_initialisation_has_the_same_range(name, args):
    minseg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    for key, value in theirs.state_dict().items():
        got, expected = ours.state_dict()[key], value.numpy()
        # two samples of one uniform distribution: its ends within 12 / n, its spread within 5
        # standard errors (that of the spread of n uniform values is spread / sqrt(5 n / 4))
        n = got.size
        bound = max(np.abs(got).max(), np.abs(expected).max())
        assert abs(np.abs(got).max() - np.abs(expected).max()) <= 24 / n * bound
        spread = bound / np.sqrt(3)
        assert abs(got.std() - expected.std()) < 5 * spread * np.sqrt(2 * 4 / (5 * n))


def test_initialisers_have_pytorchs_gains_and_fans():
    for name in (
        *("linear", "conv2d", "conv_transpose2d"),
        *("sigmoid", "tanh", "relu", "leaky_relu", "selu"),
    ):
        expected = torch.nn.init.calculate_gain(name)
        assert nn.init.calculate_gain(name) == pytest.approx(expected, rel=1e-15)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == pytest.approx(
        torch.nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-15
    )
    for shape in [(5, 3), (6, 4, 3, 2), (8, 1, 3, 3)]:
        fans = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        assert nn.init.fans(Tensor(np.empty(shape))) == fans


@pytest.mark.parametrize(
    "name",
    [
        *("constant_", "zeros_", "ones_", "uniform_", "normal_", "trunc_normal_"),
        *("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"),
    ],
)
def test_initialisers_have_pytorchs_arguments_and_defaults(name):
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(getattr(init, name)).parameters.values()]
        for init in (nn.init, torch.nn.init)
    )
    assert ours == theirs


def test_a_torch_state_dict_loads():
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    ours.load_state_dict(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], value.numpy())
    half = {key: value.bfloat16() for key, value in theirs.state_dict().items()}
    half["1.num_batches_tracked"] = torch.tensor(7)
    ours.load_state_dict(half)
    assert ours[1].num_batches_tracked.item() == 7
    assert ours[0].weight.dtype == np.float32
