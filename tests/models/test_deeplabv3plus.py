import numpy as np
import pytest

from minseg import Tensor, no_grad
from minseg.backbones import MobileNetV2, Xception
from minseg.hub import adapt
from minseg.models import DeepLabV3Plus, build, deeplabv3plus_smp, deeplabv3plus_xception65

ZEROS = Tensor(np.zeros((1, 3, 97, 64), np.float32))


def dilations(network):
    """Of every 3x3 convolution, in order."""
    convs = [m for m in network.modules() if hasattr(m, "dilation") and m.kernel_size == (3, 3)]
    return [conv.dilation[0] for conv in convs]


@pytest.mark.parametrize(
    ("output_stride", "expected"), [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))]
)
@pytest.mark.parametrize("backbone", [Xception, MobileNetV2])
def test_output_stride(backbone, output_stride, expected):
    network = backbone(width=4, output_stride=output_stride).eval()
    with no_grad():
        maps = network(ZEROS)
    for stride, channels, x in zip(expected, network.channels, maps, strict=True):
        assert x.shape == (1, channels, -(-97 // stride), 64 // stride)


@pytest.mark.usefixtures("undrawn")
def test_sizes_of_the_papers():
    """Figure 4 of DeepLabV3+, table 2 of MobileNetV2."""
    network = Xception()
    assert network.channels == [256, 728, 1024, 2048]
    assert len(network.blocks) == 3 + 16 + 2
    layers = [m for m in network.modules() if hasattr(m, "groups")]
    assert sum(conv.groups > 1 for conv in layers) == 63  # and 2 plain ones: 65
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == 39_916_312 - 1000 * 2049  # timm's xception65 without its classifier
    network = MobileNetV2()
    assert network.channels == [24, 32, 96, 1280]
    assert sum(p.numel() for p in network.parameters()) == 3_504_872 - 1000 * 1281


def test_rates_take_the_place_of_strides():
    assert dilations(Xception(20, width=1, output_stride=16))[2:] == [1] * 15 + [2] * 3
    assert dilations(Xception(20, width=1, output_stride=8))[2:] == [1] * 9 + [2] * 6 + [4] * 3
    assert dilations(MobileNetV2(width=1, output_stride=8)) == [1] * 7 + [2] * 7 + [4] * 4
    # Both blocks of a stage alike, as in segmentation_models.pytorch; ASPP's rates stay.
    network = deeplabv3plus_smp(2, width=1, output_stride=8)
    assert dilations(network.backbone)[-8:] == [2] * 4 + [4] * 4
    assert dilations(network.aspp)[:3] == [12, 24, 36]


@pytest.mark.parametrize("model", [DeepLabV3Plus, deeplabv3plus_xception65])
def test_figure_2(model):
    """48 channels of the first map beside the 256 of ASPP; 304 in, two convolutions."""
    network = model(5, depth=18 if model is DeepLabV3Plus else 20, width=16)
    separable = model is not DeepLabV3Plus
    assert network.low_level[0].out_channels == 12
    first, second = network.refine
    assert [len(list(layer[0].children())) for layer in (first, second)] == [2 * separable] * 2
    pointwise = first[0][1] if separable else first[0]
    assert (pointwise.in_channels, pointwise.out_channels) == (64 + 12, 64)
    assert dilations(network.refine) == [1, 1]
    assert network.head.weight.shape == (5, 64, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 64}, "Xception: depth is 64, needs 17 and 3 for each block"),
        ({"depth": 3_000_017}, "Xception: depth is 3000017, needs .* 20; 317 at most"),
        ({"output_stride": 4}, "Xception: output_stride is 4, needs 8, 16 or 32"),
        ({"width": 0}, "Xception: width is 0, needs at least 1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        build("deeplabv3plus_xception65", num_classes=2, **options)
    with pytest.raises(ValueError, match="deeplabv3plus: output_stride is 32, needs 8 or 16"):
        build("deeplabv3plus", num_classes=2, backbone="resnet18", output_stride=32)
    with pytest.raises(ValueError, match="MobileNetV2: width is 0"):
        build("deeplabv3plus", num_classes=2, backbone="mobilenet_v2", width=0)


@pytest.mark.parametrize(
    ("name", "backbone", "head"),
    [
        ("xception65", Xception(20, width=1), "head.fc"),
        ("mobilenet_v2", MobileNetV2(width=1), "classifier.1"),
    ],
)
def test_a_published_classifier_is_a_backbone(name, backbone, head):
    state = backbone.state_dict()
    published = {**state, f"{head}.weight": np.zeros((1000, 8)), f"{head}.bias": np.zeros(1000)}
    backbone.load_state_dict(adapt(name, published), strict=True)
