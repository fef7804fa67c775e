"""Initialisers: how a weight starts out. Each fills a tensor in place and returns it.

The draws are made in float64 and then rounded to the tensor's dtype. They come from `generator`, or
from the one that `minseg.manual_seed` sets.

Fans: for a weight of shape (a, b, kh, kw), fan_in = b kh kw and fan_out = a kh kw. This is
PyTorch's rule for transposed convolutions too, whose weight is (C_in, C_out, kh, kw): what is
called fan_in counts output channels there.

Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
        networks", 2010 (Xavier); He et al., "Delving deep into rectifiers", 2015 (Kaiming)
"""

import math

import numpy as np

from minseg.array import FLOATS, Array
from minseg.device import to_device
from minseg.random import default_generator
from minseg.tensor import Tensor

Generator = np.random.Generator | None


def _fill(tensor: Tensor, values: Array | float) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"nn.init: got a {type(tensor).__name__}, needs a Tensor")
    tensor.data[...] = to_device(np.asarray(values, tensor.dtype), tensor.device)
    return tensor


def _check_floats(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype not in FLOATS:
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name}: got {kind}, needs a Tensor of float32 or float64")


def constant_(tensor: Tensor, val: float) -> Tensor:
    return _fill(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    return _fill(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    return _fill(tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> Tensor:
    """Uniform between a and b. Raises TypeError for a tensor that is not of floats."""
    _check_floats("uniform_", tensor)
    return _fill(tensor, default_generator(generator).uniform(a, b, tensor.shape))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None
) -> Tensor:
    """Normal. Raises TypeError unless the tensor is of floats, ValueError for a negative std."""
    _check_floats("normal_", tensor)
    if std < 0:
        raise ValueError(f"normal_: std is {std}, needs at least 0")
    return _fill(tensor, default_generator(generator).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
) -> Tensor:
    """Normal, but within [a, b]: what falls outside is drawn again.

    Raises ValueError where [a, b] holds less than a thousandth of the normal distribution.
    """
    below_a, below_b = (0.5 * math.erfc((mean - end) / (std * math.sqrt(2))) for end in (a, b))
    if not below_b - below_a > 1e-3:
        raise ValueError(f"trunc_normal_: [{a}, {b}] hardly meets a normal({mean}, {std})")
    _check_floats("trunc_normal_", tensor)
    rng = default_generator(generator)
    values = rng.normal(mean, std, tensor.numel())
    while (outside := np.flatnonzero((values < a) | (values > b))).size:
        values[outside] = rng.normal(mean, std, outside.size)
    return _fill(tensor, values.reshape(tensor.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much to enlarge the weights before a nonlinearity, to keep the variance.

    `param` is leaky_relu's negative slope, 0.01 by default. Raises ValueError for another name.
    """
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0,
        "conv2d": 1.0,
        "conv_transpose2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: got {nonlinearity!r}, needs one of {', '.join(gains)}")
    return gains[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight. Raises ValueError for fewer than two dimensions."""
    if tensor.ndim < 2:
        raise ValueError(f"fans: the weight has shape {tensor.shape}, needs at least 2 dimensions")
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Uniform, variance 2 gain^2 / (fan_in + fan_out)."""
    bound = math.sqrt(3) * gain * math.sqrt(2 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Normal, variance 2 gain^2 / (fan_in + fan_out)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> Tensor:
    """Uniform, variance gain^2 / fan; `a` is the negative slope of a leaky_relu."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> Tensor:
    """Normal, variance gain^2 / fan; `a` is the negative slope of a leaky_relu."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'kaiming: mode is {mode!r}, needs "fan_in" or "fan_out"')
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def bilinear_(tensor: Tensor) -> Tensor:
    """Make a transposed convolution of kernel 2 s - s % 2 and stride s interpolate bilinearly.

    Each channel maps to itself (or all to one, or, in a depthwise weight, each by its own), by a
    tent along each axis: 1 - |i - centre| / f for i = 0 .. k - 1, with f = ceil(k / 2) and the
    centre at f - 1 for odd k, f - 1/2 for even k.

    Source: Long et al., "Fully convolutional networks", 2015, section 3.3.
    Raises ValueError unless `tensor` is (C, C, kh, kw) or (C, 1, kh, kw).
    """
    if tensor.ndim != 4 or tensor.shape[1] not in (1, tensor.shape[0]):
        raise ValueError(
            f"bilinear_: the weight has shape {tensor.shape}, "
            "needs (C, C, kh, kw) or (C, 1, kh, kw)"
        )

    def tent(k: int) -> Array:
        f = (k + 1) // 2
        return 1 - np.abs(np.arange(k) - (f - 1 if k % 2 else f - 0.5)) / f

    channels = np.arange(tensor.shape[0])
    values = np.zeros(tensor.shape)
    values[channels, channels % tensor.shape[1]] = np.outer(*map(tent, tensor.shape[2:]))
    return _fill(tensor, values)
