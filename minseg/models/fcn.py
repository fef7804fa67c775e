"""FCN: a classifier made fully convolutional, so that it answers at every place of the image.

Three ideas. (1) A fully connected layer on a 7x7 map is a 7x7 convolution (figure 2): fc6 and fc7
slide over an image of any size and give a map of coarse scores, one for 32 pixels. (2) Upsampling
is a convolution too, transposed, and can be learnt; it starts as bilinear interpolation (3.3).
(3) The layers below know *where*: their scores, at strides 16 and 8, are added (figure 3).

Source: Long, Shelhamer, Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation",
        arXiv:1411.4038. Sizes, crops and names of the layers are those of the authors' Caffe model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minseg import nn
from minseg.backbones.initial import he, zero_bias
from minseg.backbones.vgg import VGGFeatures
from minseg.tensor import Tensor


class FCN(VGGFeatures):
    """FCN-32s, 16s or 8s on VGG.

    Args:
        num_classes: K, the channels of the logits.
        in_channels: C, the channels of the image.
        stride: 32, 16 or 8: that of the finest scores, before the last upsampling.
        width: channels of the first stage, 64 in the paper; fc6 and fc7 have 64 * width.
        depth: layers of the VGG: 11, 13, 16 (the paper) or 19.
        norm: None as in the paper, or "batch": batch norm after the convolutions of the VGG. A
            network that does not start from a trained VGG hardly learns without it.
        padding: 100 as in the paper: zeros around the image, so many that fc6, which has no padding
            of its own, has 7x7 pixels to see even if the image is a single one. Around a small
            image most of the work is done on these zeros. "same" pads fc6 by 3 instead: the same
            layers and weights, at less than a quarter of the work for 160x120.
        dropout: rate after fc6 and fc7.
        at_once: whether pool4 is scaled by 0.01 and pool3 by 0.0001 before it is scored, so that
            all strides can be trained at once from a classifier, as the authors later did: as they
            come out of VGG, those maps are that much larger than fc7.

    Shapes: (N, C, H, W) -> logits (N, K, H, W), for any H and W.
    Raises ValueError for an unknown stride, depth, norm or padding.

    Training: the scores start at zero, the transposed convolutions as bilinear interpolation. The
    last of them stays so, the others learn (section 4.3). The paper trains the 32s first, then the
    16s from its weights, then the 8s: `copy_coarser`, or `minseg train --model fcn16s --init RUN`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        stride: int = 8,
        width: int = 64,
        depth: int = 16,
        norm: str | None = None,
        padding: int | str = 100,
        dropout: float = 0.5,
        at_once: bool = False,
    ) -> None:
        if stride not in (32, 16, 8):
            raise ValueError(f"FCN: stride is {stride!r}, needs 32, 16 or 8")
        if padding not in (100, "same"):
            raise ValueError(f'FCN: padding is {padding!r}, needs 100 or "same"')
        framed = padding == 100
        super().__init__(in_channels, width, depth, norm, padding=100 if framed else 1)
        self.stride, self.framed = stride, framed
        self.scale_pool4, self.scale_pool3 = (0.01, 0.0001) if at_once else (1.0, 1.0)

        hidden = 64 * width  # 4096
        self.fc6 = he(nn.Conv2d(self.channels, hidden, 7, padding=0 if framed else 3))
        self.fc7 = he(nn.Conv2d(hidden, hidden, kernel_size=1))
        self.dropout = nn.Dropout(dropout)

        self.score_fr = score_head(hidden, num_classes)
        if stride <= 16:
            self.score_pool4 = score_head(8 * width, num_classes)
            self.upscore2 = upsample(num_classes, 2)
        if stride == 8:
            self.score_pool3 = score_head(4 * width, num_classes)
            self.upscore_pool4 = upsample(num_classes, 2)
        self.add_module(LAST[stride], upsample(num_classes, stride).requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        _, _, pool3, pool4, pool5 = self.features(x)
        h = self.dropout(self.relu(self.fc6(pool5)))  # (N, 4096, ~H/32, ~W/32)
        h = self.dropout(self.relu(self.fc7(h)))
        score = self.score_fr(h)  # (N, K, ~H/32, ~W/32)

        shift = FRAMED if self.framed else SAME
        if self.stride <= 16:
            skip = self.score_pool4(self.scale_pool4 * pool4)
            score = fuse(score, self.upscore2, skip, shift["pool4"])  # (N, K, ~H/16, ~W/16)
        if self.stride == 8:
            skip = self.score_pool3(self.scale_pool3 * pool3)
            score = fuse(score, self.upscore_pool4, skip, shift["pool3"])  # (N, K, ~H/8, ~W/8)
        last = getattr(self, LAST[self.stride])
        return crop(last(score), shift[LAST[self.stride]], size)  # (N, K, H, W)


# How many rows and columns to crop at the top and left, so that one map lies on the other: of a
# skip (positive) or of the scores (negative), and in the end of the upsampled scores.
#
# With the frame, conv1_1 adds 99 pixels more than a 3x3 needs, and fc6 takes off 3 of its own, of
# 32 image pixels each: its pixel p covers the image from 32 p - 3 on. A transposed convolution with
# kernel 2 s and stride s moves a map by s / 2. So the 32s crop 3 + 32 / 2 = 19. Once doubled, the
# scores start at 16 (p - 1) - 3, while pool4 starts at 16 p - 99, which is 5 pixels further out;
# the last upsampling of the 16s adds 16 / 2 to 19: 27. Likewise pool3, 9, and 8 / 2 to 27: 31.
# Without the frame, only the transposed convolutions move the maps.
FRAMED = {"pool4": 5, "pool3": 9, "upscore": 19, "upscore16": 27, "upscore8": 31}
SAME = {"pool4": -1, "pool3": -1, "upscore": 16, "upscore16": 8, "upscore8": 4}
LAST = {32: "upscore", 16: "upscore16", 8: "upscore8"}


def crop(x: Tensor, offset: int, size: tuple[int, ...]) -> Tensor:
    """The (h, w) of x that start at row and column `offset`."""
    h, w = size
    return x[:, :, offset : offset + h, offset : offset + w]


def fuse(score: Tensor, up: nn.ConvTranspose2d, skip: Tensor, shift: int) -> Tensor:
    """Double the coarse scores, crop what is larger, add."""
    score = up(score)
    if shift > 0:
        return score + crop(skip, shift, score.shape[2:])
    return crop(score, -shift, skip.shape[2:]) + skip


def score_head(in_channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution to class scores, zero at first: training starts from what is below."""
    conv = nn.Conv2d(in_channels, num_classes, kernel_size=1)
    nn.init.zeros_(conv.weight)
    return zero_bias(conv)


def upsample(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that interpolates bilinearly, at first: h -> factor * (h + 1)."""
    conv = nn.ConvTranspose2d(channels, channels, 2 * factor, stride=factor, bias=False)
    nn.init.bilinear_(conv.weight)
    return conv


def copy_coarser(fine: FCN, coarse: FCN) -> FCN:
    """Let FCN-16s go on from a trained FCN-32s, or 8s from 16s (section 4.2); returns `fine`.

    The new skip's scores stay zero, so that `fine` starts with what `coarse` has learnt. Raises
    ValueError unless `coarse` has twice the stride of `fine`, and the same widths and classes.
    """
    if coarse.stride != 2 * fine.stride:
        raise ValueError(
            f"copy_coarser: from stride {coarse.stride} to {fine.stride}; needs 32 to 16 or 16 to 8"
        )
    fine.load_state_dict(
        {**fine.state_dict(), **_without(coarse.state_dict(), LAST[coarse.stride])}
    )
    return fine


def copy_classifier(fcn: FCN, classifier: Mapping[str, Any]) -> FCN:
    """Make a VGG's weights those of an FCN: its fc6 and fc7 become convolutions (figure 2).

    `classifier` is the state_dict of a `minseg.backbones.VGG`; weights published for torchvision's
    vgg16 get its names from `minseg.hub.adapt("vgg16", ...)`. fc8 is left out, the score heads stay
    as they are. Returns `fcn`. Raises ValueError for names that are missing or shapes that differ.
    """
    state = {name: np.asarray(value) for name, value in _without(classifier, "fc8").items()}
    for name, side in (("fc6.weight", 7), ("fc7.weight", 1)):
        if name in state and state[name].ndim == 2 and state[name].shape[1] % side**2 == 0:
            state[name] = state[name].reshape(len(state[name]), -1, side, side)
    scores = {name: v for name, v in fcn.state_dict().items() if "score" in name}
    fcn.load_state_dict({**state, **scores})
    return fcn


def _without(state: Mapping[str, Any], layer: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith(f"{layer}.")}
