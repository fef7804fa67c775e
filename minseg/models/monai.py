"""Attention U-Net in MONAI's form, for weights trained there; attention_unet.py has the paper's.

Reference: MONAI's `AttentionUnet(spatial_dims=2, ...)`; `minseg.hub.adapt` translates its names.
"""

from minseg import nn
from minseg.joining import cat
from minseg.models.unet import levels
from minseg.tensor import Tensor


class EqualGate(nn.Module):
    """MONAI's gate: x and g are of one size, g being upsampled already, and batch norm is added."""

    coefficients: Tensor | None = None

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.theta = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden))
        self.phi = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden))
        self.relu = nn.ReLU()
        self.psi = nn.Sequential(nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1))
        self.alpha = nn.Sigmoid()

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        alpha = self.alpha(self.psi(self.relu(self.theta(x) + self.phi(g))))
        self.coefficients = alpha.detach()
        return alpha * x


class AttentionUNetMONAI(nn.Module):
    """Attention U-Net in the form of MONAI's `AttentionUnet(spatial_dims=2, ...)`.

    Strided convolutions in place of pooling, transposed ones in place of interpolation, a gate on
    every skip, the first too, and one 3x3 convolution with instance norm and PReLU on each level of
    the way up.

    Args:
        backbone: "monai"; it asks for this form.
        width, depth: MONAI's channels=(width, 2 width, 4 width, ...), strides=(2,) * depth.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W; MONAI's needs multiples of
    2^depth.
    Raises ValueError for another backbone, or a width or depth below 1 or too large for memory.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        backbone: str = "monai",
        width: int = 64,
        depth: int = 4,
    ) -> None:
        super().__init__()
        if backbone != "monai":
            raise ValueError(f'AttentionUNet: backbone is {backbone!r}, needs "monai"')
        channels = levels("AttentionUNet", width, depth)
        self.contract = nn.ModuleList(
            strided_conv(c_in, c_out, stride=2 if level else 1)
            for level, (c_in, c_out) in enumerate(
                zip([in_channels, *channels], channels, strict=False)
            )
        )
        ups = channels[-2::-1]
        self.up = nn.ModuleList(up_conv(2 * c, c) for c in ups)
        self.gates = nn.ModuleList(EqualGate(c) for c in ups)
        self.merge = nn.ModuleList(merge_conv(2 * c, c) for c in ups)
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for convs in self.contract:
            x = convs(x)  # (N, width * 2^level, ~H / 2^level, ..)
            skips.append(x)

        x = skips.pop()
        for up, gate, merge in zip(self.up, self.gates, self.merge, strict=True):
            skip = skips.pop()
            h, w = skip.shape[2:]
            x = up(x)[:, :, :h, :w]  # odd sizes were rounded up: a row or column too much
            x = merge(cat([gate(skip, x), x], dim=1))
        return self.head(x)


def strided_conv(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def up_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """(N, C, h, w) -> (N, C', 2 h, 2 w)"""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def merge_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        # Instance norm, as groups of one channel: so a map of a single pixel is allowed.
        nn.GroupNorm(out_channels, out_channels, affine=False),
        nn.PReLU(),
    )
