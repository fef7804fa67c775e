"""The networks for classification that segmentation starts from."""

from minseg.backbones.mit import MiT
from minseg.backbones.mobilenet import MobileNetV2
from minseg.backbones.resnet import ResNet
from minseg.backbones.vgg import VGG, VGGFeatures
from minseg.backbones.xception import Xception

__all__ = ["VGG", "MiT", "MobileNetV2", "ResNet", "VGGFeatures", "Xception"]
