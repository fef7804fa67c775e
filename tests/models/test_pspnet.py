import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, no_grad
from minseg.models import PSPNet, PSPNetSMP
from minseg.models.pspnet import PyramidPooling

RNG = np.random.default_rng(0)


def test_the_paper_s_sizes():
    """Figure 3 and section 3.3, with a fourth of the width: maps of 512 channels, bins of 128."""
    network = PSPNet(5, width=16)
    pooling, *_ = network.classifier
    assert [pool[0].output_size for pool in pooling.pools] == [1, 2, 3, 6]
    assert [pool[1].weight.shape for pool in pooling.pools] == [(128, 512, 1, 1)] * 4
    assert network.classifier[1].weight.shape == (128, 1024, 3, 3)
    assert network.classifier[-1].weight.shape == (5, 128, 1, 1)
    assert network.aux_classifier[0].weight.shape == (64, 256, 3, 3)
    assert {m.p for m in network.modules() if hasattr(m, "p")} == {0.1}
    strides = [network.backbone.layer3[0].conv2.stride, network.backbone.layer4[0].conv2.stride]
    assert strides == [(1, 1), (1, 1)]


def test_pyramid_pooling_sees_regions():
    """A corner gets the mean of its region at each scale, and every pixel that of the whole."""
    module = PyramidPooling(4).eval()
    x = Tensor(RNG.random((2, 4, 12, 12)))
    for pool in module.pools:
        pool[1].weight.data = np.ones((1, 4, 1, 1))
        pool[2].to(np.float64).eps = 0.0
    with no_grad():
        y = module(x).data
    np.testing.assert_array_equal(y[:, :4], x.data)
    total = x.data.sum(axis=1)
    whole = np.broadcast_to(total.mean(axis=(1, 2), keepdims=True), total.shape)
    np.testing.assert_allclose(y[:, 4], whole, rtol=1e-12)
    # Outside the regions' centres, interpolation is constant.
    corners = total[:, :6, :6].mean(axis=(1, 2)), total[:, 6:, 6:].mean(axis=(1, 2))
    np.testing.assert_allclose(y[:, 5, 0, 0], corners[0], rtol=1e-12)
    np.testing.assert_allclose(y[:, 5, -1, -1], corners[1], rtol=1e-12)
    np.testing.assert_allclose(y[:, 7, 0, 0], total[:, :2, :2].mean(axis=(1, 2)), rtol=1e-12)


def test_the_auxiliary_head_trains_the_third_stage_alone():
    network = PSPNet(3, width=2, depth=18)
    output = network(Tensor(RNG.standard_normal((2, 3, 24, 32)).astype("f4")))
    assert list(output) == ["out", "aux"]
    F.cross_entropy(output["aux"], Tensor(RNG.integers(0, 3, (2, 24, 32)))).backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert "backbone.layer3.1.conv2.weight" in reached
    assert not any("layer4" in name or name.startswith("classifier") for name in reached)
    assert list(PSPNet(3, width=2, depth=18, aux_loss=False).eval()(
        Tensor(np.zeros((1, 3, 9, 9), np.float32))
    )) == ["out"]  # fmt: skip


def test_the_smp_form_trains_on_one_image():
    """Bin 1 has no batch norm there; bins 2, 3, 6 have more than one value a channel."""
    network = PSPNetSMP(2, width=4)
    image = Tensor(RNG.standard_normal((1, 3, 16, 16)).astype("f4"))
    assert network(image).shape == (1, 2, 16, 16)
    with pytest.raises(ValueError, match="one value a channel"):
        PSPNet(2, width=4, depth=18)(image)
    assert network.pools[0][1].bias is not None
    assert len(network.encoder.channels) == 2
    assert not hasattr(network.encoder, "layer3")
