"""What holds for every network that `build` makes."""

import math

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, no_grad, optim
from minseg.models import build, list_models

NAMES = list(list_models())
DEEPER = ("101", "_b1", "_b2", "_b3", "_b4", "_b5")  # these differ in depth only
QUICK = [name for name in NAMES if not name.endswith(DEEPER)]


def options_of(name):
    """A width at which a test takes no time, and same padding, so that sizes are kept."""
    if name in ("fcn32s", "fcn16s", "fcn8s"):
        return {"width": 4, "depth": 11, "padding": "same"}
    if name in ("segnet", "deeplabv1"):
        return {"width": 4, "depth": 11}
    if name == "deeplabv3plus_xception65":
        return {"width": 4, "depth": 20}
    if name == "pspnet":
        return {"width": 4, "depth": 18, "aux_loss": False}
    if name == "patch_classifier":
        return {"width": 4, "depth": 1, "stride": 3}
    if name in ("deeplabv2", "deeplabv3", "deeplabv3plus", "fpn"):
        return {"width": 4, "depth": 18}
    if name in ("fcn_resnet50", "deeplabv3_resnet50"):
        return {"width": 4, "depth": 18}
    return {"width": 4}


def small(name, seed=0, **options):
    minseg.manual_seed(seed)
    return build(name, num_classes=3, **{**options_of(name), **options})


def logits(output):
    return output["out"] if isinstance(output, dict) else output


def image(*shape, dtype=np.float32):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_any_image_size_gives_logits_of_that_size(name):
    network = small(name).eval()
    with no_grad():
        for size in [(1, 1), (1, 9), (33, 17), (50, 3)]:
            output = logits(network(image(1, 3, *size)))
            assert output.shape == (1, 3, *size)
            assert output.dtype == np.float32
            assert np.isfinite(output.data).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_where_the_logits_are(name):
    with no_grad():
        output = small(name).eval()(image(1, 3, 8, 8))
    assert ('logits: model(x)["out"]' in list_models()[name]) == isinstance(output, dict)


@pytest.mark.parametrize("name", NAMES)
def test_other_channels_and_an_empty_batch(name):
    network = small(name, in_channels=5).eval()
    with no_grad():
        assert logits(network(image(2, 5, 20, 24))).shape == (2, 3, 20, 24)
        assert logits(network(image(0, 5, 20, 24))).shape == (0, 3, 20, 24)
    with pytest.raises(ValueError, match=r"conv2d: .*channels"):
        network(image(1, 3, 20, 24))


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_round_and_evaluation_repeats(name):
    network, x = small(name).eval(), image(1, 3, 33, 20)
    other = small(name, seed=1).eval()
    assert list(other.state_dict()) == list(network.state_dict())
    other.load_state_dict(network.state_dict())
    with no_grad():
        expected = logits(network(x)).data
        np.testing.assert_array_equal(logits(network(x)).data, expected)
        np.testing.assert_array_equal(logits(other(x)).data, expected)


@pytest.mark.parametrize(
    ("name", "layer", "variance"),
    [
        ("unet", "contract.1.0", 2 / (9 * 32)),  # section 3: 2 / N, N the inputs of a neuron
        ("fcn_resnet50", "backbone.layer3.0.conv1", 2 / (9 * 128)),  # torchvision: by the outputs
        # The authors' MiT: convolutions by their outputs, depthwise ones by a channel's
        ("segformer_b0", "backbone.stages.1.patch_embeddings.proj", 2 / (9 * 64)),
        ("segformer_b0", "backbone.stages.1.blocks.0.mlp.dwconv", 2 / 9),
        ("segformer_b0", "backbone.stages.1.blocks.0.mlp.fc1", 0.02**2),
    ],
)
def test_weights_start_as_in_the_papers(name, layer, variance):
    network = small(name, width=32)
    state = network.state_dict()
    weight = state[f"{layer}.weight"]
    assert abs(weight.mean()) < 5 * math.sqrt(variance / weight.size)
    assert weight.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / weight.size))
    assert not state.get(f"{layer}.bias", np.zeros(1)).any()


@pytest.mark.parametrize("name", QUICK)
def test_gradients(name):
    """Of the image and all parameters at once, along random directions, in float64."""
    network = small(name, width=2).to(np.float64).eval()
    rng = np.random.default_rng(2)
    for parameter in network.parameters():  # scores that start at zero would hide what is below
        parameter.data += 0.1 * rng.standard_normal(parameter.shape)
    x = image(2, 3, 9, 14, dtype=np.float64).requires_grad_()
    upstream = rng.standard_normal((2, 3, 9, 14))
    logits(network(x)).backward(upstream)

    tensors = [x, *(p for p in network.parameters() if p.requires_grad)]
    values = [tensor.data for tensor in tensors]
    eps = 1e-7  # so small that hardly a ReLU of these thousands turns on the way
    for _ in range(3):
        directions = [rng.standard_normal(value.shape) for value in values]
        sums = []
        for step in (eps, -eps):
            for tensor, value, direction in zip(tensors, values, directions, strict=True):
                tensor.data = value + step * direction
            with no_grad():
                sums.append((logits(network(x)).data * upstream).sum())
        numeric = (sums[0] - sums[1]) / (2 * eps)
        claimed = sum((t.grad.data * d).sum() for t, d in zip(tensors, directions, strict=True))
        rounding = 64 * 2.2e-16 * max(abs(sums[0]), 1) / eps
        assert abs(claimed - numeric) <= 1e-5 * abs(numeric) + rounding


@pytest.mark.parametrize("name", [name for name in QUICK if name not in ("fcn32s", "fcn16s")])
def test_a_few_steps_reduce_the_loss(name):
    # the others have batch norm anyway
    plain = name in ("fcn8s", "deeplabv1", "plain_cnn", "unet", "unetplusplus")
    options = {"norm": "batch"} if plain else {}
    network = small(name, **options)
    rng = np.random.default_rng(3)
    labels = np.zeros((2, 32, 40), np.int64)
    labels[:, 8:24, 4:20], labels[:, 16:, 24:] = 1, 2
    x = Tensor(
        (np.eye(3)[labels].transpose(0, 3, 1, 2) + 0.1 * rng.random((2, 3, 32, 40))).astype("f4")
    )
    optimizer = optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(logits(network(x)), Tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.8 * losses[0], losses


def test_build_lists_what_exists():
    assert all(description for description in list_models().values())
    with pytest.raises(ValueError, match=r"no model is called 'u-net' \(did you mean 'unet'"):
        build("u-net", num_classes=2)
    with pytest.raises(TypeError, match=r"unet has no option stride; its options: width, depth, p"):
        build("unet", num_classes=2, stride=2)
    with pytest.raises(TypeError, match=r"fcn8s has no option stride"):
        build("fcn8s", num_classes=2, stride=32)
    with pytest.raises(ValueError, match="num_classes 0"):
        build("unet", num_classes=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"padding": "full"}, "UNet: padding is 'full'"),
        ("unet", {"norm": "layer"}, "UNet: norm is 'layer'"),
        ("unet", {"depth": 0}, "UNet: width 64, depth 0"),
        ("fcn8s", {"padding": 50}, "FCN: padding is 50"),
        ("fcn8s", {"depth": 12}, "VGG: depth is 12, needs one of 11, 13, 16, 19"),
        ("fcn8s", {"norm": "group"}, "VGG: norm is 'group'"),
        ("deeplabv3", {"depth": 51}, "ResNet: depth is 51, needs one of 18, 34, 50, 101"),
        ("deeplabv3", {"output_stride": 4}, "ResNet: output_stride is 4"),
        ("fcn_resnet50", {"width": 0}, "ResNet: width is 0"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, num_classes=2, **options)


@pytest.mark.parametrize("shape", [(3, 16, 16), (16,)])
@pytest.mark.parametrize("name", QUICK)
def test_an_image_without_its_batch_axis_is_told_so(name, shape):
    with pytest.raises(ValueError, match=r"input has shape .*, needs 4 dimensions \(N, C, H, W\)"):
        small(name)(Tensor(np.zeros(shape, np.float32)))
