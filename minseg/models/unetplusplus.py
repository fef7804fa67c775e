"""U-Net++: a U-Net of every depth at once, each skip a row of small networks.

A U-Net lays features of its first layers, which know little of the whole, beside features that went
all the way down and up. U-Net++ fills the space between: node X[i, j] stands at level i (where the
image was halved i times) and sees all nodes to its left and the upsampled one below those:

    X[i, j] = H([X[i, 0], ..., X[i, j - 1], Up(X[i + 1, j - 1])])              (equation 1)

    X00 -- X01 -- X02 -- X03 -- X04      The first column is the contracting path. X[0, j] is what a
      \\   /  \\   /  \\   /  \\   /         U-Net of depth j would end with: with deep supervision,
       X10 -- X11 -- X12 -- X13          each has a head that learns to segment, and after training
         \\   /  \\   /  \\   /             the network can be cut off at any depth (section 3.2):
          X20 -- X21 -- X22              the rest is unchanged by it.

Source: Zhou, Siddiquee, Tajbakhsh, Liang 2018, "UNet++: A Nested U-Net Architecture for Medical
        Image Segmentation", arXiv:1807.10165, section 3.
"""

from minseg import nn
from minseg.joining import cat
from minseg.models.unet import double_conv, levels
from minseg.tensor import Tensor

Grid = dict[tuple[int, int], Tensor]


def nest(column: list[Tensor], nodes: nn.ModuleDict) -> Grid:
    """All X[i, j] from the first column, X[i, 0]: equation 1, column after column."""
    x = {(i, 0): features for i, features in enumerate(column)}
    for j in range(1, len(column)):
        for i in range(len(column) - j):
            left = [x[i, k] for k in range(j)]
            x[i, j] = nodes[f"x_{i}_{j}"](left, x[i + 1, j - 1])
    return x


class Node(nn.Module):
    """X[i, j] of the paper: an up-convolution, and H, two 3x3 convolutions on all that is there."""

    def __init__(self, channels: int, j: int, norm: str | None) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, kernel_size=2, stride=2)
        nn.init.normal_(self.up.weight, std=(2 * channels) ** -0.5)  # as in the U-Net
        self.convs = double_conv((j + 1) * channels, channels, "same", norm)

    def forward(self, left: list[Tensor], below: Tensor) -> Tensor:
        return self.convs(cat([*left, fit(self.up(below), left[0])], dim=1))


class UNetPlusPlus(nn.Module):
    """U-Net++ as in its paper.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        width: channels of the first level, 32 in the paper; each level below has twice as many.
        depth: how often the image is halved, 4 in the paper.
        norm: None, or "batch": batch norm after each convolution of the nodes.
        deep_supervision: whether each X[0, 1], ..., X[0, depth] has a head, not the last alone.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W (odd sizes as in the U-Net). With
    deep supervision a dict: under "out" the average over the heads (the paper's accurate mode), and
    then those of each, "head_1", ...: training adds up their losses (section 3.2).
    Raises ValueError for an unknown norm, or a width or depth below 1 or too large for memory.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 32,
        depth: int = 4,
        norm: str | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if norm not in (None, "batch"):
            raise ValueError(f'UNetPlusPlus: norm is {norm!r}, needs None or "batch"')
        self.num_classes, self.in_channels = num_classes, in_channels
        self.width, self.depth, self.norm = width, depth, norm
        self.deep_supervision = deep_supervision
        channels = levels("UNetPlusPlus", width, depth)

        self.contract = nn.ModuleList(
            double_conv(c_in, c_out, "same", norm)
            for c_in, c_out in zip([in_channels, *channels], channels, strict=False)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.nodes = nn.ModuleDict(
            {
                f"x_{i}_{j}": Node(channels[i], j, norm)
                for j in range(1, depth + 1)
                for i in range(depth + 1 - j)
            }
        )
        supervised = range(1, depth + 1) if deep_supervision else [depth]
        self.heads = nn.ModuleDict(
            {f"head_{j}": nn.Conv2d(width, num_classes, 1) for j in supervised}
        )

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        column: list[Tensor] = []
        for level, convs in enumerate(self.contract):
            x = convs(self.pool(x) if level else x)  # (N, width * 2^level, ~H / 2^level, ..)
            column.append(x)
        grid = nest(column, self.nodes)
        logits = {name: head(grid[0, int(name[5:])]) for name, head in self.heads.items()}
        average = sum(logits.values()) / len(logits)
        return {"out": average, **logits} if self.deep_supervision else average

    def pruned(self, depth: int) -> "UNetPlusPlus":
        """What is left of a trained network where it is cut off at head `depth` (fast mode).

        A copy of the nodes with i + j <= depth, and of that head: its logits are the same as here.
        Raises ValueError without deep supervision, or for a depth that has no head.
        """
        if f"head_{depth}" not in self.heads:
            raise ValueError(
                f"pruned: no head at depth {depth!r}, there are {', '.join(self.heads)}; "
                "deep_supervision=True gives one at each depth"
            )
        small = UNetPlusPlus(self.num_classes, self.in_channels, self.width, depth, self.norm)
        state = self.state_dict()
        small.load_state_dict({name: state[name] for name in small.state_dict()})
        return small.train(self.training)


def fit(upsampled: Tensor, like: Tensor) -> Tensor:
    """Without the last row or column, where `like` has one less: its level was rounded up."""
    h, w = like.shape[2:]
    return upsampled[:, :, :h, :w]
