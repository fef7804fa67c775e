"""GELU: x, weighted by the probability that a standard normal variable lies below it.

    none:  gelu(x) = x Phi(x),  Phi(x) = erfc(-x / sqrt 2) / 2
    tanh:  gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

NumPy has no erfc, so here is one: on x >= 0, (1 + 2x) e^(x^2) erfc(x) is a smooth function that
runs from 1 to 2 / sqrt(pi). In t = (x - 3.75) / (x + 3.75), which takes [0, inf) to [-1, 1), 25
Chebyshev polynomials give it to float64 accuracy.

Shapes: any -> the same
Source: Hendrycks & Gimpel, "Gaussian error linear units", 2016; erfc: Shepherd & Laframboise,
        "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf", Math. Comp. 36, 1981
"""

import math
from functools import cache

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.activation import elementwise_op, of_input
from minseg.ops.fast import activation as fast
from minseg.tensor import Tensor

# Of T_0(t), T_1(t), ...; computed anew to 20 digits by interpolation at 60 Chebyshev points.
CHEBYSHEV = (
    1.1775789345674017541,
    -4.5900545806464773309e-3,
    -8.4249133366517915584e-2,
    5.9209939998191890498e-2,
    -2.6658668435305752277e-2,
    9.0749976707052650939e-3,
    -2.4131635404176081909e-3,
    4.9077583652580863229e-4,
    -6.9169733025012063671e-5,
    4.1390279860730101675e-6,
    7.7403830661984906686e-7,
    -2.1886401049234395661e-7,
    1.0764999465670910377e-8,
    4.5219598112182868979e-9,
    -7.7544002088313511065e-10,
    -6.3180883408866844944e-11,
    2.8687950109306698981e-11,
    1.945586854577734723e-13,
    -9.6546967484334389059e-13,
    3.2525481481487398415e-14,
    3.3478119482868053878e-14,
    -1.8645628804193131015e-15,
    -1.2507950530688647085e-15,
    7.418235256624043463e-17,
    5.0681489047961113168e-17,
)
IN_FLOAT32 = 12  # the later ones add up to 2e-8, a third of float32's unit roundoff
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


@cache
def _polynomial(terms: int) -> list[float]:
    """The first Chebyshev terms as coefficients of 1, t, t^2, ..."""
    return np.polynomial.chebyshev.cheb2poly(CHEBYSHEV[:terms]).tolist()


def erfc(x: Array) -> Array:
    """1 - erf(x) = 2 / sqrt(pi) times the integral of e^(-u^2) from x to infinity."""
    xp = array_module(x)
    size = abs(x)
    t = 1 - 7.5 / (size + 3.75)  # = (size - 3.75) / (size + 3.75), also at infinity
    coefficients = _polynomial(len(CHEBYSHEV) if x.dtype == xp.float64 else IN_FLOAT32)
    smooth = xp.full_like(t, coefficients[-1])
    for c in coefficients[-2::-1]:  # Horner
        smooth *= t
        smooth += c
    right = smooth * xp.exp(-size * size) / (1 + 2 * size)
    return right + (x < 0) * (2 - 2 * right)  # erfc(-x) = 2 - erfc(x)


def _scalar(x: float, approximate: str) -> float:
    if approximate == "none":
        return x * math.erfc(-x / math.sqrt(2)) / 2
    return x / 2 * (1 + math.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x**3)))


def _forward(x: Array, approximate: str) -> Array:
    if approximate == "none":
        return x * (erfc(x * -math.sqrt(0.5)) / 2)
    return x * ((1 + array_module(x).tanh(_inner(x))) / 2)


def _grad_input(grad: Array, x: Array, approximate: str) -> Array:
    xp = array_module(x)
    if approximate == "none":
        density = xp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return grad * (erfc(x * -math.sqrt(0.5)) / 2 + x * density)
    t = xp.tanh(_inner(x))
    slope = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
    return grad * ((1 + t + x * (1 - t * t) * slope) / 2)


def _inner(x: Array) -> Array:
    return SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)


op = elementwise_op(
    "gelu", scalar=_scalar, forward=_forward, grad_input=_grad_input, fast_forward=fast.gelu
)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), or with approximate="tanh" its approximation; formulas at the top of this file.

    Raises ValueError for another approximation.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is {approximate!r}, needs "none" or "tanh"')
    return of_input(op, input, approximate)
