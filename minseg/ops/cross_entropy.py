"""Cross-entropy of class scores and a labelling, pixel by pixel, with its log-softmax inside.

    class indices:        loss = -w_t log p_t,                   p = softmax(x) over the classes
    class probabilities:  loss = -sum over c of w_c t_c log p_c
    label smoothing:      t_c -> (1 - s) t_c + s / C             (for an index, t_c = [c = t])

All three are -sum_c q_c log p_c for some weights q, and so have the gradient p_i (sum_c q_c) - q_i.
The parts below compute p again for it; fast/cross_entropy.py keeps the powers that p is made of.

"mean" divides by the sum of the weights w_t of the pixels that count; with class probabilities by
the number of pixels. A pixel whose index is `ignore_index` has no loss, weight and gradient.

Shapes: x (N, C, ...) or (C,); target (N, ...) or () of class indices, or x's of probabilities
Source: label smoothing: Szegedy et al., "Rethinking the Inception architecture", 2016, section 7
"""

import math

import numpy as np

from minseg.array import FLOATS, Array, array_module, contiguous
from minseg.ops.checks import check_tensor
from minseg.ops.fast import cross_entropy as fast
from minseg.ops.labels import check_labels, check_weight, sum_of_weights
from minseg.ops.op import Op, launch
from minseg.ops.reduction import check_reduction, reduce, spread
from minseg.ops.softmax import log_softmax_of, softmax_of
from minseg.tensor import Tensor, record


def cross_entropy_definition(
    x: Array, target: Array, w: Array, ignore_index: int, smoothing: float
) -> Array:
    """The formula above, pixel by pixel: x (N, C, P), target (N, P) or (N, C, P) -> (N, P)."""
    N, C, P = x.shape
    loss = np.zeros((N, P), x.dtype)
    for n, p in np.ndindex(N, P):
        if target.ndim == 3:
            t = [float(target[n, c, p]) for c in range(C)]
        elif target[n, p] == ignore_index:
            continue
        else:
            t = [float(c == target[n, p]) for c in range(C)]
        top = max(x[n, :, p])
        log_sum = top + math.log(sum(math.exp(v - top) for v in x[n, :, p]))
        for c in range(C):
            q = w[c] * ((1 - smoothing) * t[c] + smoothing / C)
            if q:
                loss[n, p] -= q * (x[n, c, p] - log_sum)
    return loss


def _forward_numpy(x: Array, target: Array, w: Array, ignore_index: int, smoothing: float) -> Array:
    """The losses (N, P) of class indices (N, P) or probabilities (N, C, P).

    Indices without smoothing, the usual case, go a quicker way: fast/cross_entropy.py.
    """
    log_p = log_softmax_of(x, 1)  # (N, C, P)
    if target.ndim == 3:
        return -(_weights(target, w, smoothing) * log_p).sum(axis=1)
    valid = target != ignore_index
    label = np.where(valid, target, 0)
    loss = -(1 - smoothing) * w[label] * np.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
    if smoothing:  # else a class that is ruled out, log p = -inf, would make it NaN
        loss -= smoothing / len(w) * (w[:, None] * log_p).sum(axis=1)
    return np.where(valid, loss, 0)


def _grad_input_numpy(
    grad: Array, x: Array, target: Array, w: Array, ignore_index: int, smoothing: float
) -> Array:
    """grad (N, P) -> (N, C, P): p_i (sum_c q_c) - q_i, times the pixel's gradient."""
    if target.ndim == 2:
        grad = np.where(target != ignore_index, grad, 0)
    p, q = softmax_of(x, 1), _weights(target, w, smoothing)
    return (p * q.sum(axis=1, keepdims=True) - q) * grad[:, None]


def _grad_target_numpy(grad: Array, x: Array, w: Array, smoothing: float) -> Array:
    """Of class probabilities: -w_c (1 - s) log p_c, times the pixel's gradient."""
    return -(1 - smoothing) * w[:, None] * log_softmax_of(x, 1) * grad[:, None]


def _weights(target: Array, w: Array, smoothing: float) -> Array:
    """The q_c of the formulas above, (N, C, P)."""
    C, w = len(w), w[:, None]
    if target.ndim == 3:
        return w * ((1 - smoothing) * target + smoothing / C)
    is_label = target[:, None] == np.arange(C)[:, None]
    return (1 - smoothing) * np.where(is_label, w, 0) + smoothing / C * w


def _forward_cuda(x: Array, target: Array, w: Array, ignore_index: int, smoothing: float) -> Array:
    """kernels/cross_entropy.cu: log-softmax and loss in one go, a thread a pixel."""
    xp = array_module(x)
    loss = xp.empty((x.shape[0], x.shape[2]), x.dtype)
    x, t, w = contiguous(x, target, w)
    labels, probabilities = (None, t) if target.ndim == 3 else (t, None)
    how = (*x.shape, ignore_index, smoothing)
    launch("cross_entropy_forward", x, labels, probabilities, w, loss, *how)
    return loss


def _grad_input_cuda(
    grad: Array, x: Array, target: Array, w: Array, ignore_index: int, smoothing: float
) -> Array:
    xp = array_module(grad)
    dx = xp.empty(x.shape, x.dtype)
    grad, x, t, w = contiguous(grad, x, target, w)
    labels, probabilities = (None, t) if target.ndim == 3 else (t, None)
    how = (*x.shape, ignore_index, smoothing)
    launch("cross_entropy_grad_input", grad, x, labels, probabilities, w, dx, *how)
    return dx


def _grad_target_cuda(grad: Array, x: Array, w: Array, smoothing: float) -> Array:
    xp = array_module(grad)
    dt = xp.empty(x.shape, x.dtype)
    grad, x, w = contiguous(grad, x, w)
    launch("cross_entropy_grad_target", grad, x, w, dt, *x.shape, smoothing)
    return dt


op = Op(
    "cross_entropy",
    definition=cross_entropy_definition,
    numpy={
        "forward": _forward_numpy,
        "grad_input": _grad_input_numpy,
        "grad_target": _grad_target_numpy,
    },
    cuda={
        "forward": _forward_cuda,
        "grad_input": _grad_input_cuda,
        "grad_target": _grad_target_cuda,
    },
)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of scores `input`; formula and shapes at the top of this file.

    `weight` (C,) weighs the classes; "mean" of no pixel at all (each is ignored) is NaN, with a
    gradient of zeros, as in PyTorch. Raises ValueError for a label outside 0 .. C - 1 that is not
    `ignore_index`, for shapes that do not fit, and for a `label_smoothing` outside 0 .. 1;
    TypeError for a target that is neither integers nor probabilities of the input's dtype.
    """
    check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, needs 0 to 1")
    label_smoothing = float(label_smoothing)  # NumPy's own would turn float32 into float64
    check_tensor("cross_entropy", "input", input, ndim=None)
    w = check_weight("cross_entropy", input, weight)
    if isinstance(target, Tensor) and target.dtype in FLOATS and target.shape == input.shape:
        check_tensor("cross_entropy", "target", target, ndim=None, like=input)
        if ignore_index >= 0:
            raise ValueError("cross_entropy: ignore_index needs a target of class indices")
        t = as_pixels(target.data)
    else:
        labels = check_labels("cross_entropy", input, target, ignore_index)
        t = labels.reshape(len(labels) if labels.ndim else 1, math.prod(labels.shape[1:]))
    x = as_pixels(input.data)
    if op.is_numpy(x) and fast.fits(t, label_smoothing):
        loss, weights, grad_input = fast.cross_entropy(x, t, w, ignore_index)
        denominator = weights.sum()
    else:
        how = (x, t, w, ignore_index, label_smoothing)
        loss, grad_input = op.forward(*how), lambda grad: op.grad_input(grad, *how)
        denominator = loss.size if t.ndim == 3 else sum_of_weights(w, t, ignore_index)
    shape = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    y = reduce(loss.reshape(shape), reduction, denominator)

    def backward(grad: Array) -> tuple[Array | None, Array | None]:
        dx = dt = None
        grad = spread(grad, loss.shape, reduction, denominator)
        if input.requires_grad:
            dx = grad_input(grad).reshape(input.shape)
        if target.requires_grad:
            dt = op.grad_target(grad, x, w, label_smoothing).reshape(input.shape)
        return dx, dt

    return record("cross_entropy", y, (input, target), backward)


def as_pixels(x: Array) -> Array:
    """(N, C, ...) or (C,) as (N, C, P)."""
    images, channels = x.shape[:2] if x.ndim > 1 else (1, x.shape[0])
    return x.reshape(images, channels, math.prod(x.shape[2:]))
