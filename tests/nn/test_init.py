import math

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, nn
from minseg.nn import init

LARGE = (40, 30, 5, 5)  # 30,000 values: fan_in 750, fan_out 1000


def draw(initialiser, shape=LARGE, dtype=np.float32, **options):
    tensor = Tensor(np.full(shape, np.nan, dtype))
    assert initialiser(tensor, **options, generator=np.random.default_rng(1)) is tensor
    assert tensor.dtype == dtype
    return tensor.data.astype(np.float64)


def assert_moments(values, mean, std):
    """Mean and standard deviation within five standard errors."""
    n = values.size
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(n)
    assert abs(values.std() - std) < 5 * std / math.sqrt(2 * n)


@pytest.mark.parametrize(
    ("initialiser", "options", "std"),
    [
        (init.kaiming_normal_, {}, math.sqrt(2 / 750)),
        (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(2 / 1000)),
        (init.kaiming_normal_, {"a": 0.5}, math.sqrt(2 / 1.25 / 750)),
        (init.kaiming_normal_, {"nonlinearity": "tanh"}, 5 / 3 / math.sqrt(750)),
        (init.xavier_normal_, {}, math.sqrt(2 / 1750)),
        (init.xavier_normal_, {"gain": 3.0}, 3 * math.sqrt(2 / 1750)),
        (init.normal_, {"std": 0.3}, 0.3),
    ],
)
def test_normal_draws(initialiser, options, std):
    values = draw(initialiser, **options)
    assert_moments(values, 0, std)
    inside = (np.abs(values) < std).mean()
    assert abs(inside - 0.6827) < 5 * math.sqrt(0.6827 * 0.3173 / values.size)


@pytest.mark.parametrize(
    ("initialiser", "options", "bound"),
    [
        (init.kaiming_uniform_, {}, math.sqrt(6 / 750)),
        (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / math.sqrt(750)),
        (init.kaiming_uniform_, {"mode": "fan_out", "a": 1}, math.sqrt(3 / 1000)),
        (init.xavier_uniform_, {}, math.sqrt(6 / 1750)),
        (init.xavier_uniform_, {"gain": 2}, 2 * math.sqrt(6 / 1750)),
        (init.uniform_, {"a": -3, "b": 3}, 3),
    ],
)
def test_uniform_draws(initialiser, options, bound):
    values = draw(initialiser, **options)
    # the largest of n uniform values lies within 12 / n of the end but for one case in 100,000
    assert bound * (1 - 24 / values.size) < np.abs(values).max() <= bound * (1 + 1e-7)
    assert_moments(values, 0, bound / math.sqrt(3))


def test_trunc_normal():
    values = draw(init.trunc_normal_, mean=0.5, std=2.0, a=-1.0, b=1.5, dtype=np.float64)
    assert -1 <= values.min() < values.max() <= 1.5
    low, high = -0.75, 0.5  # in standard deviations; the moments are the textbook's

    def pdf(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    mass = 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))
    shift = (pdf(low) - pdf(high)) / mass
    variance = 1 + (low * pdf(low) - high * pdf(high)) / mass - shift**2
    assert_moments(values, 0.5 + 2 * shift, 2 * math.sqrt(variance))
    with pytest.raises(ValueError, match="hardly meets"):
        init.trunc_normal_(Tensor([1.0]), a=10, b=11)


def test_constants():
    tensor = Tensor(np.full((2, 3), np.nan, np.float32))
    np.testing.assert_array_equal(init.constant_(tensor, 0.5).data, np.full((2, 3), 0.5))
    np.testing.assert_array_equal(init.ones_(tensor).data, np.ones((2, 3)))
    np.testing.assert_array_equal(init.zeros_(tensor).data, np.zeros((2, 3)))
    assert tensor.dtype == np.float32


def test_same_seed_same_bits():
    def layers():
        minseg.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.ConvTranspose2d(2, 3, 2))
        return net.state_dict()

    for one, other in zip(layers().values(), layers().values(), strict=True):
        np.testing.assert_array_equal(one, other)
    single, double = (draw(init.normal_, dtype=d) for d in (np.float32, np.float64))
    np.testing.assert_array_equal(single.astype(np.float32), double.astype(np.float32))


@pytest.mark.parametrize(
    ("layer", "fan"),
    [
        (lambda: nn.Conv2d(64, 256, 3), 64 * 9),
        (lambda: nn.Conv2d(64, 256, 3, groups=4), 16 * 9),
        (lambda: nn.ConvTranspose2d(64, 128, 4, groups=2), 64 * 16),
        (lambda: nn.Linear(300, 500), 300),
    ],
)
def test_layers_start_within_one_over_the_root_of_fan_in(layer, fan):
    minseg.manual_seed(0)
    layer = layer()
    bound = 1 / math.sqrt(fan)
    for values in (layer.weight.data, layer.bias.data):
        assert np.abs(values).max() <= bound * (1 + 1e-7)
        assert_moments(values.astype(np.float64), 0, bound / math.sqrt(3))


def test_normalisations_start_neutral():
    for layer in (nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3)):
        np.testing.assert_array_equal(layer.weight.data, np.ones(3))
        np.testing.assert_array_equal(layer.bias.data, np.zeros(3))


def test_bilinear_values():
    weight = init.bilinear_(Tensor(np.full((2, 2, 4, 3), np.nan, np.float32)))
    rows, cols = np.array([1, 3, 3, 1]) / 4, np.array([1, 2, 1]) / 2
    np.testing.assert_array_equal(weight.data[0, 0], np.outer(rows, cols))
    np.testing.assert_array_equal(weight.data[1, 1], np.outer(rows, cols))
    assert not weight.data[0, 1].any()
    assert not weight.data[1, 0].any()


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_bilinear_interpolates(stride):
    """A ramp, enlarged, is the ramp at the enlarged pixels' centres, away from the border."""
    kernel = 2 * stride - stride % 2
    weight = init.bilinear_(Tensor(np.empty((2, 1, kernel, kernel))))
    ramp = np.add.outer(2.0 * np.arange(6), 3.0 * np.arange(7))[None, None].repeat(2, 1)
    y = F.conv_transpose2d(
        Tensor(ramp), weight, stride=stride, padding=(kernel - stride) // 2, groups=2
    )
    rows, cols = ((np.arange(n) + 0.5) / stride - 0.5 for n in y.shape[2:])
    assert y.shape[2:] == (6 * stride, 7 * stride)
    expected = np.add.outer(2 * rows, 3 * cols)
    inside = slice(stride, -stride)
    np.testing.assert_allclose(y.data[0, 1][inside, inside], expected[inside, inside], rtol=1e-13)


def test_errors_name_the_culprit():
    weight = Tensor(np.ones((2, 3, 3, 3)))
    with pytest.raises(ValueError, match=r"bilinear_: the weight has shape \(2, 3, 3, 3\)"):
        init.bilinear_(weight)
    with pytest.raises(ValueError, match=r"fans: the weight has shape \(3,\)"):
        init.kaiming_normal_(Tensor(np.ones(3)))
    with pytest.raises(ValueError, match="mode is 'fan'"):
        init.kaiming_uniform_(weight, mode="fan")
    with pytest.raises(ValueError, match="got 'swish', needs one of linear"):
        init.calculate_gain("swish")
    with pytest.raises(TypeError, match=r"nn\.init: got a ndarray, needs a Tensor"):
        init.zeros_(np.ones(3))
    for name in ("normal_", "uniform_", "trunc_normal_"):
        with pytest.raises(TypeError, match=f"{name}: got int64, needs a Tensor of float32"):
            getattr(init, name)(Tensor(np.ones(3, int)))
    init.trunc_normal_(weight, 1, 2, 7, 9)  # 3 to 4 deviations: 0.00132 of the distribution
    with pytest.raises(ValueError, match=r"trunc_normal_: \[7.2, 9\] hardly meets"):
        init.trunc_normal_(weight, 1, 2, 7.2, 9)  # 0.00094
    with pytest.raises(ValueError, match="normal_: std is -1, needs at least 0"):
        init.normal_(weight, 0, -1)
