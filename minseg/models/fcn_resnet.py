"""FCN on ResNet, in torchvision's form: a dilated backbone and a head of two convolutions.

What is left of the FCN of 2015 is its idea: convolutions all the way, scores at a coarse stride,
then upsampling. The backbone keeps stride 8 by dilation, so that no skips are needed. An auxiliary
head on the third stage gives training a shorter way to the early layers; prediction ignores it.

Parameters have torchvision's names and shapes: the state_dict that it publishes for its
fcn_resnet50 and fcn_resnet101 loads into `fcn_resnet50(21, aux_loss=True)` with strict=True.

Source: Long et al. 2015, arXiv:1411.4038; the head and the auxiliary loss: Zhao et al. 2017,
        "Pyramid Scene Parsing Network", arXiv:1612.01105, section 4, figure 4.
"""

from minseg import nn
from minseg.backbones.initial import he
from minseg.backbones.resnet import ResNet
from minseg.models.resize import resize
from minseg.tensor import Tensor


class ResNetSegmenter(nn.Module):
    """A ResNet, a head on its last stage, and perhaps an auxiliary one on its third.

    Shapes: (N, C, H, W) -> {"out": (N, K, H, W)}, and "aux" of the same shape where there is an
    auxiliary head, in this order; any H and W.
    """

    def __init__(
        self, backbone: ResNet, classifier: nn.Module, aux_classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        *_, third, last = self.backbone(x)  # (N, 1024, H/8, W/8), (N, 2048, H/8, W/8)
        scores = {"out": self.classifier(last)}  # (N, K, H/8, W/8)
        if self.aux_classifier is not None:
            scores["aux"] = self.aux_classifier(third)
        return {name: resize(score, x) for name, score in scores.items()}  # (N, K, H, W)


class FCNHead(nn.Sequential):
    """3x3 to a quarter of the channels, batch norm, ReLU, dropout, 1x1 to the classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        hidden = in_channels // 4
        super().__init__(
            he(nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False)),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(hidden, num_classes, 1),
        )


def fcn_resnet50(
    num_classes: int = 21,
    in_channels: int = 3,
    aux_loss: bool = False,
    width: int = 64,
    depth: int = 50,
) -> ResNetSegmenter:
    """FCN on a ResNet-50 of output stride 8.

    Args:
        aux_loss: whether there is an auxiliary head, `aux_classifier`, whose logits are "aux".
        width: channels of the ResNet's first stage, 64 in the paper; all others follow.
        depth: layers of the ResNet; 18 or 34 for a CPU.
    """
    backbone = ResNet(depth, in_channels, width, output_stride=8)
    aux = FCNHead(backbone.channels[2], num_classes) if aux_loss else None
    return ResNetSegmenter(backbone, FCNHead(backbone.channels[3], num_classes), aux)


def fcn_resnet101(
    num_classes: int = 21, in_channels: int = 3, aux_loss: bool = False, width: int = 64
) -> ResNetSegmenter:
    """`fcn_resnet50` on a ResNet-101."""
    return fcn_resnet50(num_classes, in_channels, aux_loss, width, depth=101)
