"""The networks: one file a family, each to be read beside its paper."""

from minseg.models.deeplab import (
    DeepLabV3,
    DeepLabV3Plus,
    deeplabv3_resnet50,
    deeplabv3_resnet101,
)
from minseg.models.fcn import FCN
from minseg.models.fcn_resnet import fcn_resnet50, fcn_resnet101
from minseg.models.registry import build, list_models
from minseg.models.segformer import SegFormer
from minseg.models.segnet import SegNet
from minseg.models.unet import UNet
from minseg.models.unetplusplus import UNetPlusPlus, UNetPlusPlusResNet

__all__ = [
    "FCN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "SegFormer",
    "SegNet",
    "UNet",
    "UNetPlusPlus",
    "UNetPlusPlusResNet",
    "build",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "list_models",
]
