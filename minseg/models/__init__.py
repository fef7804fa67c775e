"""The networks: one file a family, each to be read beside its paper."""

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
from minseg.models.registry import build, list_models
from minseg.models.segformer import SegFormer
from minseg.models.segnet import SegNet
from minseg.models.smp import FPNSMP, PSPNetSMP, UNetPlusPlusSMP, deeplabv3plus_smp
from minseg.models.unet import UNet
from minseg.models.unetplusplus import UNetPlusPlus

__all__ = [
    "FCN",
    "FPN",
    "FPNSMP",
    "AttentionUNet",
    "AttentionUNetMONAI",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV3",
    "DeepLabV3Plus",
    "PSPNet",
    "PSPNetSMP",
    "PatchClassifier",
    "PlainCNN",
    "SegFormer",
    "SegNet",
    "UNet",
    "UNetPlusPlus",
    "UNetPlusPlusSMP",
    "build",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3plus_mobilenet_v2",
    "deeplabv3plus_smp",
    "deeplabv3plus_xception65",
    "fcn_resnet50",
    "fcn_resnet101",
    "list_models",
]
