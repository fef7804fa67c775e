"""Padding: a frame around the last dimensions, filled with a constant or from the image itself.

    constant   0 0 | a b c d | 0 0        reflect    c b | a b c d | c b   (the edge once)
    replicate  a a | a b c d | d d        circular   c d | a b c d | a b

In every mode, each place of the result shows one element of the input, or the constant. So the
gradient of each place is added to that of the element it shows. A negative width crops.

Shapes: x (..., H, W), pad (left, right, top, bottom, ...) -> (..., top + H + bottom, ...)
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.fast import pad as fast
from minseg.ops.op import Op
from minseg.tensor import Tensor, record

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
    """Along each axis, every place takes the element it shows; a constant is there beforehand."""
    xp = array_module(x)
    lead = x.ndim - len(widths)
    sizes = x.shape[lead:]
    if mode == "constant":
        padded = [n + before + after for n, (before, after) in zip(sizes, widths, strict=True)]
        y = xp.full((*x.shape[:lead], *padded), value, x.dtype)
        kept, shown = _kept(sizes, widths)
        y[(..., *shown)] = x[(..., *kept)]
        return y
    sources = [source_index(n, *w, mode) for n, w in zip(sizes, widths, strict=True)]
    if fast.fits(x, widths):
        return fast.forward(x, sources, widths)
    for axis, source in enumerate(sources, lead):
        x = x.take(xp.asarray(source), axis=axis)
    return x


def _grad_input_numpy(grad: Array, x_shape: tuple[int, ...], widths: Widths, mode: str) -> Array:
    """Each element's gradient: that of its own place, and of every place around that shows it."""
    xp = array_module(grad)
    lead = len(x_shape) - len(widths)
    kept, shown = _kept(x_shape[lead:], widths)
    if mode == "constant":
        dx = xp.zeros(x_shape, grad.dtype)
        dx[(..., *kept)] = grad[(..., *shown)]
        return dx
    sources = [source_index(n, *w, mode) for n, w in zip(x_shape[lead:], widths, strict=True)]
    if fast.fits(grad, widths):
        return fast.grad_input(grad, x_shape, sources, widths)
    for i, source in enumerate(sources):
        axis = lead + i
        dx = xp.zeros((*grad.shape[:axis], x_shape[axis], *grad.shape[axis + 1 :]), grad.dtype)
        to, of = xp.moveaxis(dx, axis, 0), xp.moveaxis(grad, axis, 0)
        to[kept[i]] = of[shown[i]]
        for place in [*range(shown[i].start), *range(shown[i].stop, len(source))]:
            to[source[place]] += of[place]
        grad = dx
    return grad


def _kept(sizes: Sequence[int], widths: Widths) -> tuple[list[slice], list[slice]]:
    """What is kept along each axis, and the places where the result shows it."""
    kept, shown = [], []
    for n, (before, after) in zip(sizes, widths, strict=True):
        start, stop = (min(max(place, 0), before + n + after) for place in (before, before + n))
        kept.append(slice(start - before, stop - before))
        shown.append(slice(start, stop))
    return kept, shown


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
    _check(input, pad, mode, value)
    widths = tuple((pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2))
    _check_widths(input, widths, mode)
    y = op.forward(input.data, widths, mode, value or 0.0)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad, input.shape, widths, mode),)

    return record("pad", y, (input,), backward)


def _check(input: Tensor, pad: Sequence[int], mode: str, value: float | None) -> None:
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


def _check_widths(input: Tensor, widths: Widths, mode: str) -> None:
    """Raise ValueError for a width that the dimension, or what is left of it, cannot fill."""
    most = {"reflect": -1, "circular": 0}
    for size, width in zip(input.shape[input.ndim - len(widths) :], widths, strict=True):
        left = size + sum(min(n, 0) for n in width)  # what negative widths leave
        least = left if mode == "constant" else size + sum(width)
        if least < 0 or (mode != "constant" and size == 0 and max(width) > 0):
            raise ValueError(f"pad: widths {width} do not fit a dimension of size {size}")
        size = left if mode == "circular" else size
        if mode in most and max(width) > size + most[mode]:
            raise ValueError(
                f"pad: width {max(width)} is more than mode {mode!r} can fill from {size} elements"
            )
