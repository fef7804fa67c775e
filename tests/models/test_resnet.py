import json
from pathlib import Path

import numpy as np
import pytest

import minseg
from minseg import Tensor, no_grad
from minseg.backbones import VGG, ResNet
from minseg.hub import adapt
from minseg.models import DeepLabV3, DeepLabV3Plus, build
from tests.golden.make_models import IMAGE, KEPT, NETWORKS, formula, shapes_of


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent.parent / "golden" / "models.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def shapes(golden):
    return json.loads(golden["shapes"].tobytes())


def assert_64_times(shapes, narrow):
    """The same names; and shapes, where `narrow` are those of width 1."""
    assert list(shapes) == list(narrow)
    for name, shape in shapes.items():
        for size, own in zip(shape, narrow[name], strict=True):
            assert size in (own, 64 * own), name


SLOW = [name for name in NETWORKS if "101" in name]


@pytest.mark.parametrize("name", SLOW)
def test_names_and_shapes_of_the_deep_ones(name, shapes):
    network = build(name, num_classes=21, aux_loss=True, width=1)
    assert_64_times(shapes[name], shapes_of(network.state_dict()))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NETWORKS]
)
def test_equal_to_torchvision(name, golden, shapes):
    """Names, shapes, and the outputs for weights made by a formula."""
    network = build(name, num_classes=21, aux_loss=True).eval()
    state = network.state_dict()
    assert shapes_of(state) == shapes[name]
    weights = {key: formula(key, value.shape, value.dtype) for key, value in state.items()}
    network.load_state_dict(adapt(name, weights))
    with no_grad():
        outputs = network(Tensor(IMAGE))
    assert list(outputs) == ["out", "aux"]
    for key, output in outputs.items():
        expected = golden[f"{name}.{key}"]
        assert output.shape == (1, 21, *IMAGE.shape[2:])
        error = abs(output.data[KEPT] - expected).max()
        assert error <= 1e-4 * max(abs(expected).max(), 1)


def test_without_an_auxiliary_head():
    network = build("fcn_resnet50", num_classes=2, width=4, depth=18).eval()
    with no_grad():
        assert list(network(Tensor(IMAGE))) == ["out"]
    assert not any("aux" in name for name in network.state_dict())


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_a_published_classifier_is_a_backbone(depth, shapes):
    published = adapt(f"resnet{depth}", shapes[f"resnet{depth}"])
    assert_64_times(published, shapes_of(ResNet(depth, width=1).state_dict()))


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg16_bn", "vgg19"])
def test_a_published_vgg_has_all_that_ours_has(name, shapes):
    network = VGG(width=1, depth=int(name[3:5]), norm="batch" if "bn" in name else None)
    assert_64_times(adapt(name, shapes[name]), shapes_of(network.state_dict()))


@pytest.mark.parametrize(
    ("output_stride", "expected"), [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))]
)
@pytest.mark.parametrize("depth", [18, 50])
def test_output_stride(depth, output_stride, expected):
    network = ResNet(depth, width=2, output_stride=output_stride).eval()
    with no_grad():
        maps = network(Tensor(np.zeros((1, 3, 97, 64), np.float32)))
    for stride, channels, x in zip(expected, network.channels, maps, strict=True):
        assert x.shape == (1, channels, -(-97 // stride), 64 // stride)


def rates(network):
    blocks = [b for i in (3, 4) for b in getattr(network, f"layer{i}")]
    return [block.conv2.dilation[0] for block in blocks]


def test_dilation_of_the_blocks():
    assert rates(ResNet(50, width=1, output_stride=8)) == [1, 2, 2, 2, 2, 2, 2, 4, 4]
    assert rates(ResNet(50, width=1, output_stride=16)) == [1] * 6 + [1, 2, 2]
    assert rates(ResNet(50, width=1, output_stride=8, dilate_first=True)) == [2] * 6 + [4] * 3
    # Section 3.2 of DeepLabV3: 2 * (1, 2, 4) at output stride 16
    assert rates(ResNet(50, width=1, output_stride=16, multi_grid=(1, 2, 4)))[6:] == [2, 4, 8]
    with pytest.raises(ValueError, match=r"multi_grid is \(1, 2, 4\), needs 2 rates"):
        ResNet(18, multi_grid=(1, 2, 4))


def test_two_stages_of_four():
    network = ResNet(18, width=2, stages=2).eval()
    with no_grad():
        maps = network(Tensor(np.zeros((1, 3, 33, 64), np.float32)))
    assert [x.shape for x in maps] == [(1, 2, 9, 16), (1, 4, 5, 8)]
    assert not any(name.startswith("layer3") for name in network.state_dict())
    with pytest.raises(ValueError, match="ResNet: stages is 5, needs 1 to 4"):
        ResNet(18, stages=5)


@pytest.mark.parametrize("model", [DeepLabV3, DeepLabV3Plus])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_rates_of_backbone_and_pyramid(output_stride, model):
    """Sections 3.2 and 3.3 of DeepLabV3: at output stride 16 these, at 8 twice as much."""
    how, finer = {"width": 1, "depth": 50, "output_stride": output_stride}, 16 // output_stride
    network = model(2, **how)
    assert rates(network.backbone)[-3:] == [finer * rate for rate in (2, 4, 8)]
    assert rates(model(2, **how, multi_grid=False).backbone)[-2:] == [finer * 2] * 2
    found = [branch[0].dilation[0] for branch in list(network.aspp.convs)[1:4]]
    assert found == [finer * rate for rate in (6, 12, 18)]
    assert DeepLabV3Plus(2, width=64, depth=18).low_level[0].out_channels == 48


@pytest.mark.parametrize("depth", [18, 34, 50])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_holes_in_place_of_strides_change_nothing(depth, output_stride):
    """The dilated network, at every second (fourth) pixel, is the one that strides."""
    minseg.manual_seed(0)
    striding = ResNet(depth, width=2).to(np.float64).eval()
    dilated = ResNet(depth, width=2, output_stride=output_stride).to(np.float64).eval()
    dilated.load_state_dict(striding.state_dict())
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 96)))
    step = 32 // output_stride
    expected, got = striding(x)[-1].data, dilated(x)[-1].data[:, :, ::step, ::step]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * abs(expected).max())
