"""The networks for classification that segmentation starts from."""

from minseg.backbones.mit import MiT
from minseg.backbones.resnet import ResNet
from minseg.backbones.vgg import VGG, VGGFeatures

__all__ = ["VGG", "MiT", "ResNet", "VGGFeatures"]
