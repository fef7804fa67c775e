"""There are many right ways: loops, einsum, matrices or another order pass as the solution does."""

from pathlib import Path

import pytest

from minseg.exercises.check import check
from minseg.exercises.task import get_exercise

WAYS = {
    "unbroadcast": """
def unbroadcast(grad, shape):
    padded = (1,) * (grad.ndim - len(shape)) + tuple(shape)
    for axis, n in enumerate(padded):
        if n == 1:
            grad = grad.sum(axis=axis, keepdims=True)
    return grad.reshape(shape)
""",
    "matmul_grad": """
def matmul_grad(grad, a, b):
    return np.einsum("nmp,kp->nmk", grad, b), np.tensordot(a, grad, ((0, 1), (0, 1)))
""",
    "numerical_grad": """
def numerical_grad(f, x, grad, h=1e-6):
    x, result = x.copy(), np.zeros_like(x)
    for i in range(x.size):
        value = x.flat[i]
        x.flat[i] = value + h
        above = f(x).copy()
        x.flat[i] = value - h
        result.flat[i] = np.vdot(grad, (above - f(x)) / (2 * h))
        x.flat[i] = value
    return result
""",
    "backward": """
def backward(loss, count, users, inputs, slopes):
    start = np.zeros(count, slopes.dtype)
    start[loss] = 1
    grad = start
    for _ in range(count):  # a round for every step of the longest way
        shares = np.zeros_like(start)
        np.add.at(shares, inputs, slopes * grad[users])
        grad = start + shares
    return grad
""",
    "im2col": """
def im2col(x, kernel_size, stride=1, padding=0):
    N, C, H, W = x.shape
    kh, kw = kernel_size
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_size, axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, C * kh * kw, -1)
""",
    "conv2d_grad_input": """
def conv2d_grad_input(grad, w, size, stride=1, padding=0):
    y = np.zeros((len(grad), w.shape[1], *size), grad.dtype)
    for n, o, r, c in np.ndindex(grad.shape):
        for k, i, j in np.ndindex(w.shape[1:]):
            row, col = r * stride - padding + i, c * stride - padding + j
            if 0 <= row < size[0] and 0 <= col < size[1]:
                y[n, k, row, col] += w[o, k, i, j] * grad[n, o, r, c]
    return y
""",
    "grouped_conv2d": """
def grouped_conv2d(x, w, groups, padding=0):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    K, M = w.shape[1], len(w) // groups
    parts = []
    for g in range(groups):
        windows = np.lib.stride_tricks.sliding_window_view(
            x[:, g * K : (g + 1) * K], w.shape[2:], axis=(2, 3))
        parts.append(np.einsum("nkrcij,okij->norc", windows, w[g * M : (g + 1) * M]))
    return np.concatenate(parts, axis=1)
""",
    "conv_transpose2d": """
def conv_transpose2d(x, w, b, stride=1, padding=0, output_padding=0):
    N, C, H, W = x.shape
    _, O, kh, kw = w.shape
    H_out = (H - 1) * stride - 2 * padding + kh + output_padding
    W_out = (W - 1) * stride - 2 * padding + kw + output_padding
    y = np.zeros((N, O, H_out, W_out), x.dtype) + b.reshape(-1, 1, 1)
    for r, c, i, j in np.ndindex(H, W, kh, kw):
        row, col = r * stride - padding + i, c * stride - padding + j
        if 0 <= row < H_out and 0 <= col < W_out:
            y[:, :, row, col] += x[:, :, r, c] @ w[:, :, i, j]
    return y
""",
    "max_pool2d_grad": """
def max_pool2d_grad(grad, indices, size):
    y = np.zeros((*grad.shape[:2], *size), grad.dtype)
    for n, c, r, q in np.ndindex(grad.shape):
        row, col = divmod(int(indices[n, c, r, q]), size[1])
        y[n, c, row, col] += grad[n, c, r, q]
    return y
""",
    "bilinear_grad": """
def bilinear_grad(grad, size, align_corners=False):
    for axis in (2, 3):
        n, out = size[axis - 2], grad.shape[axis]
        lines = np.moveaxis(grad, axis, 0)
        total = np.zeros((n, *lines.shape[1:]), grad.dtype)
        for o in range(out):
            p = max((o + 0.5) * n / out - 0.5, 0)
            if align_corners:
                p = o * (n - 1) / (out - 1) if out > 1 else 0
            i = min(int(p), n - 1)
            total[i] += (1 - (p - i)) * lines[o]
            total[min(i + 1, n - 1)] += (p - i) * lines[o]
        grad = np.moveaxis(total, 0, axis)
    return grad
""",
    "batch_norm_grad": """
def batch_norm_grad(grad, x, weight, eps=1e-5):
    m = x.size // x.shape[1]
    mean, s = x.mean((0, 2, 3)), np.sqrt(x.var((0, 2, 3)) + eps)
    n = (x - mean[:, None, None]) / s[:, None, None]
    by_weight, by_bias = np.einsum("nchw,nchw->c", grad, n), np.einsum("nchw->c", grad)
    rest = m * grad - by_bias[:, None, None] - n * by_weight[:, None, None]
    return (weight / (m * s))[:, None, None] * rest, by_weight, by_bias
""",
    "group_norm": """
def group_norm(x, groups, weight, bias, eps=1e-5):
    y, K = np.empty_like(x), x.shape[1] // groups
    for n in range(len(x)):
        for g in range(groups):
            part = x[n, g * K : (g + 1) * K]
            centred = part - part.mean()
            y[n, g * K : (g + 1) * K] = centred * ((centred**2).mean() + eps) ** -0.5
    return np.einsum("nchw,c->nchw", y, weight) + bias.reshape(1, -1, 1, 1)
""",
    "log_softmax": """
def log_softmax(x, grad):
    log_p = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    return log_p, grad - np.exp(log_p) * np.einsum("nchw->nhw", grad)[:, None]
""",
    "lovasz": """
def lovasz(m, truth):
    grad, loss, before = np.zeros_like(m), m.dtype.type(0), 0.0
    lost = extra = 0
    for i in sorted(range(len(m)), key=lambda i: -m[i]):
        lost, extra = lost + bool(truth[i]), extra + (not truth[i])
        now = 1 - (truth.sum() - lost) / (truth.sum() + extra)
        grad[i] = now - before
        loss, before = loss + m[i] * grad[i], now
    return loss, grad
""",
    "boundary_iou": """
def boundary_iou(prediction, target, distance):
    def of(mask):
        inner = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
        for _ in range(distance):  # one pixel at a time, along rows and then along columns
            inner[:, 1:-1] = inner[:, :-2] & inner[:, 1:-1] & inner[:, 2:]
            inner[:, :, 1:-1] = inner[:, :, :-2] & inner[:, :, 1:-1] & inner[:, :, 2:]
        return mask & ~inner[:, 1:-1, 1:-1]

    a, b = of(prediction), of(target)
    return a, np.float64((a & b).sum()) / (a | b).sum()
""",
}


@pytest.mark.parametrize("name", WAYS)
def test_another_way_passes(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text("import numpy as np\n" + WAYS[name])
    verdict = check(get_exercise(name), path)
    assert verdict.stage == "", verdict.message
