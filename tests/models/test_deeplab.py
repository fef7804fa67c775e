"""What DeepLab 1 and 2 are, by their papers."""

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, nn, no_grad
from minseg.models import DeepLabV1, DeepLabV2
from minseg.summary import summary


def count(network):
    return sum(p.numel() for p in network.parameters())


def convolutions(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def test_large_fov_is_the_paper_s():
    """Table 2: 20.5 M parameters, and fc6 sees 224 pixels, as the classifier's 7x7 did."""
    network = DeepLabV1(21)
    vgg = 14_714_688  # its 13 convolutions
    fc6, fc7, fc8 = 9 * 512 * 1024 + 1024, 1024 * 1024 + 1024, 1024 * 21 + 21
    assert count(network) == vgg + fc6 + fc7 + fc8 == 20_505_429
    conv = network.fc6
    span = (conv.kernel_size[0] - 1) * conv.dilation[0]  # steps of 8 pixels
    assert span * 8 + 32 == 224  # a pool5 value stands for 32 pixels, counting only poolings
    assert [c.dilation for n, c in convolutions(network).items() if n.startswith("conv")] == (
        [(1, 1)] * 10 + [(2, 2)] * 3
    )
    assert (network.fc8.bias.data == 0).all()
    assert abs(network.fc8.weight.data.std() - 0.01) < 5e-4


def field_by_hand(layers):
    """How many pixels a value sees, from the last layer to the first: (kernel, stride, rate)."""
    n = 1
    for kernel, stride, rate in reversed(layers):
        n = (n - 1) * stride + (kernel - 1) * rate + 1
    return n


def test_the_whole_receptive_field_of_large_fov():
    conv, halve, keep = (3, 1, 1), (3, 2, 1), (3, 1, 1)
    layers = [conv, conv, halve, conv, conv, halve, conv, conv, conv, halve]
    layers += [conv, conv, conv, keep, (3, 1, 2), (3, 1, 2), (3, 1, 2), keep, keep, (3, 1, 12)]
    expected = field_by_hand(layers)
    assert expected == 435
    # An image pixel that far from the middle changes it, one further does not.
    network = DeepLabV1(2, in_channels=1, width=1).to(np.float64).eval()
    for layer in convolutions(network).values():
        layer.weight.data[:] = 1 / layer.weight.data[0].size
    h = {}
    network.fc6.register_forward_hook(lambda m, i, out: h.update(out=out.data))

    def middle(column):
        image = np.zeros((1, 1, 16, 1001))
        image[0, 0, :, column] = 1.0
        with no_grad():
            network(Tensor(image))
        return h["out"][0, 0, 1, 62]  # the value at pixel 496 of 0, 8, 16, ..

    reached = [abs(offset) for offset in (-218, -217, 217, 218) if middle(496 + offset) > 0]
    assert reached == [217, 217]


@pytest.mark.slow
def test_v2_has_the_published_size():
    resnet101 = 44_549_160 - (2048 * 1000 + 1000)
    assert count(DeepLabV2(21)) == resnet101 + 4 * (9 * 2048 * 21 + 21) == 44_048_532


def test_v2_has_the_published_layers():
    """Those of ResNet-101 with rates 1, 1, 2, 4 by stage, and four classifiers with 6 .. 24."""
    minseg.manual_seed(0)
    network = DeepLabV2(21, width=4)
    rates = [c.dilation[0] for c in convolutions(network.backbone).values()
             if c.kernel_size == (3, 3)]  # fmt: skip
    assert rates == [1] * 3 + [1] * 4 + [2] * 23 + [4] * 3
    for conv, rate in zip(network.aspp, (6, 12, 18, 24), strict=True):
        assert (conv.dilation, conv.padding) == ((rate, rate), (rate, rate))
        assert abs(conv.weight.data.std() - 0.01) < 3e-4
        assert (conv.bias.data == 0).all()


@pytest.mark.parametrize("size", [(33, 41), (64, 72)])
def test_both_have_output_stride_8(size):
    for network in (DeepLabV1(3, width=2), DeepLabV2(3, width=2, depth=18)):
        shapes = {}
        layer = network.fc8 if isinstance(network, DeepLabV1) else network.aspp
        layer.register_forward_hook(lambda m, i, out, s=shapes: s.update(out=out.shape))
        with no_grad():
            network.eval()(Tensor(np.zeros((1, 3, *size), np.float32)))
        assert shapes["out"] == (1, 3, *(-(-side // 8) for side in size))


def test_aspp_is_a_sum():
    network = DeepLabV2(2, width=2, depth=18)
    x = Tensor(np.random.default_rng(0).standard_normal((1, 16, 9, 11)).astype(np.float32))
    parts = [
        F.conv2d(x, conv.weight, conv.bias, padding=rate, dilation=rate).data
        for conv, rate in zip(network.aspp, (6, 12, 18, 24), strict=True)
    ]
    np.testing.assert_allclose(network.aspp(x).data, sum(parts), rtol=1e-5, atol=1e-7)


def test_of_several_scales_the_largest_score_counts():
    minseg.manual_seed(0)
    network = DeepLabV2(3, width=2, depth=18, scales=(0.5, 0.75)).eval()
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 48, 65)).astype(np.float32))
    with no_grad():
        scores = [network.coarse(x).data]
        for size in [(24, 32), (36, 48)]:
            small = F.interpolate(x, size=size, mode="bilinear")
            score = network.coarse(small)
            scores.append(F.interpolate(score, size=(6, 9), mode="bilinear").data)
        largest = Tensor(np.max(scores, axis=0))
        expected = F.interpolate(largest, size=(48, 65), mode="bilinear").data
        np.testing.assert_allclose(network(x).data, expected, rtol=1e-5, atol=1e-7)
    assert all((scores[i] == largest.data).any() for i in range(3))  # each wins somewhere
    with pytest.raises(ValueError, match=r"scales are \(0\.5, 0\), need to be above 0"):
        DeepLabV2(2, width=2, depth=18, scales=(0.5, 0))


def test_gradients_reach_all_scales():
    minseg.manual_seed(0)
    network = DeepLabV2(3, width=2, depth=18, scales=(0.5,)).to(np.float64).eval()
    rng = np.random.default_rng(0)
    x, direction = rng.standard_normal((2, 1, 3, 20, 24))
    upstream = rng.standard_normal((1, 3, 20, 24))
    image = Tensor(x, requires_grad=True)
    network(image).backward(upstream)
    claimed, eps = (image.grad.data * direction).sum(), 1e-7
    with no_grad():
        above, below = (
            (network(Tensor(x + step * direction)).data * upstream).sum() for step in (eps, -eps)
        )
    assert abs(claimed - (above - below) / (2 * eps)) <= 1e-5 * abs(claimed)


def test_summary_knows_the_field_of_large_fov():
    table = summary(DeepLabV1(2, in_channels=1, width=1), (1, 1, 64, 64))
    assert "435" in str(table)
