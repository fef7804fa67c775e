"""What layers refuse, each by its own name; their results are compared in tests/oracle."""

import numpy as np
import pytest

from minseg import Tensor, nn

IMAGE = Tensor(np.ones((1, 4, 3, 3), np.float32))
ONE_PIXEL = Tensor(np.ones((1, 4, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(3.0, 4, 1), TypeError, "Conv2d: in_channels, out_channels, groups are"),
        (lambda: nn.Conv2d(0, 4, 1), ValueError, "Conv2d: groups is 1, needs to divide"),
        (lambda: nn.Conv2d(4, 4, 1, groups=3), ValueError, "Conv2d: groups is 3"),
        (lambda: nn.Conv2d(4, 4, 0), ValueError, "Conv2d: kernel_size is 0"),
        (lambda: nn.Conv2d(4, 4, 1, padding="full"), ValueError, "Conv2d: padding is 'full'"),
        (lambda: nn.Conv2d(4, 4, 1, 2, "same"), ValueError, 'Conv2d: padding="same" needs stride'),
        (lambda: nn.Conv2d(4, 4, 1, padding_mode="x"), ValueError, "padding_mode is 'x'"),
        (
            lambda: nn.ConvTranspose2d(4, 4, 1, padding_mode="reflect"),
            ValueError,
            "ConvTranspose2d: padding_mode is 'reflect', needs \"zeros\"",
        ),
        (
            lambda: nn.ConvTranspose2d(4, 2, 3)(IMAGE[0], output_size=(5, 5)),
            ValueError,
            "ConvTranspose2d: input has shape",
        ),
        (lambda: nn.BatchNorm2d(0), ValueError, "BatchNorm2d: num_features is 0"),
        (lambda: nn.InstanceNorm2d(-1), ValueError, "InstanceNorm2d: num_features is -1"),
        (lambda: nn.BatchNorm2d(3)(IMAGE), ValueError, "BatchNorm2d: input has shape"),
        (lambda: nn.InstanceNorm2d(3)(IMAGE), ValueError, "InstanceNorm2d: input has shape"),
        (lambda: nn.BatchNorm2d(4)(ONE_PIXEL), ValueError, "one value a channel"),
        (lambda: nn.InstanceNorm2d(4)(ONE_PIXEL), ValueError, "one value a channel"),
        (lambda: nn.GroupNorm(3, 4), ValueError, "GroupNorm: num_groups is 3"),
        (lambda: nn.Dropout(1.5), ValueError, "Dropout: p is 1.5"),
        (lambda: nn.Dropout2d(-0.1), ValueError, "Dropout2d: p is -0.1"),
        (lambda: nn.Linear(4, 0), ValueError, "Linear: 4 -> 0 features"),
        (lambda: nn.Softmax2d()(IMAGE[0]), ValueError, "Softmax2d: input has shape"),
        (lambda: nn.ReflectionPad2d((1, 2)), ValueError, "ReflectionPad2d: padding is"),
        (lambda: nn.ReflectionPad2d(3)(IMAGE), ValueError, "pad: width 3 is more than mode"),
        (lambda: nn.Flatten(4)(IMAGE), ValueError, "flatten: dims 4 to -1 of a tensor"),
        (lambda: nn.Flatten(1, -5)(IMAGE), ValueError, "flatten: dims 1 to -5 of a tensor"),
        (lambda: nn.Flatten(2, 1)(IMAGE), ValueError, "flatten: dims 2 to 1 of a tensor"),
        (lambda: nn.PixelUnshuffle(2)(IMAGE), ValueError, "pixel_unshuffle"),
    ],
)
def test_errors_name_the_culprit(make, error, message):
    with pytest.raises(error, match=message):
        make()
    nn.BatchNorm2d(4).eval()(ONE_PIXEL)


def test_dropout_of_nothing_and_of_all():
    assert nn.Dropout(0.0)(IMAGE) is IMAGE
    for layer in (nn.Dropout(1.0), nn.Dropout2d(1.0)):
        np.testing.assert_array_equal(layer(IMAGE).data, 0)
        assert layer.eval()(IMAGE) is IMAGE


def test_flatten_keeps_the_other_dims():
    x = Tensor(np.arange(24.0).reshape(2, 3, 4))
    for dims, shape in {
        (0, -1): (24,),
        (1, 1): (2, 3, 4),
        (-2, -1): (2, 12),
        (0, 1): (6, 4),
    }.items():
        assert nn.Flatten(*dims)(x).shape == shape
    assert Tensor(np.array(3.0)).flatten().shape == (1,)
