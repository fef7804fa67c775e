import numpy as np
import pytest

import minseg
from minseg import Tensor, nn, no_grad
from minseg.models import PatchClassifier, PlainCNN


def test_the_patch_classifier_is_n4():
    """Ciresan et al. 2012, table 1: 95x95 -> 92, 46, 42, 21, 18, 9, 6, 3; 48 maps; 200 units."""
    network = PatchClassifier(2, in_channels=1)
    assert network.side == 95
    sides, x = [], Tensor(np.zeros((1, 1, 95, 95), np.float32))
    with no_grad():
        for layer in network.classify:
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                sides.append(x.shape[2])
    assert sides == [92, 46, 42, 21, 18, 9, 6, 3]
    weights = [p.shape for p in network.parameters() if p.ndim > 1]
    assert weights == [(48, 1, 4, 4), (48, 48, 5, 5), (48, 48, 4, 4), (48, 48, 4, 4),
                       (200, 432), (2, 200)]  # fmt: skip
    # What the file says a pixel costs.
    work = 92**2 * 48 * 16 + 42**2 * 48 * 48 * 25 + (18**2 + 6**2) * 48 * 48 * 16 + 432 * 200
    assert round(work / 1e6) == 121
    assert f"{work * 512**2:.0e}" == "3e+13"


@pytest.mark.parametrize(("depth", "side"), [(1, 9), (2, 23), (3, 47)])
def test_windows_by_depth(depth, side):
    assert PatchClassifier(2, width=1, depth=depth).side == side


def test_each_pixel_is_the_classifier_on_the_window_around_it():
    minseg.manual_seed(0)
    network = PatchClassifier(3, width=4, depth=1)
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float32)
    framed = np.pad(x, [(0, 0), (0, 0), (4, 4), (4, 4)], mode="edge")
    with no_grad():
        got = network(Tensor(x)).data
        for row in range(6):
            for column in range(7):
                window = framed[:, :, row : row + 9, column : column + 9]
                expected = network.classify(Tensor(window)).data
                np.testing.assert_allclose(got[:, :, row, column], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stride", [2, 3, 9])
def test_a_larger_stride_classifies_the_middles_of_squares(stride):
    """Odd strides: the score at a square's middle is what stride 1 gives there."""
    minseg.manual_seed(0)
    coarse, fine = (PatchClassifier(2, width=4, depth=1, stride=s) for s in (stride, 1))
    coarse.load_state_dict(fine.state_dict())
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 19, 20)).astype(np.float32))
    with no_grad():
        got, expected = coarse(x).data, fine(x).data
    assert got.shape == expected.shape
    if stride % 2:
        middles = slice(stride // 2, None, stride)
        np.testing.assert_allclose(
            got[:, :, middles, middles], expected[:, :, middles, middles], rtol=1e-4, atol=1e-6
        )
    with pytest.raises(ValueError, match="stride 10 leaves out pixels: windows are 9"):
        PatchClassifier(2, depth=1, stride=10)
    with pytest.raises(ValueError, match="depth 5, width 48, stride 1: needs a depth of 1 to 4"):
        PatchClassifier(2, depth=5)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_plain_cnn_sees_one_pixel_further_a_layer(depth):
    minseg.manual_seed(0)
    network = PlainCNN(2, in_channels=1, width=4, depth=depth)
    x = Tensor(np.random.default_rng(0).random((1, 1, 15, 15)).astype(np.float32))
    x.requires_grad_()
    upstream = np.zeros((1, 2, 15, 15), np.float32)
    upstream[0, :, 7, 7] = 1
    network(x).backward(upstream)
    rows, columns = (x.grad.data[0, 0] != 0).nonzero()
    for places in (rows, columns):
        assert (places.min(), places.max()) == (7 - depth, 7 + depth)


@pytest.mark.parametrize("depth", [0, 1001, 10**6])
def test_a_depth_that_no_image_asks_for_is_refused_at_once(depth):
    with pytest.raises(ValueError, match=f"PlainCNN: width 2, depth {depth}: .* of 1 to 1000$"):
        PlainCNN(2, width=2, depth=depth)
