"""np.concatenate on all cores: each copies a part of every array."""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.parallel import PASS, WORTH_A_THREAD, get_num_threads, parallel_for


def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """np.concatenate of arrays of one dtype whose shapes differ along `axis` only."""
    ndim, shape = arrays[0].ndim, list(arrays[0].shape)
    axis %= ndim
    shape[axis] = sum(a.shape[axis] for a in arrays)
    others = [i for i in range(ndim) if i != axis and shape[i] > 1]
    large = PASS * sum(a.size for a in arrays) > WORTH_A_THREAD
    if not (large and others and isinstance(arrays[0], np.ndarray)):
        return array_module(arrays[0]).concatenate(arrays, axis=axis)
    joined = np.empty(shape, arrays[0].dtype)
    length = shape[others[0]]
    step = -(-length // get_num_threads())

    def one_part(index: int) -> None:
        part = (slice(None),) * others[0] + (slice(index * step, (index + 1) * step),)
        np.concatenate([a[part] for a in arrays], axis=axis, out=joined[part])

    parallel_for(one_part, -(-length // step))
    return joined
