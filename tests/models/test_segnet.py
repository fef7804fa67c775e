import numpy as np
import pytest

import minseg
from minseg import Tensor, nn, no_grad
from minseg.models import SegNet


def test_the_paper_s_network():
    """13 convolutions, mirrored; channels as in the authors' segnet_train.prototxt."""
    network = SegNet(11, width=1)
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 26
    decoder = [(n, m.in_channels, m.out_channels) for n, m in convolutions.items() if "_D" in n]
    assert decoder == [
        ("conv5_3_D", 8, 8), ("conv5_2_D", 8, 8), ("conv5_1_D", 8, 8),
        ("conv4_3_D", 8, 8), ("conv4_2_D", 8, 8), ("conv4_1_D", 8, 4),
        ("conv3_3_D", 4, 4), ("conv3_2_D", 4, 4), ("conv3_1_D", 4, 2),
        ("conv2_2_D", 2, 2), ("conv2_1_D", 2, 1),
        ("conv1_2_D", 1, 1), ("conv1_1_D", 1, 11),
    ]  # fmt: skip


def test_every_convolution_but_the_last_is_normalised():
    network = SegNet(2, width=1, depth=11)
    norms = {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    convolutions = {name for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    assert {name.replace("bn", "conv") for name in norms} == convolutions - {"conv1_1_D"}
    network(Tensor(np.random.default_rng(0).random((2, 3, 64, 64)).astype(np.float32)))
    assert [norm.num_batches_tracked.item() for norm in norms.values()] == [1] * len(norms)


@pytest.mark.parametrize("size", [(45, 60), (23, 31)])
def test_values_return_to_where_they_came_from(size):
    """With convolutions that pass on their input, what comes out is the maxima, in their places."""
    network = SegNet(1, in_channels=1, width=1, depth=11).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # each output: the centre of the first channel
            layer.weight.data[:] = 0
            layer.weight.data[:, 0, 1, 1] = 1
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    image = np.random.default_rng(0).random((1, 1, *size)).astype(np.float32) + 1
    with no_grad():
        out = network(Tensor(image)).data[0, 0]
    expected = np.zeros(size, np.float32)
    for top in range(0, size[0], 32):  # five poolings: the maximum of each 32x32
        for left in range(0, size[1], 32):
            part = image[0, 0, top : top + 32, left : left + 32]
            row, column = np.unravel_index(part.argmax(), part.shape)
            expected[top + row, left + column] = part.max()
    np.testing.assert_array_equal(out, expected)


def test_decoder_sees_where_the_maximum_stood():
    """Two images that differ only within pooling windows: all but the indices are the same."""
    minseg.manual_seed(0)
    network = SegNet(2, in_channels=1, width=2, depth=11).eval()
    conv = network.conv1_1
    conv.weight.data[:] = 0
    conv.weight.data[:, :, 1, 1] = 1  # the first stage compares single pixels
    image = np.random.default_rng(0).random((1, 1, 32, 32)).astype(np.float32)
    windows = image.reshape(1, 1, 16, 2, 16, 2)
    turned = windows[:, :, :, ::-1, :, ::-1].reshape(image.shape)
    with no_grad():
        a, b = network(Tensor(image)).data, network(Tensor(turned)).data
    assert abs(a - b).max() > 0.01 * abs(a).max()
