"""U-Net: a contracting path that sees wide, an expanding path that says where, skips between them.

The FCN added coarse class scores; the U-Net joins *features*: at every level of the expanding path
the features of the contracting path with the same resolution are laid beside the upsampled ones,
and two convolutions learn what to do with both. It was made for a few annotated cell images.

Source: Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image
        Segmentation", arXiv:1505.04597, figure 1 and section 2.
"""

import math

from minseg import nn
from minseg.backbones.initial import he
from minseg.joining import cat
from minseg.memory import total_memory
from minseg.models.images import check_images
from minseg.tensor import Tensor


def double_conv(
    in_channels: int, out_channels: int, padding: str, norm: str | None
) -> nn.Sequential:
    """Two times 3x3 convolution, (batch norm,) ReLU: what every level of the U is made of."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        conv = nn.Conv2d(channels, out_channels, 3, padding=padding, bias=norm is None)
        layers.append(he(conv))  # std sqrt(2 / N), section 3
        if norm is not None:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def levels(network: str, width: int, depth: int) -> list[int]:
    """The channels of each level of a U, from the top down: each has twice as many.

    Raises ValueError for a width or depth below 1, and for so many channels on the last level that
    not even the contracting path's weights would fit into this machine's memory.
    """
    if width < 1 or depth < 1:
        raise ValueError(f"{network}: width {width}, depth {depth}: both need at least 1")
    # A level of c channels has 9 (c / 2 + c) c weights, those above it a third of them: 18 c^2.
    most = math.sqrt(total_memory() / (4 * 18))  # of 4 bytes each
    if width * 2**depth > most:
        raise ValueError(
            f"{network}: width {width}, depth {depth}: the last level would have {width} * "
            f"2^{depth} channels; the weights of at most {most:,.0f} fit into this machine's memory"
        )
    return [width * 2**level for level in range(depth + 1)]


class UNet(nn.Module):
    """U-Net; `UNet(2, in_channels=1, padding="valid")` is figure 1 of the paper, 572 -> 388 pixels.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the first level, 64 in the paper; each level below has twice as many.
        depth: how often the image is halved, 4 in the paper; there are `depth + 1` levels.
        padding: "same" pads every convolution with zeros: logits of the image's size, whatever it
            is. "valid" pads nothing, as in the paper: each logit sees real pixels only, and a frame
            of the image gets none; `output_size` says how many there are.
        norm: None as in the paper, or "batch": batch norm after each convolution, which trains
            several times faster from scratch.
        dropout: rate at the end of the contracting path (section 3.1): after its last two levels.

    Shapes: (N, C, H, W) -> logits (N, K, H, W) with "same", a smaller H and W with "valid".

    Sizes that do not halve: pooling rounds up, so that a single pixel is enough, and upsampling
    then gives a row or column more than the skip has; it is cut off. With "valid", the skip is the
    larger one, and its centre is taken (figure 1, "copy and crop"); no pooling may round there, or
    what comes back lies pixels apart from the skip that it meets.

    Raises ValueError for an unknown padding or norm, a width or depth below 1 or too large for this
    machine, and for an image of a size that "valid" does not allow.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 4,
        padding: str = "same",
        norm: str | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if padding not in ("same", "valid"):
            raise ValueError(f'UNet: padding is {padding!r}, needs "same" or "valid"')
        if norm not in (None, "batch"):
            raise ValueError(f'UNet: norm is {norm!r}, needs None or "batch"')
        self.padding = padding
        channels = levels("UNet", width, depth)

        self.contract = nn.ModuleList(
            double_conv(c_in, c_out, padding, norm)
            for c_in, c_out in zip([in_channels, *channels], channels, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        # The expanding path, from the bottom up. The up-convolution halves the channels, the skip
        # brings the other half.
        ups = [nn.ConvTranspose2d(2 * c, c, kernel_size=2, stride=2) for c in channels[-2::-1]]
        for conv in ups:  # N = 2 c inputs a pixel; no ReLU follows, hence 1 / N and not 2 / N
            nn.init.normal_(conv.weight, std=conv.weight.shape[0] ** -0.5)
        self.up = nn.ModuleList(ups)
        self.expand = nn.ModuleList(double_conv(2 * c, c, padding, norm) for c in channels[-2::-1])
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        check_images("UNet", x)
        self.output_size(*x.shape[2:])  # raises for a size that "valid" does not allow

        skips: list[Tensor] = []
        bottom = len(self.contract) - 1
        for level, convs in enumerate(self.contract):
            x = convs(self.pool(x) if level else x)  # (N, width * 2^level, ~H / 2^level, ..)
            x = self.dropout(x) if level >= bottom - 1 else x
            skips.append(x)

        x = skips.pop()
        for up, convs in zip(self.up, self.expand, strict=True):
            x = convs(join(up(x), skips.pop()))  # twice the size, half the channels
        return self.head(x)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an image of this size.

        Raises ValueError for a size that is too small for "valid" convolutions, or at which a
        pooling would round; it names the next one that fits.
        """
        if self.padding == "same":
            return height, width
        # Two valid convolutions and a pooling make (s - 4) / 2 pixels a side of s. As
        # (s - 4) / 2 + 4 = (s + 4) / 2, it is s + 4 that is halved at each level, so it has to be a
        # multiple of 2^depth. A pixel of level l is 2^l of the image's, and each level's
        # convolutions take off 4 of its pixels, on the way down and on the way up: in all
        # 4 (2^(depth + 1) - 1) + 4 (2^depth - 1).
        depth = len(self.up)
        step, lost = 2**depth, 12 * 2**depth - 8

        def next_that_fits(size: int) -> int:
            size = max(size, lost + 1)
            return size + -(size + 4) % step

        fits = next_that_fits(height), next_that_fits(width)
        if (height, width) != fits:
            raise ValueError(
                f'UNet: an image or crop of {height}x{width} pixels: for padding "valid" with '
                f"depth {depth} it is too small, or a pooling would round and lay skips apart from "
                f"what they meet; the next size that fits is {fits[0]}x{fits[1]}"
            )
        return height - lost, width - lost


def join(upsampled: Tensor, skip: Tensor) -> Tensor:
    """The skip, then the upsampled map, (N, C2, ..) and (N, C1, ..) -> (N, C2 + C1, h, w).

    The upsampled map is at most one pixel too large (its level was rounded up): its last row or
    column goes. The skip is too large where convolutions were valid: its centre stays.
    """
    h, w = (min(pair) for pair in zip(upsampled.shape[2:], skip.shape[2:], strict=True))
    top, left = (skip.shape[2] - h) // 2, (skip.shape[3] - w) // 2
    return cat([skip[:, :, top : top + h, left : left + w], upsampled[:, :, :h, :w]], dim=1)
