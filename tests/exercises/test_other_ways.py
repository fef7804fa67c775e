"""There are many right ways: loops, einsum, matrices or another order pass as the solution does."""

from pathlib import Path

import pytest

from minseg.exercises.check import check
from minseg.exercises.task import PART_IMPORTS, get_exercise

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

# Parts of networks, on Tensors.
PARTS = {
    "fuse": """
def fuse(coarse, skip, kernel):
    doubled = F.conv_transpose2d(coarse, kernel, stride=2, padding=1)  # (N, K, 2 h, 2 w)
    return skip + doubled[:, :, : skip.shape[2], : skip.shape[3]]
""",
    "join": """
def join(upsampled, skip):
    for axis in (2, 3):
        more = skip.shape[axis] - upsampled.shape[axis]
        whole = (slice(None),) * axis
        if more > 0:
            skip = skip[(*whole, slice(more // 2, more // 2 + upsampled.shape[axis]))]
        elif more < 0:
            upsampled = upsampled[(*whole, slice(0, more))]
    return cat((skip, upsampled), dim=-3)
""",
    "attention_gate": """
def attention_gate(x, g, theta, phi, phi_bias, psi, psi_bias):
    N, C, H, W = x.shape
    for axis in (2, 3):
        if x.shape[axis] % 2:
            below = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
            x = cat([x, Tensor(np.zeros(below, x.dtype))], dim=axis)
    q = F.relu(F.conv2d(x, theta, phi_bias, stride=2) + F.conv2d(g, phi))
    q = (q * psi.reshape(-1, 1, 1)).sum(1, keepdim=True) + psi_bias
    alpha = 1 / (1 + (-q).exp())
    return x[:, :, :H, :W] * F.interpolate(alpha, (H, W), mode="bilinear", align_corners=False)
""",
    "image_pooling": """
def image_pooling(x, w, b):
    mean = F.adaptive_avg_pool2d(x, 1).flatten(1)
    y = F.relu(F.linear(mean, w.flatten(1), b))
    return y.unsqueeze(2).unsqueeze(3) + 0 * x[:, :1]
""",
    "aspp": """
def aspp(x, w1, w3, w_image, project, rates):
    total, O = 0, len(w1.data)
    image = F.interpolate(F.conv2d(F.adaptive_avg_pool2d(x, 1), w_image), x.shape[2:])
    branches = [F.conv2d(F.pad(x, (r, r, r, r)), w3[i], dilation=r) for i, r in enumerate(rates)]
    for i, branch in enumerate([F.conv2d(x, w1), *branches, image]):  # project, block by block
        total = total + F.conv2d(F.relu(branch), project[:, i * O : (i + 1) * O])
    return F.relu(total)
""",
    "top_down": """
def top_down(c3, c4, c5, w3, w4, w5, smooth):
    def up(p, c):
        return F.interpolate(p, scale_factor=2)[:, :, : c.shape[2], : c.shape[3]]

    p4 = F.conv2d(cat([c4, up(c5, c4)], dim=1), cat([w4, w5], dim=1))
    return F.conv2d(F.pad(F.conv2d(c3, w3) + up(p4, c3), (1, 1, 1, 1)), smooth)
""",
    "separable_conv2d": """
def separable_conv2d(x, depthwise, pointwise, rate=1):
    weights = pointwise * depthwise.transpose(0, 1)  # (O, C, k, k): both in one
    return F.conv2d(x, weights, padding="same", dilation=rate)
""",
    "mix_ffn": """
def mix_ffn(x, fc1, fc1_bias, dwconv, dwconv_bias, fc2, fc2_bias, size):
    image = x.reshape(x.shape[0], *size, -1).permute(0, 3, 1, 2)
    image = F.conv2d(image, fc1.reshape(*fc1.shape, 1, 1), fc1_bias)
    image = F.conv2d(image, dwconv, dwconv_bias, padding=1, groups=len(dwconv.data))
    image = F.conv2d(F.gelu(image), fc2.reshape(*fc2.shape, 1, 1), fc2_bias)
    return image.permute(0, 2, 3, 1).reshape(*x.shape)
""",
}


@pytest.mark.parametrize("name", [*WAYS, *PARTS])
def test_another_way_passes(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.py"
    text = PART_IMPORTS + PARTS[name] if name in PARTS else WAYS[name]
    path.write_text("import numpy as np\n" + text)
    verdict = check(get_exercise(name), path)
    assert verdict.stage == "", verdict.message
