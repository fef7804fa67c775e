"""SegFormer: a transformer of four maps, and a head of nothing but linear layers.

CNNs need wide heads (ASPP, pyramid pooling) because their features see little around a pixel. The
maps of a transformer see far already, in the last stages all of the image, and near in the first:
so it is enough to bring the four of them to one width, lay them on top of each other, and mix them,
pixel by pixel (section 3.2, equation 4):

    F_i = Upsample(Linear(C_i, C)(F_i)), i = 1 .. 4       each to a quarter of the image's size
    F   = Linear(4 C, C)(Concat(F_i))                     then batch norm, ReLU, dropout
    M   = Linear(C, K)(F)                                 logits, of stride 4

Source: Xie et al. 2021, "SegFormer: Simple and Efficient Design for Semantic Segmentation with
        Transformers", arXiv:2105.15203, figure 2. Batch norm, ReLU, dropout and the order of the
        concatenation (4, 3, 2, 1): the authors' code, and Hugging Face's, whose names these are.
        The encoder is `minseg/backbones/mit.py`.
"""

from minseg import nn
from minseg.backbones.initial import he
from minseg.backbones.mit import MiT, as_map, as_tokens, init_linear
from minseg.joining import cat
from minseg.models.resize import resize
from minseg.tensor import Tensor

# C, in units of the first stage's channels: 256 for B0 and B1, 768 for the others (table 6).
DECODER = {0: 8, 1: 4, 2: 12, 3: 12, 4: 12, 5: 12}


class DecodeHead(nn.Module):
    """The all-MLP decoder: four maps (N, C_i, h_i, w_i) -> logits (N, K, h_1, w_1).

    A linear layer on every pixel is a 1x1 convolution: those after the concatenation are written
    so, as in the reference.
    """

    def __init__(self, channels: list[int], width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.linear_projections = nn.ModuleList(init_linear(nn.Linear(c, width)) for c in channels)
        self.linear_fuse = he(nn.Conv2d(len(channels) * width, width, 1, bias=False))
        self.batch_norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        same = [
            resize(as_map(linear(as_tokens(x)), x.shape[2:]), like=maps[0])
            for linear, x in zip(self.linear_projections, maps, strict=True)
        ]  # four of (N, C, H/4, W/4)
        joined = cat(same[::-1], dim=1)
        fused = nn.in_turn(joined, self.linear_fuse, self.batch_norm, self.relu)
        return self.classifier(self.dropout(fused))


class SegFormer(nn.Module):
    """SegFormer-B0 to B5.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        variant: 0 to 5: how deep the encoder is.
        width: channels of the first stage and of every head, 32 (B0) or 64 in the paper; all other
            widths, the head's too, are multiples of it.
        drop_path: the probability that an image skips the encoder's last block in training.
        dropout: rate before the logits.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W.
    Raises ValueError for another variant, or a width below 1.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        variant: int = 0,
        width: int | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = MiT(variant, in_channels, width, drop_path)
        decoder_width = DECODER[variant] * self.backbone.channels[0]
        self.decode_head = DecodeHead(self.backbone.channels, decoder_width, num_classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.quarter(x), like=x)

    def quarter(self, x: Tensor) -> Tensor:
        """The logits as the head gives them, (N, K, H/4, W/4) rounded up.

        This is what Hugging Face's model returns; `forward` upsamples them to the image's size.
        """
        return self.decode_head(self.backbone(x))
