"""The names of layers in other libraries, and here."""

import re
from collections.abc import Mapping
from typing import Any

from minseg.backbones.vgg import STAGES
from minseg.hub.huggingface import mit_rules, segformer_rules
from minseg.hub.monai import attention_unet_rules
from minseg.hub.smp import PSPNET_UNUSED, SMP

# Of milesial/Pytorch-UNet.
UNET = {
    "inc.double_conv": "contract.0",
    **{f"down{i}.maxpool_conv.1.double_conv": f"contract.{i}" for i in range(1, 5)},
    **{f"up{i}.up": f"up.{i - 1}" for i in range(1, 5)},
    **{f"up{i}.conv.double_conv": f"expand.{i - 1}" for i in range(1, 5)},
    "outc.conv": "head",
}


def adapt(name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A reference's state_dict under the names that minseg's model `name` uses.

    fcn_resnet50 ..., deeplabv3_resnet50 ...  torchvision's models of the same name
    resnet18, 34, 50, 101                     torchvision's classifiers, for `backbones.ResNet`
    vgg11, 13, 16, 19 (also vgg16_bn ...)     torchvision's classifiers, for `backbones.VGG`
    mobilenet_v2                              torchvision's, for `backbones.MobileNetV2`
    xception65                                timm's, for `backbones.Xception`
    fcn32s, fcn16s, fcn8s                     wkentaro/pytorch-fcn
    unetplusplus, pspnet, fpn, deeplabv3plus  segmentation_models.pytorch, for backbone=
    attention_unet                            MONAI's AttentionUnet, for backbone="monai"
    mit_b0 ... mit_b5                         Hugging Face's SegformerForImageClassification, for
                                              `backbones.MiT`
    segformer_b0 ... segformer_b5             Hugging Face's SegformerForSemanticSegmentation: the
                                              names of transformers 5, and the published files'
    unet                                      milesial/Pytorch-UNet, for UNet(norm="batch")

    A "module." in front of every name, which DataParallel adds, is removed. Values stay unchanged.
    Raises ValueError for an unknown `name`, and for a key that the reference does not have.
    """
    state = dict(state_dict)
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if re.fullmatch("fcn(32|16|8)s|(fcn|deeplabv3)_resnet(50|101)", name):
        return state
    if re.fullmatch("resnet(18|34|50|101)|xception65|mobilenet_v2", name):
        head = ("fc.", "head.fc.", "classifier.")
        return {key: value for key, value in state.items() if not key.startswith(head)}
    if name == "pspnet":
        state = {key: value for key, value in state.items() if not key.startswith(PSPNET_UNUSED)}
    if name.startswith("mit_"):
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    if name == "unet":
        rules = UNET
    elif name in SMP:
        rules = SMP[name]
    elif match := re.fullmatch("vgg(11|13|16|19)(_bn)?", name):
        rules = _vgg_rules(int(match[1]), bool(match[2]))
    elif name == "attention_unet":
        rules = attention_unet_rules(state)
    elif match := re.fullmatch("mit_b([0-5])", name):
        rules = mit_rules(int(match[1]))
    elif match := re.fullmatch("segformer_b([0-5])", name):
        rules = segformer_rules(int(match[1]))
    else:
        raise ValueError(f"adapt: no names are known for {name!r}; see help(minseg.hub.adapt)")
    return {_rename(name, key, rules): value for key, value in state.items()}


def _rename(model: str, key: str, rules: Mapping[str, str]) -> str:
    layer, _, parameter = key.rpartition(".")
    for old, new in rules.items():
        if layer == old or layer.startswith(old + "."):
            return f"{new}{layer.removeprefix(old)}.{parameter}"
    raise ValueError(f"adapt: {key!r} is no name of the {model} that minseg knows")


def _vgg_rules(depth: int, norm: bool) -> dict[str, str]:
    """torchvision numbers all layers, ReLU and pooling included; Caffe numbers those of a stage."""
    rules, place = {}, 0
    for stage, count in enumerate(STAGES[depth], start=1):
        for i in range(1, count + 1):
            rules[f"features.{place}"] = f"conv{stage}_{i}"
            if norm:
                rules[f"features.{place + 1}"] = f"bn{stage}_{i}"
            place += 3 if norm else 2  # convolution, (batch norm,) ReLU
        place += 1  # pooling
    return {**rules, "classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
