"""Every network by its name: `build("unet", num_classes=11, width=16)`.

All networks have a `width`, and most a `depth`, so that any of them fits a CPU:
    width   the channels of the first stage, 64 in most papers here. All other widths are multiples
            of it: at 16 in place of 64, about a sixteenth of the parameters and multiply-adds.
    depth   how deep it is, in the paper's own count: U-Nets: how often the image is halved (4);
            VGG, ResNet, Xception: layers with weights (VGG: 11, 13, 16, 19; ResNet: 18, 34, 50,
            101; Xception: 65, 41, 20); the naive networks: convolutions (1 to 4; 8).
"""

import inspect
from collections.abc import Callable
from typing import Any

from minseg import nn
from minseg.models.attention_unet import AttentionUNet
from minseg.models.deeplabv1 import DeepLabV1
from minseg.models.deeplabv2 import DeepLabV2
from minseg.models.deeplabv3 import (
    DeepLabV3,
    deeplabv3_resnet50,
    deeplabv3_resnet101,
)
from minseg.models.deeplabv3plus import (
    DeepLabV3Plus,
    deeplabv3plus_mobilenet_v2,
    deeplabv3plus_xception65,
)
from minseg.models.fcn import FCN
from minseg.models.fcn_resnet import fcn_resnet50, fcn_resnet101
from minseg.models.fpn import FPN
from minseg.models.monai import AttentionUNetMONAI
from minseg.models.naive import PatchClassifier, PlainCNN
from minseg.models.pspnet import PSPNet
from minseg.models.segformer import SegFormer
from minseg.models.segnet import SegNet
from minseg.models.smp import FPNSMP, PSPNetSMP, UNetPlusPlusSMP, deeplabv3plus_smp
from minseg.models.unet import UNet
from minseg.models.unetplusplus import UNetPlusPlus
from minseg.suggest import suggest

# Name -> what makes it, the arguments that the name stands for, a description.
MODELS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], str]] = {
    "patch_classifier": (PatchClassifier, {}, "a classifier slid over the image: slow (2012)"),
    "plain_cnn": (PlainCNN, {}, "convolutions at full resolution: short-sighted"),
    "fcn32s": (FCN, {"stride": 32}, "FCN on VGG16, coarse scores upsampled by 32 (2015)"),
    "fcn16s": (FCN, {"stride": 16}, "FCN on VGG16, with the scores of pool4 added (2015)"),
    "fcn8s": (FCN, {"stride": 8}, "FCN on VGG16, with the scores of pool4 and pool3 added (2015)"),
    "fcn_resnet50": (
        fcn_resnet50,
        {},
        'FCN on a dilated ResNet-50, as in torchvision; logits: model(x)["out"]',
    ),
    "fcn_resnet101": (
        fcn_resnet101,
        {},
        'FCN on a dilated ResNet-101, as in torchvision; logits: model(x)["out"]',
    ),
    "segnet": (SegNet, {}, "SegNet on VGG16: max-unpooling to where the maxima stood (2015)"),
    "unet": (UNet, {}, "U-Net: encoder, decoder, features concatenated at every level (2015)"),
    "unetplusplus": (
        UNetPlusPlus,
        {},
        "U-Net++: nested skips, a U-Net of every depth in one (2018)",
    ),
    "pspnet": (
        PSPNet,
        {},
        'PSPNet: averages over regions as context (2017); logits: model(x)["out"]',
    ),
    "fpn": (FPN, {}, "FPN with the semantic head of Panoptic FPN (2017, 2019)"),
    "deeplabv1": (DeepLabV1, {}, "DeepLab-LargeFOV: atrous convolution on VGG16 (2014)"),
    "deeplabv2": (DeepLabV2, {}, "DeepLabV2: atrous ResNet, ASPP as a sum of scores (2016)"),
    "attention_unet": (
        AttentionUNet,
        {},
        "Attention U-Net: gates let through of a skip what is asked for (2018)",
    ),
    "deeplabv3": (DeepLabV3, {}, "DeepLabV3: atrous ResNet and ASPP (2017)"),
    "deeplabv3plus": (DeepLabV3Plus, {}, "DeepLabV3+: the same with a decoder (2018)"),
    "deeplabv3plus_xception65": (
        deeplabv3plus_xception65,
        {},
        "DeepLabV3+ on the aligned Xception-65, separable convolutions (2018)",
    ),
    "deeplabv3plus_mobilenet_v2": (
        deeplabv3plus_mobilenet_v2,
        {},
        "DeepLabV3+ on MobileNetV2, separable convolutions (2018)",
    ),
    "deeplabv3_resnet50": (
        deeplabv3_resnet50,
        {},
        'DeepLabV3 on ResNet-50, as in torchvision; logits: model(x)["out"]',
    ),
    "deeplabv3_resnet101": (
        deeplabv3_resnet101,
        {},
        'DeepLabV3 on ResNet-101, as in torchvision; logits: model(x)["out"]',
    ),
    "segformer_b0": (SegFormer, {"variant": 0}, "SegFormer: a transformer, an all-MLP head (2021)"),
    "segformer_b1": (SegFormer, {"variant": 1}, "SegFormer, twice as wide as B0"),
    "segformer_b2": (SegFormer, {"variant": 2}, "SegFormer, 16 blocks where B1 has 8"),
    "segformer_b3": (SegFormer, {"variant": 3}, "SegFormer, 28 blocks"),
    "segformer_b4": (SegFormer, {"variant": 4}, "SegFormer, 41 blocks"),
    "segformer_b5": (SegFormer, {"variant": 5}, "SegFormer, 52 blocks"),
}

# What `backbone=` makes: the form of segmentation_models.pytorch, or of MONAI.
WITH_BACKBONE: dict[str, Callable[..., nn.Module]] = {
    "unetplusplus": UNetPlusPlusSMP,
    "attention_unet": AttentionUNetMONAI,
    "pspnet": PSPNetSMP,
    "fpn": FPNSMP,
    "deeplabv3plus": deeplabv3plus_smp,
}

COMMON = ("num_classes", "in_channels")  # arguments of every model


def list_models() -> dict[str, str]:
    """The names that `build` knows, each with a description of one line."""
    return {name: description for name, (_, _, description) in MODELS.items()}


def build(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """The network `name`, with fresh weights and the paper's size unless `options` say otherwise.

    Its forward takes images (N, in_channels, H, W) and returns logits (N, num_classes, H, W) as a
    Tensor; the networks in torchvision's form return a dict with these under "out", and so do
    PSPNet and U-Net++ with deep supervision.

    `backbone="resnet18"` (34, 50, 101) makes, of unetplusplus, pspnet, fpn and deeplabv3plus (also
    "xception65", "mobilenet_v2"), what segmentation_models.pytorch has under that name; its options
    differ from those of the paper's.
    `backbone="monai"` makes of attention_unet what MONAI calls so.

    Raises ValueError for an unknown name and TypeError for an unknown option; both list what
    exists.
    """
    if name not in MODELS:
        hint = suggest(name, MODELS)
        raise ValueError(
            f"build: no model is called {name!r}{hint}; there are: {', '.join(MODELS)}"
        )
    if num_classes < 1 or in_channels < 1:
        raise ValueError(
            f"build: num_classes {num_classes}, in_channels {in_channels}: need at least 1"
        )
    model, fixed, _ = MODELS[name]
    if "backbone" in options:
        model = WITH_BACKBONE.get(name, model)
    known = [p for p in inspect.signature(model).parameters if p not in {*COMMON, *fixed}]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(
            f"build: {name} has no option {', '.join(unknown)}; its options: {', '.join(known)}"
        )
    return model(num_classes=num_classes, in_channels=in_channels, **fixed, **options)
