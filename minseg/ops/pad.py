"""Padding: a frame around the last dimensions, filled with a constant or from the image itself.

    constant   0 0 | a b c d | 0 0        reflect    c b | a b c d | c b   (the edge once)
    replicate  a a | a b c d | d d        circular   c d | a b c d | a b

In every mode, each place of the result shows one element of the input, or the constant. So the
gradient of each place is added to that of the element it shows. A negative width crops.

Shapes: x (..., H, W), pad (left, right, top, bottom, ...) -> (..., top + H + bottom, ...)
"""

from collections.abc import Callable, Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.op import Op
from minseg.parallel import get_num_threads, parallel_for
from minseg.tensor import Tensor, record

FEW = 1 << 20  # elements, for which one thread is quicker: for 2^18, 150 us; two took 370

Widths = tuple[tuple[int, int], ...]  # (before, after) for each of the last dimensions, outer first


def source_index(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """For each place of a padded line, the element of the line that it shows; -1: the constant."""
    place = np.arange(-before, size + after)
    if mode == "replicate":
        return place.clip(0, size - 1)
    if mode == "circular":  # elements that a negative width crops do not come round again
        kept = np.arange(max(-before, 0), size + min(after, 0))
        return kept[np.arange(-max(before, 0), len(kept) + max(after, 0)) % len(kept)]
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        place = abs(place) % period
        return np.minimum(place, period - place) if size > 1 else place
    return np.where((place >= 0) & (place < size), place, -1)


def pad_definition(x: Array, widths: Widths, mode: str, value: float) -> Array:
    """Place by place: which element does it show?"""
    lead = x.ndim - len(widths)
    places = [source_index(n, *w, mode) for n, w in zip(x.shape[lead:], widths, strict=True)]
    y = np.full((*x.shape[:lead], *map(len, places)), value, x.dtype)
    for index in np.ndindex(y.shape):
        source = [int(p[i]) for p, i in zip(places, index[lead:], strict=True)]
        if min(source, default=0) >= 0:
            y[index] = x[index[:lead] + tuple(source)]
    return y


def _forward_numpy(x: Array, widths: Widths, mode: str, value: float) -> Array:
    xp = array_module(x)
    widths = ((0, 0),) * (x.ndim - len(widths)) + widths
    if mode == "constant":
        y = xp.full([n + sum(w) for n, w in zip(x.shape, widths, strict=True)], value, x.dtype)
        kept, shown = zip(*map(_kept, x.shape, widths), strict=True)
        y[shown] = x[kept]
        return y
    if min(map(min, widths), default=0) < 0:  # the frame may show elements that are cropped
        for axis, width in enumerate(widths):
            x = x.take(xp.asarray(source_index(x.shape[axis], *width, mode)), axis=axis)
        return x
    y = xp.empty([n + sum(w) for n, w in zip(x.shape, widths, strict=True)], x.dtype)
    if y.size:
        _by_shares(_fill, y, x, widths, mode)
    return y


def _fill(y: Array, x: Array, widths: Widths, mode: str) -> None:
    """Copy the elements that are kept in one piece; then, axis by axis, the few places around."""
    _, shown = zip(*map(_kept, x.shape, widths), strict=True)
    y[shown] = x
    for axis, width in enumerate(widths):
        source = source_index(x.shape[axis], *width, mode) + width[0]
        # Along the axes after this one, the places around are not filled yet.
        lines = np.moveaxis(y[(slice(None),) * (axis + 1) + shown[axis + 1 :]], axis, 0)
        for place in [*range(shown[axis].start), *range(shown[axis].stop, len(source))]:
            lines[place] = lines[source[place]]


def _grad_input_numpy(grad: Array, x_shape: tuple[int, ...], widths: Widths, mode: str) -> Array:
    """Each element's gradient: that of its own place, and of every place around that shows it."""
    widths = ((0, 0),) * (len(x_shape) - len(widths)) + widths
    dx = array_module(grad).empty(x_shape, grad.dtype)
    if dx.size:
        _by_shares(_hand_back, dx, grad, widths, mode)
    return dx


def _hand_back(dx: Array, grad: Array, widths: Widths, mode: str) -> None:
    xp = array_module(grad)
    padded = [axis for axis, width in enumerate(widths) if width != (0, 0)]
    for axis in padded:
        n, width = dx.shape[axis], widths[axis]
        source = source_index(n, *width, mode)
        kept, shown = _kept(n, width)
        size = (*grad.shape[:axis], n, *grad.shape[axis + 1 :])
        total = dx if axis == padded[-1] else xp.empty(size, grad.dtype)
        to, of = xp.moveaxis(total, axis, 0), xp.moveaxis(grad, axis, 0)
        to[: kept.start], to[kept.stop :] = 0, 0
        to[kept] = of[shown]
        for place in [*range(shown.start), *range(shown.stop, len(source))]:
            if source[place] >= 0:
                to[source[place]] += of[place]
        grad = total
    if not padded:
        dx[...] = grad


def _by_shares(part: Callable[..., None], to: Array, of: Array, widths: Widths, mode: str) -> None:
    """part(to, of, widths, mode); on NumPy, one call for each thread's share of the first axis.

    Smaller shares would be slower: a part is many short calls of NumPy, in which threads wait for
    each other.
    """
    if not isinstance(of, np.ndarray) or of.size <= FEW or widths[0] != (0, 0):
        part(to, of, widths, mode)
        return
    step = -(-len(of) // get_num_threads())

    def one_share(index: int) -> None:
        share = slice(index * step, (index + 1) * step)
        part(to[share], of[share], widths, mode)

    parallel_for(one_share, -(-len(of) // step))


def _kept(size: int, width: tuple[int, int]) -> tuple[slice, slice]:
    """Which elements of a line are kept, and at which places of the padded line."""
    before, after = width
    kept = slice(max(-before, 0), size - max(-after, 0))
    start = max(before, 0)
    return kept, slice(start, start + kept.stop - kept.start)


op = Op(
    "pad",
    definition=pad_definition,
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Pad the last len(pad) / 2 dimensions; `pad` is (left, right, top, bottom, ...), last first.

    Raises TypeError for widths that are not integers; ValueError for an odd number of them, an
    unknown mode, a width that "reflect" (at most size - 1) or "circular" (at most the size that
    negative widths leave) cannot fill, or a negative size of the result (with "constant": of what
    negative widths leave).
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"pad: input is a {type(input).__name__}, needs a Tensor")
    integers = isinstance(pad, Sequence) and all(isinstance(n, int | np.integer) for n in pad)
    if not integers:
        raise TypeError(f"pad: pad is {pad!r}, needs ints: (left, right, top, bottom, ...)")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(
            f"pad: pad is {tuple(pad)}: needs 2 widths a dimension, at most {input.ndim}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(
            f'pad: mode is {mode!r}, needs "constant", "reflect", "replicate" or "circular"'
        )
    if mode != "constant" and value:
        raise ValueError(f'pad: value {value} is for mode "constant", not {mode!r}')
    widths = tuple((pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2))
    most = {"reflect": -1, "circular": 0}
    for size, width in zip(input.shape[input.ndim - len(widths) :], widths, strict=True):
        left = size + sum(min(n, 0) for n in width)  # of negative widths
        least = left if mode == "constant" else size + sum(width)
        if least < 0 or (mode != "constant" and size == 0 and max(width) > 0):
            raise ValueError(f"pad: widths {width} do not fit a dimension of size {size}")
        size = left if mode == "circular" else size
        if mode in most and max(width) > size + most[mode]:
            raise ValueError(
                f"pad: width {max(width)} is more than mode {mode!r} can fill from {size} elements"
            )

    y = op.forward(input.data, widths, mode, value or 0.0)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad, input.shape, widths, mode),)

    return record("pad", y, (input,), backward)
