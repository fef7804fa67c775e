"""At stride 1 the gradient of a convolution's input is a convolution: by the kernel turned round.

    dx[r] = sum over i of  w[i] grad[r + padding - i * dilation]

With the kernel's elements counted from its other end, t = k - 1 - i, this is

    dx[r] = sum over t of  w[k - 1 - t] grad[r - rest + t * dilation]

a convolution with the padding rest = dilation * (k - 1) - padding. In two dimensions the kernel is
turned by 180 degrees.
"""

from minseg.ops.window import Window


def turns(window: Window) -> bool:
    """Is the gradient such a convolution, whose padding is at least 0?"""
    return window.stride == (1, 1) and min(turned(window).padding) >= 0


def turned(window: Window) -> Window:
    """The window of the gradient's convolution."""
    rest_h, rest_w = (
        d * (k - 1) - p
        for d, k, p in zip(window.dilation, window.kernel, window.padding, strict=True)
    )
    return window._replace(padding=(rest_h, rest_w))
