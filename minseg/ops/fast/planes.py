"""Pooling in blocks of planes, on all threads.

Pooling treats every channel of every image alike, so it does not matter how many it looks at a
time. Over all of a large batch, each of NumPy's passes has to fetch them from memory; over a few,
it finds them in the cache. And each thread can have blocks of its own.
"""

from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.pool import as_planes, plane_blocks
from minseg.parallel import SMALL, parallel_for


def for_planes(body: Callable[..., None], *images: Array, fit_cache: bool = True) -> None:
    """Call body(*planes) for blocks of the planes (P, h, w) of images (N, C, h, w).

    The images have the same N and C, each its own h and w. Those that the body writes to are
    contiguous. It computes each plane from those in its place, so the blocks change no bit.
    fit_cache=False is for a body of many short passes: it gets as many planes as there are for a
    thread.
    """
    planes = [as_planes(image)[:, 0] for image in images]
    blocks = [slice(None)]
    if sum(p.size for p in planes) > SMALL:
        blocks = plane_blocks(max(planes, key=np.size), fit_cache)
    parallel_for(lambda index: body(*(p[blocks[index]] for p in planes)), len(blocks))
