"""Attention U-Net: gates on the skips, so that only what the coarse features ask for passes.

A U-Net's skip brings all that the contracting path saw, wanted or not. A gate weighs each of its
pixels: the features below, coarse but knowing more of the whole, ask (g), the skip (x) answers, and
a coefficient alpha in 0..1 says how much of the pixel passes (section 2.2, figure 2):

    q     = psi(ReLU(theta(x) + phi(g)))                                      (equation 1)
    alpha = sigmoid(q)                                                        (equation 2)
    x'    = alpha x                              theta, phi, psi: linear on every pixel

No label says where to look: the coefficients learn it from the segmentation alone. To draw them:
`minseg predict ... --features gates.0.alpha`, the coarsest gate being gates.0.

Source: Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the Pancreas",
        arXiv:1804.03999, figure 1; kernels, biases and the 1x1 convolution after a gate: the
        authors' code. Their deep supervision is left out.
"""

import minseg.functional as F
from minseg import nn
from minseg.backbones.initial import he
from minseg.joining import cat
from minseg.models.resize import resize
from minseg.models.unet import double_conv, levels
from minseg.tensor import Tensor


class Gate(nn.Module):
    """An additive attention gate: x (N, C, h, w), g (N, D, h/2, w/2) -> x', of the shape of x.

    The coefficients are computed on the grid of g and resampled to that of x, bilinearly.
    `coefficients` keeps those of the last call, (N, 1, h, w).
    """

    coefficients: Tensor | None = None

    def __init__(self, channels: int, below: int) -> None:
        super().__init__()
        self.theta = he(nn.Conv2d(channels, channels, 2, stride=2, bias=False))
        self.phi = he(nn.Conv2d(below, channels, 1))
        self.relu = nn.ReLU()
        self.psi = nn.Conv2d(channels, 1, 1)
        self.alpha = nn.Sigmoid()
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        h, w = x.shape[2:]
        even = F.pad(x, (0, w % 2, 0, h % 2))  # g's sizes are x's halved and rounded up
        alpha = self.alpha(self.psi(self.relu(self.theta(even) + self.phi(g))))
        alpha = resize(alpha, like=x)
        self.coefficients = alpha.detach()
        return self.out(alpha * x)


class AttentionUNet(nn.Module):
    """Attention U-Net as in its paper, in two dimensions.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the first level, 64 as in the U-Net; each level below has twice as many.
        depth: how often the image is halved, 4 in the paper.
        norm: "batch" as in the paper, or None: batch norm after each 3x3 convolution.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W. The first level's skip has no
    gate: its features say too little for that (section 2.3).
    Raises ValueError for an unknown norm, or a width or depth below 1 or too large for memory.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 4,
        norm: str | None = "batch",
    ) -> None:
        super().__init__()
        if norm not in (None, "batch"):
            raise ValueError(f'AttentionUNet: norm is {norm!r}, needs None or "batch"')
        channels = levels("AttentionUNet", width, depth)

        self.contract = nn.ModuleList(
            double_conv(c_in, c_out, "same", norm)
            for c_in, c_out in zip([in_channels, *channels], channels, strict=False)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        # The expanding path, from the bottom up.
        self.gates = nn.ModuleList(Gate(c, 2 * c) for c in channels[-2:0:-1])
        self.expand = nn.ModuleList(double_conv(3 * c, c, "same", norm) for c in channels[-2::-1])
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, convs in enumerate(self.contract):
            x = convs(self.pool(x) if level else x)  # (N, width * 2^level, ~H / 2^level, ..)
            skips.append(x)

        x = skips.pop()
        for i, convs in enumerate(self.expand):
            skip = skips.pop()
            passed = self.gates[i](skip, x) if i < len(self.gates) else skip
            x = convs(cat([passed, resize(x, like=skip)], dim=1))
        return self.head(x)
