"""e^x by the quicker of two ways: as itself, or as a power of 2.

With AVX-512, NumPy computes 2^x in half the time of e^x. Without, e^x is vectorised, while 2^x
calls the C library for each element. So e^x is written POWER(UNIT * x). Where x is a number times
something, UNIT is multiplied into that number, at no cost. UNIT x is rounded once more than x: the
result is off by up to |x| eps, as much as if the last bit of x were wrong.
"""

import math

import numpy as np

from minseg.array import Array


def _two_is_quicker() -> bool:
    try:
        from numpy.lib.introspect import opt_func_info  # of NumPy 2.1 and later
    except ImportError:
        return False
    found = opt_func_info(func_name="^exp2$", signature="float32")
    current = found.get("exp2", {}).get("ff", {}).get("current", "baseline")
    return not current.startswith("baseline")


POWER, UNIT = (np.exp2, math.log2(math.e)) if _two_is_quicker() else (np.exp, 1.0)


def exp(x: Array, out: Array) -> None:
    """e^x of float32 by the quicker way, of float64 by np.exp, into `out`."""
    if x.dtype == np.float32 and UNIT != 1:
        POWER(np.multiply(x, UNIT, out=out), out=out)
    else:
        np.exp(x, out=out)
