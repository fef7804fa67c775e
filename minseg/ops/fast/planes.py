"""Blocks of planes, for all threads.

Pooling and depthwise convolution treat every channel of every image alike, so it does not matter
how many of these planes they look at at a time. Over all of a large batch, each of NumPy's passes
has to fetch them from memory; over a few, it finds them in the cache. And each thread can have
blocks of its own.
"""

import math
from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.parallel import SMALL, get_num_threads, parallel_for

# Several passes over a block of planes of this size find it in cache. Smaller ones would be closer
# at hand, but two threads whose calls of NumPy are short wait for each other.
PLANES_BYTES = 2**20


def for_planes(body: Callable[..., None], *images: Array, fit_cache: bool = True) -> None:
    """Call body(*planes) for blocks of the planes (P, h, w) of images (N, C, h, w).

    The images have the same N and C, each its own h and w. Those that the body writes to are
    contiguous. It computes each plane from those in its place, so the blocks change no bit.
    fit_cache=False is for a body of many short passes: it gets as many planes as there are for a
    thread.
    """
    planes = [as_planes(image) for image in images]
    blocks = [slice(None)]
    if sum(p.size for p in planes) > SMALL:
        blocks = plane_blocks(max(planes, key=np.size), fit_cache)
    parallel_for(lambda index: body(*(p[blocks[index]] for p in planes)), len(blocks))


def as_planes(x: Array) -> Array:
    """(N, C, H, W) as (N C, H, W)."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def plane_blocks(planes: Array, fit_cache: bool = True) -> list[slice]:
    """Cut an array's first axis into blocks: one a thread, or more that fit into the cache."""
    length = planes.shape[0]
    step = -(-length // get_num_threads())
    if fit_cache:
        step = min(step, PLANES_BYTES // (math.prod(planes.shape[1:]) * planes.itemsize))
    step = max(1, step)
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
