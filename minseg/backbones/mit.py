"""MiT, the Mix Transformer: a transformer whose maps shrink stage by stage, as a CNN's do.

A plain vision transformer cuts the image into patches of 16x16 and keeps that one coarse map. MiT
changes three things, so that it suits segmentation (section 3.1):

1. *Overlapped patch merging*: each stage starts with a strided convolution whose windows overlap,
   so that what lies on a patch's border stays whole. Strides 4, 8, 16, 32.
2. *Efficient self-attention*: where each of L = h w queries looks at all L pixels, there are L^2
   scores. Here keys and values come from the map shrunk R times along each side, so that there are
   only L / R^2 of them (equations 1 and 2).
3. *Mix-FFN*: a 3x3 convolution between the two linear layers (equation 3). Its zero padding tells
   where a pixel is, so that no position embedding is needed, nor one image size.

Names: L pixels of a map h x w, C channels, R the reduction ratio. Tokens are (N, L, C), the pixels
of a map (N, C, h, w) row by row.

Source: Xie et al. 2021, "SegFormer: Simple and Efficient Design for Semantic Segmentation with
        Transformers", arXiv:2105.15203, section 3.1, table 6. Where the paper is silent (layer
        norms and their eps, biases), Hugging Face's SegFormer, whose names these are.
"""

import math

import minseg.functional as F
from minseg import nn
from minseg.backbones.initial import zero_bias
from minseg.tensor import Tensor

Size = tuple[int, int]

# Table 6, by the number of the encoder, B0 .. B5: channels of the first stage, blocks of each.
# The stages have 1, 2, 5, 8 times those channels, and 1, 2, 5, 8 heads, so all heads are as wide.
VARIANTS: dict[int, tuple[int, tuple[int, int, int, int]]] = {
    0: (32, (2, 2, 2, 2)),
    1: (64, (2, 2, 2, 2)),
    2: (64, (3, 4, 6, 3)),
    3: (64, (3, 4, 18, 3)),
    4: (64, (3, 8, 27, 3)),
    5: (64, (3, 6, 40, 3)),
}
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)  # R: all stages have as many keys, those of a map of stride 32
PATCHES = ((7, 4), (3, 2), (3, 2), (3, 2))  # kernel and stride
EXPANSION = 4  # of the Mix-FFN


class MiT(nn.Module):
    """The encoder of SegFormer, B0 to B5.

    Args:
        variant: 0 to 5, how many blocks the stages have (table 6).
        width: channels of the first stage and of every head; in the paper 32 (B0) or 64.
        drop_path: the probability that an image skips the last block in training; that of the
            blocks before rises linearly from 0.

    Shapes: (N, C, H, W) -> a list of four maps, (N, channels[i], H / s, W / s) rounded up, with
    the strides s = 4, 8, 16, 32; any H and W.
    Raises ValueError for another variant, or a width below 1.
    """

    def __init__(
        self,
        variant: int = 0,
        in_channels: int = 3,
        width: int | None = None,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"MiT: variant is {variant!r}, needs one of 0 to {max(VARIANTS)}")
        papers_width, depths = VARIANTS[variant]
        width = papers_width if width is None else width
        if width < 1:
            raise ValueError(f"MiT: width is {width}, needs at least 1")
        self.channels = [width * heads for heads in HEADS]
        stages, start = [], 0
        for i, depth in enumerate(depths):
            last = sum(depths) - 1
            rates = [drop_path * block / last for block in range(start, start + depth)]
            channels = [in_channels, *self.channels][i]
            stages.append(
                Stage(channels, self.channels[i], PATCHES[i], HEADS[i], REDUCTIONS[i], rates)
            )
            start += depth
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Stage(nn.Module):
    """Patches, blocks, layer norm: (N, C', H, W) -> (N, C, H / stride, W / stride)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        patch: tuple[int, int],
        heads: int,
        reduction: int,
        drop_paths: list[float],
    ) -> None:
        super().__init__()
        kernel, stride = patch
        self.patch_embeddings = Patches(in_channels, channels, kernel, stride, kernel // 2)
        self.blocks = nn.ModuleList(Block(channels, heads, reduction, p) for p in drop_paths)
        self.layer_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x, size = self.patch_embeddings(x)  # (N, L, C)
        for block in self.blocks:
            x = block(x, size)
        return as_map(self.layer_norm(x), size)


class Patches(nn.Module):
    """A strided convolution and layer norm: map (N, C', H, W) -> tokens (N, L, C), and (h, w)."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int, padding: int = 0
    ) -> None:
        super().__init__()
        self.proj = init_conv(nn.Conv2d(in_channels, channels, kernel, stride, padding))
        self.layer_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:
        x = self.proj(x)
        return self.layer_norm(as_tokens(x)), x.shape[2:]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the transformer's two corrections of x.

    In training, an image skips each of them with probability `drop_path` (stochastic depth).
    """

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, reduction)
        self.layernorm_after = nn.LayerNorm(channels)
        self.mlp = MixFFN(channels, EXPANSION * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        x = x + self.drop_path(self.attention(self.layernorm_before(x), size))
        return x + self.drop_path(self.mlp(self.layernorm_after(x), size))


class Attention(nn.Module):
    """Efficient self-attention: L queries, but only L / R^2 keys and values (equations 1 and 2).

    Equation 2 reshapes R^2 pixels into one token and applies a linear layer: that is a convolution
    of kernel and stride R. What is left at the right and below of sizes that R does not divide is
    not seen; a map smaller than R x R is padded by zeros to that size.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q_proj = init_linear(nn.Linear(channels, channels))
        self.k_proj = init_linear(nn.Linear(channels, channels))
        self.v_proj = init_linear(nn.Linear(channels, channels))
        self.o_proj = init_linear(nn.Linear(channels, channels))
        self.sequence_reduction = (
            Patches(channels, channels, reduction, reduction) if reduction > 1 else None
        )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        reduced = x  # (N, L, C)
        if self.sequence_reduction is not None:
            whole = as_map(x, size)
            if min(size) < self.reduction:
                below, right = (max(self.reduction - length, 0) for length in size)
                whole = F.pad(whole, (0, right, 0, below))
            reduced, _ = self.sequence_reduction(whole)  # (N, L / R^2, C)
        query = self.by_head(self.q_proj(x))
        key, value = self.by_head(self.k_proj(reduced)), self.by_head(self.v_proj(reduced))
        y = F.scaled_dot_product_attention(query, key, value)  # (N, heads, L, C / heads)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def by_head(self, x: Tensor) -> Tensor:
        """(N, L, C) -> (N, heads, L, C / heads)"""
        n, length, channels = x.shape
        return x.reshape(n, length, self.heads, channels // self.heads).transpose(1, 2)


class MixFFN(nn.Module):
    """Linear, depthwise 3x3 convolution, GELU, linear; the rest of equation 3 is in `Block`."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = init_linear(nn.Linear(channels, hidden))
        self.dwconv = init_conv(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden))
        self.gelu = nn.GELU()
        self.fc2 = init_linear(nn.Linear(hidden, channels))

    def forward(self, x: Tensor, size: Size) -> Tensor:
        x = self.dwconv(as_map(self.fc1(x), size))  # (N, 4 C, h, w)
        return self.fc2(self.gelu(as_tokens(x)))


class DropPath(nn.Dropout):
    """Stochastic depth: each image's whole correction is dropped with probability p, in training.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth", arXiv:1603.09382
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        images_as_channels = input.unsqueeze(0)  # (1, N, L, C): one draw an image
        return F.dropout2d(images_as_channels, self.p).squeeze(0)


def as_tokens(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h w, C)"""
    return x.flatten(2).transpose(1, 2)


def as_map(x: Tensor, size: Size) -> Tensor:
    """(N, h w, C) -> (N, C, h, w)"""
    n, _, channels = x.shape
    return x.transpose(1, 2).reshape(n, channels, *size)


def init_linear(layer: nn.Linear) -> nn.Linear:
    """As transformers start: small weights, so that at first a block changes little."""
    nn.init.trunc_normal_(zero_bias(layer).weight, std=0.02)
    return layer


def init_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """Normal, variance 2 / fan_out: k^2 times the outputs that an input reaches."""
    fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    nn.init.normal_(zero_bias(layer).weight, std=math.sqrt(2 / fan_out))
    return layer
